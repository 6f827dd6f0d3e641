"""`rtgod watch --check`: its exit code, its page, and that it needs neither a server nor what one computes with."""

import subprocess
import sys
from dataclasses import replace

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


def test_the_check_counts_volumes_and_reads_events_as_the_scan_will(export, tmp_path):
    table = tmp_path / "events.tsv"
    table.write_text("onset\tduration\ttrial_type\n4\t2\ta\n")
    options = ["--check", export, "--volumes", N_VOLUMES, "--discard", 2, "--count-from", 3, "--events", table]
    done = rtgod(*options)
    assert done.exit_code == 0
    told = " ".join(done.stdout.split())
    assert (
        "2 volumes are discarded; onset 0 is the start of volume 3; the first trial, at 4 s, begins in volume 5" in told
    )
    absent = rtgod("--check", export, "--events", tmp_path / "absent.tsv")
    assert isinstance(absent.exception, InputError)
    all_discarded = rtgod("--check", export, "--volumes", N_VOLUMES, "--discard", N_VOLUMES)
    assert isinstance(all_discarded.exception, InputError)


def test_the_check_reads_events_by_the_rules_of_the_bundle_that_is_given(export, tmp_path):
    bundle = small.bundle()
    rules = bundle.settings.events.model_copy(update={"discard_volumes": 3})
    settings = bundle.settings.model_copy(update={"events": rules})
    replace(bundle, settings=settings).save(tmp_path / "bundle")
    done = rtgod("--check", export, "--volumes", N_VOLUMES, "--bundle", tmp_path / "bundle")
    assert "3 volumes are discarded; onset 0 is the start of volume 1" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "options",
    [("--identity-table", "x.tsv"), ("--key", "k"), ("--name", "n"), ("--to", "tcp://10.0.0.1:5555"), ("--poll",)],
    ids=lambda options: options[0],
)
def test_options_without_effect_on_the_check_are_refused(options, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = rtgod("--check", export, "--volumes", N_VOLUMES, *options)
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith(f"{options[0]}: --check reads a finished export")
    assert not (tmp_path / "x.tsv").exists()
