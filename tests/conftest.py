"""Fixtures that every test may use."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadGroupScheduling

# Before numpy is imported, here and in what tests start. BLAS's threads wait for each other by spinning, which takes
# four times the processor's time where matrices are small and the other processor has tests of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Kernels' threads wait for each other by spinning, too, unless OpenMP is told not to.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A first example compiles kernels where none are cached, and any may wait for a busy disk: time is no property.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


class _FilesAndGroups(LoadGroupScheduling):
    """Gives each process whole groups of tests, and whole files of those that are in no group."""

    def _split_scope(self, nodeid):
        scope = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if scope == nodeid else scope


def pytest_xdist_make_scheduler(config, log):
    return _FilesAndGroups(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; a test that asks for it is skipped where it is absent."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("RTGOD_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder} (or RTGOD_SHARED_DATA)")
    return folder


@pytest.fixture(autouse=True)
def heard(caplog):
    """Let every test hear what is logged: a cluster that other tests still hold has silenced the handlers."""
    caplog.handler.setLevel(logging.NOTSET)
