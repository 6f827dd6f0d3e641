"""`rtgod watch --check`: its exit code, its page, and that it needs neither a server nor what one computes with."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.errors import InputError
from tests import small
from tests.rtgod.inspection.exports import N_VOLUMES, mosaics


def rtgod(*arguments):
    return CliRunner().invoke(make_app("watch"), ["watch", *map(str, arguments)])


@pytest.fixture
def export(tmp_path):
    (tmp_path / "export").mkdir()
    return mosaics(tmp_path / "export")


def test_a_clean_export_exits_with_0_and_a_faulty_one_with_1(export, tmp_path):
    page = tmp_path / "new" / "page.html"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in export.iterdir()}
    done = rtgod("--check", export, "--volumes", N_VOLUMES, "--html", page)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "Fit for live use")
    assert "Fit for live use" in page.read_text()
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in export.iterdir()} == before
    sorted(export.iterdir(), key=lambda path: path.stat().st_mtime_ns)[4].unlink()
    done = rtgod("--check", export, "--volumes", N_VOLUMES)
    assert done.exit_code == 1
    assert "volume 5 did not come in time: lost" in done.stdout


def test_a_bundle_of_another_scan_is_told(export, tmp_path):
    small.bundle().save(tmp_path / "bundle")
    done = rtgod("--check", export, "--volumes", N_VOLUMES, "--bundle", tmp_path / "bundle")
    assert done.exit_code == 1
    assert "the bundle cannot decode it" in " ".join(done.stdout.split())


@pytest.mark.parametrize("option", ["--html", "--bundle"])
def test_options_of_the_check_are_refused_without_it(option, export, tmp_path):
    done = rtgod(export, option, tmp_path / "x")
    assert isinstance(done.exception, InputError)
    assert f"{option}: for a finished export; give --check as well" in str(done.exception)


def test_the_check_needs_nothing_but_the_slim_install(export):
    """As on a scanner's console; with a bundle it needs more, and says so."""
    code = (
        "import sys; [sys.modules.__setitem__(name, None) for name in ('numba', 'jinja2', 'matplotlib', 'scipy')]; "
        "from rtgod.commands.main import _run; sys.exit(_run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "watch", "--check", export, "--volumes", str(N_VOLUMES)]
    assert subprocess.run([*command], capture_output=True, timeout=60, check=False).returncode == 0
