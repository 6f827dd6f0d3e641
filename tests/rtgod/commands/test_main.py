"""The command line: its help, and one clear line with exit code 2 for whatever a user gets wrong."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zmq

from rtgod.commands import main
from rtgod.messages import Run
from rtgod.protocol.clients import Sender
from rtgod.settings import EventsSettings, PipelineSettings
from tests import small
from tests.serving import running

HEAVY = ("torch", "torchvision", "psychopy", "sklearn", "matplotlib")


@pytest.fixture
def rtgod(monkeypatch, capsys, tmp_path):
    """Runs a command line in this process, in an empty folder; gives its exit code and stderr; stdout is its `out`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rtgod", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        captured = capsys.readouterr()
        run.out = captured.out
        return stopped.value.code, captured.err

    return run


@pytest.fixture
def run_file(tmp_path):
    """A short run of noise, with its events beside it."""
    path = tmp_path / "sub-01_task-perception_run-01_bold.nii.gz"
    image = nib.Nifti1Image(np.random.default_rng(0).integers(0, 900, (8, 8, 8, 4), np.int16), np.diag([3, 3, 3, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3, 3, 3, 3))
    nib.save(image, path)
    (tmp_path / "sub-01_task-perception_run-01_events.tsv").write_text("onset\tduration\ttrial_type\n0\t3\tduck\n")
    return path


def refused(result, *words):
    code, said = result
    last = said.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("rtgod: ")
    assert "Traceback" not in said
    for word in words:
        assert word in last


@pytest.mark.parametrize(
    "package",
    [
        "rtgod",
        "rtgod.commands.main",
        "rtgod.commands.serve",
        "calibration.commands.calibrate",
        "calibration.commands.evaluate",
        "stimulus.commands.display",
        "stimulus.commands.stimulus",
        "stimulus.commands.blinding",
    ],
)
def test_importing_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["calibration", "stimulus"])
@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_name_that_another_package_has_taken_is_noticed_in_a_line(name, kind, tmp_path):
    other = tmp_path / name / "__init__.py" if kind == "package" else tmp_path / f"{name}.py"
    other.parent.mkdir(exist_ok=True)
    other.write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "from rtgod.commands.main import main; main()", "--version"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    refused((done.returncode, done.stderr), repr(name), str(other.parent), "PYTHONPATH")


def test_a_command_of_another_package_appears(rtgod, monkeypatch):
    def greet():
        """Greet."""
        print("good morning")

    class Point:
        name = "greet"

        def load(self):
            return greet

    monkeypatch.setattr(main, "entry_points", lambda group: [*entry_points(group=group), Point()])
    assert rtgod("greet") == (0, "")
    assert rtgod.out == "good morning\n"
    assert rtgod("--help")[0] == 0
    assert "Of other packages" in rtgod.out


