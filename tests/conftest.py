"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; a test that asks for it is skipped where it is absent."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("RTGOD_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder} (or RTGOD_SHARED_DATA)")
    return folder