COMMANDS = ["demo", "simulate", "scan", "calibrate", "evaluate", "report"]
COMMANDS += ["serve", "replay", "status", "display", "stimulus", "unblind", "journal", "keys"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, monkeypatch, command):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "argv", ["rtgod", command, "--help"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 0
    assert "Usage: rtgod " + command in capsys.readouterr().out


def test_serve_without_such_a_bundle(rtgod):
    refused(rtgod("serve", "nowhere"), "nowhere", "rtgod calibrate")


def test_serve_an_altered_bundle(rtgod, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps({"rtgod_bundle": 3, "sha256": "0" * 64}))
    (tmp_path / "bundle" / "arrays.safetensors").write_bytes(b"short")
    refused(rtgod("serve", "bundle"), "checksum", "recalibrate")


@pytest.mark.parametrize(
    ("address", "word"), [("tcp://0.0.0.0:*", "rtgod keys new"), ("tcp://*:5555", "rtgod keys new"), ("5555", "tcp://")]
)
def test_serve_only_on_loopback(rtgod, tmp_path, address, word):
    refused(rtgod("serve", "--ingest", address), address, word)
    assert not list(tmp_path.rglob("*.rtgod"))


def test_serve_on_a_port_in_use_leaves_no_journal(rtgod, tmp_path):
    with zmq.Context() as context, context.socket(zmq.ROUTER) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        refused(rtgod("serve", "--ingest", f"tcp://127.0.0.1:{port}", "--publish", "tcp://127.0.0.1:*"), "in use")
    assert not list(tmp_path.rglob("*.rtgod"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[window]\nhrf_shift_s = -1\n", ("window.hrf_shift_s",)),
        ("[windows]\n", ("windows",)),
        ("window = [", ("TOML",)),
        ("[nuisance]\nmotion_parameter = 6\n", ("'motion_parameter' in [nuisance]", "mean 'motion_parameters'?")),
        ("fd_mm = 1\n", ("'fd_mm'; it belongs in [censoring]",)),
        ("[nuisance]\nfd_m = 1\n", ("'fd_m' in [nuisance]", "did you mean 'fd_mm' in [censoring]?")),
        ("[sampling]\nqqq = 1\n", ("'qqq' in [sampling]; known are interpolation",)),
        ("[window]\nmode = 'x'\n", ("window.mode = 'x': should be 'auto'",)),
        ("[window]\na=1\nb=1\nc=1\nd=1\ne=1\n", ("2 more",)),
    ],
)
def test_serve_with_impossible_settings(rtgod, tmp_path, text, words):
    (tmp_path / "settings.toml").write_text(text)
    refused(rtgod("serve", "--settings", "settings.toml"), "settings.toml", *words)


def test_serve_with_more_threads_than_there_are(rtgod):
    refused(rtgod("serve", "--threads", "9999"), "--threads")


@pytest.mark.parametrize(
    "arguments", [("-v", "journal", "ls"), ("journal", "-v", "ls"), ("journal", "ls", "--verbose")]
)
def test_verbose_may_stand_anywhere(rtgod, tmp_path, arguments):
    code, said = rtgod(*arguments, tmp_path / "nowhere")
    assert code == 2
    assert "no such folder or journal" in said


def test_what_comes_after_two_dashes_is_no_option():
    assert main._verbose_first(["replay", "-v", "--", "-v"]) == ["-v", "replay", "--", "-v"]


def test_status_of_nobody(rtgod):
    refused(rtgod("status", "--from", "tcp://127.0.0.1:1", "--wait", "0.2"), "tcp://127.0.0.1:1", "rtgod serve")


@pytest.mark.parametrize("as_json", [False, True])
def test_status_of_a_server(rtgod, tmp_path, as_json):
    with running(tmp_path) as server, Sender(server.ingest) as sender:
        for message in small.messages()[:4]:
            sender.send(message)
        code, _ = rtgod("status", "--from", server.publish, *["--json"] * as_json)
    said = rtgod.out
    assert code == 0
    if as_json:
        status = json.loads(said)
        assert (status["run_id"], status["n_taken"], status["problem"]) == ("run-1", 3, "")
    else:
        assert "takes volumes" in said
        assert "3 taken, the last: volume 3" in said
        assert "session.rtgod" in said


def test_replay_a_path_that_is_not_there(rtgod):
    refused(rtgod("replay", "nowhere.nii.gz"), "nowhere.nii.gz")


def test_replay_a_truncated_image(rtgod, run_file):
    run_file.write_bytes(run_file.read_bytes()[:200])
    refused(rtgod("replay", run_file), run_file.name)


def test_replay_of_what_cannot_be_sent_shows_no_progress(rtgod, run_file, tmp_path):
    events = tmp_path / "late.tsv"
    events.write_text("onset\tduration\ttrial_type\n5000\t3\tduck\n")
    with running(tmp_path) as server:
        code, said = rtgod("replay", run_file, "--events", events, "--to", server.ingest)
    assert code == 2
    assert "0/4" not in said
    assert said.startswith("rtgod: ")


def test_replay_says_in_the_end_what_the_volumes_came_to(rtgod, run_file, tmp_path):
    with running(tmp_path) as server:
        code, said = rtgod("replay", run_file, "--to", server.ingest, "--full-speed", "--run-id", "[/b] x")
    assert code == 0
    assert "[/b] x: 4 volumes answered: no rankings; not ranked: 4 " in said.splitlines()[-1]


def test_replay_events_without_the_needed_columns(rtgod, run_file, tmp_path):
    (tmp_path / "events.tsv").write_text("when\tlong\n0\t3\n")
    refused(rtgod("replay", run_file, "--events", "events.tsv"), "events.tsv", "onset")


def test_replay_events_that_all_lie_beyond_the_run(rtgod, run_file, tmp_path):
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n3000\t3000\tduck\n9000\t3000\towl\n")
    refused(
        rtgod("replay", run_file, "--events", "events.tsv"),
        "events.tsv", "all 2 trials begin after its 12 s, the first at 3000 s; are these milliseconds",
    )  # fmt: skip


def test_replay_says_what_became_of_the_rows_and_sends_the_trials_that_calibration_found(rtgod, run_file, tmp_path):
    table = "onset\tduration\ttrial_type\n-1\t3\tduck\n3\t0\towl\n4\t1\tITI\n6\t1\ttone\n"
    (tmp_path / "events.tsv").write_text(table)
    chosen = PipelineSettings(events=EventsSettings(ignore=("tone",), keep=("iti",)))
    (tmp_path / "settings.toml").write_text('[events]\nignore = ["tone"]\nkeep = ["iti"]\n')
    replace(small.bundle(), settings=chosen).save(tmp_path / "bundle")
    with running(tmp_path) as server:
        options = {"plain": (), "toml": ("--settings", "settings.toml"), "bundle": ("--settings", "bundle")}
        for name, given in options.items():
            replayed = ("replay", run_file, "--events", "events.tsv", "--to", server.ingest, "--full-speed")
            code, said = rtgod(*replayed, "--run-id", name, *given)
            assert code == 0
            assert "events.tsv: 1 trial of 0 s: impulses, each taken as one volume long" in said
            assert "1 trial began before volume 0: cut to begin there" in said
            assert ("rows taken for no stimuli, by their names: 1 ITI" in said) == (name == "plain")
            assert ("rows that events.ignore leaves out: 1 tone" in said) == (name != "plain")
        sent = {run.run_id: [(b.onset_s, b.duration_s) for b in run.blocks] for run in server.recorded(Run)}
    assert sent["plain"] == [(0, 2), (3, 3), (6, 1)]
    assert sent["toml"] == sent["bundle"] == [(0, 2), (3, 3), (4, 1)]


def test_a_run_that_a_server_has_is_not_sent_again_and_that_is_said(rtgod, run_file, tmp_path):
    with running(tmp_path) as server:
        sent = ("replay", run_file, "--to", server.ingest, "--full-speed")
        assert "had this run" not in rtgod(*sent)[1]
        code, said = rtgod(*sent, "--subject", "99")
        assert code == 0
        assert "the server had this run already: nothing was sent, and what this call says of subject" in said
        assert "send it as another acquisition with --again" in said
        code, said = rtgod(*sent, "--again")
        assert "had this run" not in said
        assert "~2: " in said  # under which name it was taken
        assert len(server.recorded(Run)) == 2


def test_calibrate_refuses_before_it_works(rtgod, tmp_path):
    refused(rtgod("calibrate", "nowhere", "--subject", "01", "--out", "bundle"), "nowhere", "BIDS")
    (tmp_path / "bundle").mkdir()  # empty: it may be filled
    refused(rtgod("calibrate", "nowhere", "--subject", "01", "--out", "bundle"), "nowhere", "BIDS")
    (tmp_path / "bundle" / "notes.txt").touch()
    for overwrite in ((), ("--overwrite",), ("--dry-run",)):
        said = rtgod("calibrate", "nowhere", "--subject", "01", "--out", "bundle", *overwrite)
        refused(said, "bundle: is there, and is no decoder bundle; choose another --out")


def test_evaluate_refuses_before_it_works(rtgod, tmp_path):
    common = ("--subject", "01", "--out", "out")
    refused(rtgod("evaluate", "nowhere", *common, "--ablate", "preprocessing"), "nowhere", "BIDS")
    refused(rtgod("evaluate", "nowhere", *common, "--ablate", "decoding"), "--ablate decoding", "preprocessing")
    func = tmp_path / "bids" / "sub-01" / "func"
    func.mkdir(parents=True)
    for name in ("bold.nii.gz", "events.tsv"):
        (func / f"sub-01_task-Training_run-01_{name}").touch()
    mask = ("--mask", "mask.nii.gz", "--test", "Training")
    refused(rtgod("evaluate", "bids", *common, "--ablate", "preprocessing", *mask), "share 1 run", "--test")


def test_simulate_keeps_what_is_there(rtgod, tmp_path):
    (tmp_path / "subject").mkdir()
    refused(rtgod("simulate", "subject"), "exists")
    refused(rtgod("simulate"), "no folder to make; name one: rtgod simulate SUBJECT")
    assert rtgod("simulate", "--show-settings")[0] == 0


def test_report_on_something_else(rtgod, tmp_path):
    (tmp_path / "notes.txt").write_text("not a journal")
    refused(rtgod("report", "notes.txt", "--out", "report"), "notes.txt", "not a journal")


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("torch", ("simulate", "subject"), "calibration"),
        ("torchvision", ("simulate", "subject"), "calibration"),
        ("sklearn", ("calibrate", ".", "--subject", "01", "--out", "bundle"), "calibration"),
        ("matplotlib", ("report", "journal.rtgod", "--out", "report"), "calibration"),
        ("psychopy", ("display", "--backend", "window", "--from", "tcp://127.0.0.1:9"), "display"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, missing, arguments, extra):
    """In a process of its own, from which the package is hidden."""
    hide = f"""
import importlib.abc, importlib.util, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name={missing!r})
sys.meta_path.insert(0, Hidden())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == {missing!r} else find_spec(name, package)
sys.argv = ["rtgod", *{arguments!r}]
from rtgod.commands.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", hide], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert f"rtgod[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [p for p in Path(tmp_path).iterdir() if p.name != "journals"]
