"""`rtgod stimulus …` as a person types it: plans, previews, what is refused, and runs that are killed and go on."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rtgod.errors import BundleError, InputError
from stimulus.blinding.conditions import Condition, ConditionKind
from stimulus.blinding.sealing import seal
from stimulus.commands.stimulus import stimulus
from stimulus.drawing import xvfb
from stimulus.paradigm.bids_events import read_schedule
from stimulus.paradigm.schedule import StepKind
from stimulus.paradigm.script import Paradigm
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.runtime.run_setup import ParadigmFiles, typed_lines

needs_a_window = pytest.mark.skipif(
    not xvfb.installed() or find_spec("psychopy") is None, reason="Xvfb or PsychoPy is not installed"
)
REPOSITORY = Path(__file__).parents[3]
IDS = tuple(f"n{number:08d}" for number in range(12))
OFF_SCREEN = ("--backend", "offscreen")
SETTINGS = """
tones = false
[monitor]
width_cm = 32
distance_cm = 60
size_px = [400, 300]
[trigger]
kind = "emulated"
delay_s = 0.2
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An example in the folder that is worked in: images, categories, a bundle, settings, a short run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "images").mkdir()
    for seed, name in enumerate(f"{category}_{number}" for category in IDS for number in range(3)):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    lines = ["category_id\tname", *(f"{category}\tthing {n}" for n, category in enumerate(IDS))]
    (tmp_path / "names.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "bundle").mkdir()
    header = {"rtgod_bundle": 3, "sha256": "ab" * 32, "candidates": [[i, f"thing {n}"] for n, i in enumerate(IDS)]}
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(header))
    (tmp_path / "settings.toml").write_text(SETTINGS)
    write_run(tmp_path / "run.toml", 3, 6, 6, 3)
    return tmp_path


def write_run(path, rest_s, first_s, second_s, end_s):
    steps = [("rest", rest_s, ""), ("stimulus", first_s, f"{IDS[0]}_0"), ("stimulus", second_s, f"{IDS[1]}_0")]
    lines = [
        f'[[step]]\nkind = "{kind}"\nduration_s = {duration_s}\nstimulus = "{image}"'
        for kind, duration_s, image in [*steps, ("rest", end_s, "")]
    ]
    path.write_text('name = "sub-01_run-01"\ntr_s = 1.0\n' + "\n".join(lines) + "\n")


def typed(*arguments):
    """What a command printed; its errors are raised."""
    result = CliRunner().invoke(stimulus, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


# ----------------------------------------------------------------------------------------------------------- plans


class TestPlan:
    @staticmethod
    def schedules(*arguments):
        typed("plan", *arguments, "--out", "plans")
        return [read_schedule(path, 3.0) for path in sorted(Path("plans").glob("*.tsv"))]

    def test_training_shows_each_image_once_in_runs_of_equal_length(self):
        (only,) = self.schedules("training", "--images", "images")
        assert only.name == "sub-01_ses-training_task-perception_run-01"
        shown = Counter(step.stimulus for step in only.trials)
        assert len(shown) == 36
        assert sorted(shown.values()) == [1] * 31 + [2] * 5
        assert {step.category for step in only.trials} == set(IDS)

    def test_images_fill_as_many_runs_as_they_need_evenly(self, folder):
        (folder / "few.toml").write_text("[protocol]\nn_images = 30\nn_repeats = 2\n")
        first, second = self.schedules("training", "--images", "images", "--settings", "few.toml")
        assert first.n_volumes == second.n_volumes
        shown = {step.stimulus for step in first.trials}, {step.stimulus for step in second.trials}
        assert [len(images) for images in shown] == [18, 18]
        assert not shown[0] & shown[1]

    def test_more_runs_than_that_show_images_again(self):
        runs = self.schedules("training", "--images", "images", "--runs", 4)
        assert len(runs) == 4
        for run in runs:
            assert len({step.stimulus for step in run.trials}) == 36

    def test_of_fewer_runs_only_those_are_written(self, folder):
        (folder / "few.toml").write_text("[protocol]\nn_images = 12\nn_repeats = 0\n")
        runs = self.schedules("training", "--images", "images", "--settings", "few.toml", "--runs", 2)
        assert [len(run.trials) for run in runs] == [12, 12]

    def test_a_test_run_shows_all_images(self):
        runs = self.schedules("test", "--images", "images", "--runs", 2, "--subject", "S7")
        assert [run.name for run in runs] == [f"sub-S7_ses-test_task-perception_run-0{n}" for n in (1, 2)]
        assert all(len(run.trials) == 41 for run in runs)

    def test_imagery_is_balanced_over_runs(self):
        runs = self.schedules("imagery", "--categories", "names.tsv", "--runs", 3)
        counts = Counter(step.category for run in runs for step in run.trials)
        assert [len(run.trials) for run in runs] == [25] * 3
        assert set(counts.values()) == {6, 7}

    def test_of_feedback_some_trials_may_be_free(self):
        (run,) = self.schedules("feedback", "--categories", "names.tsv", "--free", 5)
        chosen = [step.category for step in run.trials]
        assert chosen.count("") == 5
        assert len(chosen) == ProtocolSettings().n_trials
        assert chosen[-5:] != [""] * 5, "they come in between"
        assert sum(step.kind is StepKind.NAMING for step in run.steps) == 5

    def test_the_seed_decides(self, folder):
        def table(*seed):
            typed("plan", "imagery", "--categories", "names.tsv", "--out", folder / str(seed), *seed)
            return next((folder / str(seed)).glob("*.tsv")).read_text()

        assert table() == table("--seed", 0) != table("--seed", 1)

    def test_each_file_is_told_with_its_length(self):
        said = typed("plan", "imagery", "--categories", "names.tsv", "--runs", 2, "--out", "plans").splitlines()
        assert said == [
            f"plans/sub-01_ses-imagery_task-imagery_run-0{n}_events.tsv: 213 volumes, 10.7 min" for n in (1, 2)
        ]
        assert len(list(Path("plans").glob("*.json"))) == 2

    def test_what_is_there_is_kept_and_nothing_else_is_written(self):
        arguments = ("plan", "imagery", "--categories", "names.tsv", "--out", "plans")
        typed(*arguments, "--runs", 2)
        first = Path("plans/sub-01_ses-imagery_task-imagery_run-01_events.tsv")
        first.unlink()
        with pytest.raises(InputError, match=r"run-02_events\.tsv is already there; choose another --out"):
            typed(*arguments, "--runs", 3)
        assert not first.exists()
        assert len(list(Path("plans").glob("*.tsv"))) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("training",), "--images"),
            (("test", "--categories", "names.tsv"), "--images"),
            (("training", "--images", "nowhere"), "nowhere: no such folder"),
            (("training", "--images", "bundle"), "no image in it"),
            (("imagery",), "--categories"),
            (("feedback", "--categories", "nowhere.tsv"), r"nowhere\.tsv"),
            (("feedback", "--categories", "settings.toml"), "category_id"),
            (("feedback", "--categories", "names.tsv", "--free", 26), "a run has 25 trials"),
            (("imagery", "--categories", "names.tsv", "--free", 1), "--free"),
            (("imagery", "--categories", "names.tsv", "--subject", "../01"), "--subject"),
            (("imagery", "--categories", "names.tsv", "--settings", "nowhere.toml"), r"nowhere\.toml"),
        ],
    )
    def test_what_cannot_be_planned_is_named_and_nothing_written(self, arguments, words):
        with pytest.raises(InputError, match=words):
            typed("plan", *arguments, "--out", "plans")
        assert not Path("plans").exists()

    def test_a_folder_that_cannot_be_written(self, folder):
        (folder / "plans").write_text("a file")
        with pytest.raises(InputError, match="plans"):
            typed("plan", "imagery", "--categories", "names.tsv", "--out", "plans")


# -------------------------------------------------------------------------------------------------------- refusals


class TestRefused:
    """Before any window is opened."""

    @pytest.fixture(autouse=True)
    def no_window(self, monkeypatch):
        def opened(*_, **__):
            raise AssertionError("a window was opened")

        monkeypatch.setattr("stimulus.runtime.run_setup.opened", opened)
        monkeypatch.setattr("stimulus.drawing.raster.PreviewStage", opened)

    @pytest.fixture
    def imagined(self, folder):
        def write(*categories, view="thermometer", naming=False):
            steps = [("cue", 1), ("imagery", 4), *([("naming", 2)] if naming else []), ("feedback", 2)]
            lines = ['name = "sub-01_run-03"']
            for category in categories:
                for kind, duration_s in steps:
                    lines += ["[[step]]", f'kind = "{kind}"', f"duration_s = {duration_s}", f'category = "{category}"']
            (folder / "imagined.toml").write_text("\n".join(lines) + "\n")
            (folder / "display.toml").write_text(f'{SETTINGS}\n[feedback]\nview = "{view}"\n')
            return "feedback", "imagined.toml", "--settings", "display.toml"

        return write

    def test_an_image_that_is_missing(self):
        with pytest.raises(InputError, match=f"no image for {IDS[0]}_0, {IDS[1]}_0.*--images"):
            typed("training", "run.toml", *OFF_SCREEN)
        Path(f"images/{IDS[1]}_0.png").unlink()
        with pytest.raises(InputError, match=f"no image for {IDS[1]}_0;.*--images"):
            typed("test", "run.toml", "--images", "images", *OFF_SCREEN)
        with pytest.raises(InputError, match=f"no image for {IDS[1]}_0;"):
            typed("preview", "training", "run.toml", "--images", "images", "--out", "screens")

    def test_a_category_that_is_no_candidate(self, imagined):
        with pytest.raises(InputError, match="n1, n2: not among the 12 candidates of bundle"):
            typed(*imagined("n1", IDS[0], "n2"), "--bundle", "bundle", *OFF_SCREEN)
        with pytest.raises(InputError, match="n3: not among"):
            typed(*imagined("", naming=True), "--bundle", "bundle", "--choice", "n3", *OFF_SCREEN)

    def test_a_choice_among_nothing(self, imagined):
        with pytest.raises(InputError, match="--choice"):
            typed(*imagined("", naming=True), "--bundle", "bundle", *OFF_SCREEN)

    def test_feedback_without_its_candidates(self, imagined):
        with pytest.raises(InputError, match="--bundle"):
            typed(*imagined(IDS[0]), *OFF_SCREEN)
        with pytest.raises(InputError, match="--bundle"):
            typed("preview", *imagined(IDS[0]), "--out", "screens")
        with pytest.raises(BundleError, match="images"):
            typed(*imagined(IDS[0]), "--bundle", "images", *OFF_SCREEN)

    @pytest.mark.parametrize("view", ["pictures", "grid"])
    def test_feedback_in_pictures_without_any(self, imagined, view):
        arguments = (*imagined(IDS[0], view=view), "--bundle", "bundle", *OFF_SCREEN)
        with pytest.raises(InputError, match=f"feedback as {view} needs pictures, and no folder is given; .*{IDS[0]}"):
            typed(*arguments)
        for path in Path("images").iterdir():
            path.rename(path.with_name("x" + path.name))
        with pytest.raises(InputError, match=f"images has none of a candidate.*ID.png.*{IDS[0]}"):
            typed(*arguments, "--pictures", "images")

    def test_nearest_pictures_without_any_missing_broken_or_in_a_sham(self, folder, imagined):
        arguments = (*imagined(IDS[0], view="nearest"), "--bundle", "bundle")
        with pytest.raises(InputError, match=r"feedback as nearest .* bundle has none; calibrate with --pictures"):
            typed(*arguments, *OFF_SCREEN)
        header = json.loads(Path("bundle/bundle.json").read_text())
        names = sorted(path.name for path in Path("images").iterdir())
        Path("bundle/bundle.json").write_text(json.dumps(header | {"pictures": {"names": names}}))
        with pytest.raises(InputError, match="no folder is given; give --pictures the folder"):
            typed(*arguments, *OFF_SCREEN)
        (folder / "sealed").write_text(seal([Condition(ConditionKind.NONE)] * 9))
        with pytest.raises(InputError, match="sham feedback exchanges candidates, and feedback as nearest shows none"):
            typed(*arguments, "--pictures", "images", "--conditions", "sealed", *OFF_SCREEN)
        Path("images", names[3]).write_text("no image")
        with pytest.raises(InputError, match=f"{names[3]} cannot be read as an image"):
            typed(*arguments, "--pictures", "images", *OFF_SCREEN)
        Path("images", names[5]).unlink()
        with pytest.raises(InputError, match=f"{names[5]} missing, of the 36 that the decoder may name"):
            typed(*arguments, "--pictures", "images", *OFF_SCREEN)

    def test_conditions_of_fewer_runs_or_none(self, folder, imagined):
        arguments = (*imagined(IDS[0]), "--bundle", "bundle", "--conditions", "sealed", *OFF_SCREEN)
        with pytest.raises(InputError, match="sealed"):
            typed(*arguments)
        (folder / "sealed").write_text(seal([Condition(ConditionKind.NONE), Condition(ConditionKind.REAL)]))
        with pytest.raises(InputError, match=r"sealed.*3"):
            typed(*arguments)
        (folder / "other.toml").write_text(Path("imagined.toml").read_text().replace("run-03", "imagery"))
        with pytest.raises(InputError, match=r"schedule sub-01_imagery: .*--run"):
            typed("feedback", "other.toml", *arguments[2:])

    def test_a_terminal(self):
        with pytest.raises(InputError, match="a terminal shows no images"):
            typed("training", "run.toml", "--images", "images", "--backend", "terminal")

    def test_a_trigger_from_a_server_that_nobody_named(self, folder):
        (folder / "display.toml").write_text('[trigger]\nkind = "server"\n')
        with pytest.raises(InputError, match="--from"):
            typed("training", "run.toml", "--images", "images", "--settings", "display.toml", *OFF_SCREEN)

    def test_a_key_that_means_two_things(self, folder):
        (folder / "display.toml").write_text('[buttons]\nresponse = ["5"]\n')
        with pytest.raises(InputError, match=r"display\.toml: .*'5' is the trigger and response"):
            typed("training", "run.toml", "--images", "images", "--settings", "display.toml", *OFF_SCREEN)

    def test_a_schedule_that_is_none(self):
        with pytest.raises(InputError, match=r"nowhere\.tsv"):
            typed("training", "nowhere.tsv", *OFF_SCREEN)
        with pytest.raises(InputError, match=r"names\.tsv.*'onset'"):
            typed("training", "names.tsv", *OFF_SCREEN)


# ------------------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("command", ["", *Paradigm, "plan", "preview", "seal"])
def test_the_help_is_within_a_terminal_and_says_what_the_command_takes(command):
    lines = typed(*[command] * bool(command), "--help").splitlines()
    assert max(map(len, lines)) <= 80
    said = " ".join(line.strip("│ ") for line in lines)
    assert ("--bundle" in said) == (command in ("feedback", "preview"))
    assert ("--conditions" in said) == (command == "feedback")
    assert not re.search(r"\bNone\b", said)


# ------------------------------------------------------------------------------------------------- with a real window


def command_line(*arguments):
    return [sys.executable, "-m", "rtgod", "stimulus", *map(str, arguments)]


def environment():
    there = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    return there | {"PYTHONPATH": str(REPOSITORY)}


def done(*arguments):
    """What a command prints in a process of its own."""
    ran = subprocess.run(
        command_line(*arguments), env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


@contextmanager
def begun(*arguments):
    """A command that runs, and a function that waits until it prints a line that begins like that."""
    with subprocess.Popen(
        command_line(*arguments), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        limit = Timer(120, process.kill)
        limit.start()

        def heard(start):
            return next((line for line in process.stdout if start in line), None)

        try:
            yield process, heard
        finally:
            process.kill()
            limit.cancel()


SPEED = 20
PLAY = ("training", "run.toml", "--images", "images", "--settings", "settings.toml", "--out", "out", *OFF_SCREEN)


@needs_a_window
def test_a_run_is_played_and_saved(folder):
    said = done(*PLAY, "--speed", 30, "--ready-file", "ready").splitlines()
    assert said[0] == "sub-01_run-01: 18 volumes of 1 s; screen: offscreen (as asked)"
    assert said[1].startswith("type `stop`, or press escape on the display")
    assert said[2:5] == ["sub-01_run-01: began", "stimulus 1 of 2", "stimulus 2 of 2"]
    assert said[-1] == "sub-01_run-01: saved in out"
    assert "complete" in said[-2]
    assert (folder / "ready").read_text().strip().isdecimal()
    events = rows(folder / "out" / "sub-01_run-01_events.tsv")
    assert [row["event_type"] for row in events] == ["rest", "stimulus", "stimulus", "rest"]
    assert [float(row["planned_onset"]) for row in events] == [0, 3, 9, 15]
    assert [row["stimulus_name"] for row in events[1:3]] == [f"{IDS[0]}_0", f"{IDS[1]}_0"]
    assert rows(folder / "out" / "sub-01_run-01_flips.tsv")


@needs_a_window
def test_a_run_that_is_stopped_is_saved_and_started_again_is_another(folder):
    write_run(folder / "run.toml", 3, 6000, 6, 3)
    with begun(*PLAY, "--speed", SPEED) as (process, heard):
        assert heard("stimulus 1 of 2")
        process.send_signal(signal.SIGTERM)
        assert heard("saved in out")
        assert process.wait(30) == 1
    events = rows(folder / "out" / "sub-01_run-01_events.tsv")
    assert [row["event_type"] for row in events] == ["rest", "stimulus"]
    with begun(*PLAY, "--speed", SPEED) as (process, heard):
        assert heard("sub-01_run-01~2: began")
        process.stdin.write("stop\n")
        process.stdin.flush()
        assert heard("saved in out")
        assert process.wait(30) == 1
    assert (folder / "out" / "sub-01_run-01~2_events.tsv").exists()


@needs_a_window
def test_a_run_whose_display_is_killed_goes_on_at_the_right_second(folder):
    write_run(folder / "run.toml", 3, 6000, 6, 3)
    with begun(*PLAY, "--speed", SPEED) as (process, heard):
        assert heard("stimulus 1 of 2")
        process.kill()
    with begun(*PLAY, "--speed", SPEED) as (process, heard):
        line = heard("goes on at")
        process.send_signal(signal.SIGTERM)
        assert heard("saved in out")
    log = rows(folder / "out" / "sub-01_run-01_log.tsv")
    started, rejoined = (next(row for row in log if row["kind"] == kind) for kind in ("started", "rejoined"))
    run_s = SPEED * (float(rejoined["utc_s"]) - float(started["utc_s"]))
    assert float(rejoined["run_s"]) == pytest.approx(run_s, abs=SPEED * 0.005)
    assert float(re.search(r"goes on at ([0-9.]+) s", line)[1]) == pytest.approx(run_s, abs=SPEED * 0.005 + 0.06)
    events = rows(folder / "out" / "sub-01_run-01_events.tsv")
    assert [float(row["planned_onset"]) for row in events] == [0, 3]
    assert not list((folder / "out").glob("*~2*"))


@pytest.mark.skipif(find_spec("psychopy") is None, reason="PsychoPy, whose font is used, is not installed")
@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize("paradigm", ["training", "feedback"])
def test_a_preview_has_every_screen(folder, paradigm):
    (folder / "display.toml").write_text("[monitor]\nsize_px = [400, 300]\n[protocol]\nn_trials = 2\nn_images = 6\n")
    given = ("--settings", "display.toml")
    what = ("--images", "images") if paradigm == "training" else ("--categories", "names.tsv", "--free", 1)
    typed("plan", paradigm, *what, *given, "--runs", 1, "--out", "plans")
    (plan,) = (folder / "plans").glob("*.tsv")
    if paradigm == "feedback":
        what = ("--bundle", "bundle", "--pictures", "images", "--choice", IDS[0], "--choice", IDS[1])
    said = done("preview", paradigm, plan, *what, *given, "--out", "screens")
    screens = sorted((folder / "screens").glob("[0-9]*.png"))
    first, *drawn, last = said.splitlines()
    assert first == "a screen of 32 cm at 60 cm is drawn: the settings do not say"
    kind = {"training": "all 6 images are drawn: 1 sheet, stimuli_01.png", "feedback": "all 2 cues are drawn: 1 sheet"}
    assert drawn[0].startswith(kind[paradigm])
    sheets = sorted((folder / "screens").glob("[a-s]*_[0-9][0-9].png"))
    assert [path.name for path in sheets] == sorted(line.rpartition(", ")[2] for line in drawn)
    assert (
        last
        == f"{len(screens)} screens, {len(sheets)} contact sheet{'s' * (len(sheets) != 1)} and timeline.png in screens"
    )
    assert len(screens) > 5
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in screens]
    for path, picture in zip(screens, pictures, strict=True):
        assert picture.shape == (300, 400, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2, f"{path.name} is blank"
    assert len(np.unique(np.asarray(Image.open(folder / "screens" / "timeline.png").convert("L")))) > 10


def test_a_preview_replaces_one_of_another_run_if_asked_and_nothing_else(folder):
    (folder / "display.toml").write_text("[monitor]\nsize_px = [400, 300]\n[protocol]\nn_trials = 2\nn_images = 6\n")
    given = ("--settings", "display.toml")
    typed("plan", "training", "--images", "images", *given, "--runs", 1, "--out", "plans")
    (plan,) = (folder / "plans").glob("*.tsv")
    shown = ("preview", "training", plan, "--images", "images", *given, "--out", "screens")
    done(*shown)
    for name in ("cues_01.png", "99_old.png", "mine.png"):
        (folder / "screens" / name).touch()
    with pytest.raises(InputError, match="already there; choose another --out, or replace it with --overwrite"):
        typed(*shown)
    done(*shown, "--overwrite")
    left = {path.name for path in (folder / "screens").iterdir()}
    assert "mine.png" in left
    assert left.isdisjoint({"cues_01.png", "99_old.png"})


def test_a_run_of_another_kind_is_refused(folder):
    (folder / "cue.toml").write_text(CUE)
    with pytest.raises(InputError, match="shows no image, as a run of training does; is it one of imagery or feedback"):
        typed("preview", "training", "cue.toml", "--out", "screens")


CUE = """
name = "sub-01_run-01"
tr_s = 1.0
[[step]]
kind = "cue"
duration_s = 2
category = "c1"
[[step]]
kind = "imagery"
duration_s = 2
category = "c1"
"""


@needs_a_window
@pytest.mark.skipif(find_spec("matplotlib") is None, reason="its fonts are taken")
class TestLettersOfNames:
    @pytest.fixture
    def cue(self, folder):
        def named(name):
            (folder / "cue.toml").write_text(CUE)
            (folder / "names.tsv").write_text(f"category_id\tname\nc1\t{name}\n")
            return "cue.toml", "--names", "names.tsv", "--settings", "settings.toml"

        return named

    def test_a_font_that_has_a_cue_s_letters_is_found_and_told(self, folder, cue, monkeypatch):
        import matplotlib

        monkeypatch.setenv("XDG_DATA_HOME", str(folder))
        (folder / "fonts").mkdir()
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        (folder / "fonts" / "DejaVuSans.ttf").symlink_to(fonts / "DejaVuSans.ttf")
        # done fails where anything is on standard error: matplotlib warns of each letter that it lacks.
        said = done("preview", "imagery", *cue("דג זהב"), "--out", "screens")
        assert re.search(r"font NotoSans-Regular has no letters for דג זהב \(1 of \d+ texts\): .* set in \w+\n", said)
        cue_in = {
            name: np.asarray(Image.open(folder / name / "03_cue.png").convert("L"))
            for name in ("screens", "other")
            if name == "screens" or done("preview", "imagery", *cue("דד דדד"), "--out", "other")
        }
        assert (cue_in["screens"] != cue_in["other"]).any(), "different words, which boxes would not be"

    @pytest.mark.parametrize("command", [("preview", "imagery"), ("imagery",)])
    def test_a_cue_whose_letters_no_font_has_is_refused_before_anything_is_shown(self, folder, cue, command):
        name = "x\U0010fffd"
        off_screen = OFF_SCREEN if command == ("imagery",) else ()
        ran = subprocess.run(
            command_line(*command, *cue(name), "--out", "out", *off_screen),
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 2, ran.stderr
        said = " ".join(ran.stderr.split())
        assert re.search(rf"no letters for {name} \(1 of \d+ texts, .*\): set font_file in the settings", said), said
        assert not (folder / "out").exists()


# --------------------------------------------------------------------------------------------------- the operator


def test_what_the_operator_types_comes_in_whole_lines_and_is_not_waited_for(monkeypatch):
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as pipe, os.fdopen(write_end, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", pipe)
        lines = typed_lines()
        assert lines() == []
        keyboard.write(b"target n01\nst")
        assert until(lines, 1) == ["target n01"]
        assert lines() == []
        keyboard.write("op\n次\n".encode())
        assert until(lines, 2) == ["stop", "次"]
        keyboard.close()
        assert lines() == []


def test_without_a_keyboard_nothing_is_typed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert typed_lines()() == []


def until(lines, n_lines):
    """Lines, once there are so many; bounded by the number of looks."""
    come = []
    for _ in range(10_000_000):
        come += lines()
        if len(come) >= n_lines:
            return come
    raise AssertionError(f"only {come} came")


def test_categories_that_are_read_by_one_word_or_without_names_are_told(tmp_path, caplog):
    another = '[[step]]\nkind = "cue"\nduration_s = 2\ncategory = "c2"\n'
    (tmp_path / "cue.toml").write_text(CUE + another)
    (tmp_path / "names.tsv").write_text("category_id\tname\nc1\tdog\nc2\tdog\n")
    for names, says in (
        (tmp_path / "names.tsv", "the same word is read for several categories: 'dog' for c1 and c2"),
        (None, "no --names, so categories are read by their identifiers: c1, c2"),
    ):
        caplog.clear()
        inputs = ParadigmFiles(Paradigm.IMAGERY, tmp_path / "cue.toml", names=names)
        inputs.read_script(inputs.read_settings(), inputs.read_candidates())
        assert [record.getMessage() for record in caplog.records] == [says]
    caplog.clear()
    inputs = ParadigmFiles(Paradigm.IMAGERY, tmp_path / "cue.toml", choices=("c1",))
    inputs.read_script(inputs.read_settings(), inputs.read_candidates())
    assert "--choice: nothing in" in caplog.text


def test_categories_that_the_table_of_names_lacks_are_told(tmp_path, caplog):
    another = '[[step]]\nkind = "imagery"\nduration_s = 2\ncategory = "c2"\n'
    (tmp_path / "cue.toml").write_text(CUE + another)
    (tmp_path / "names.tsv").write_text("category_id\tname\nc1\tdog\n")
    inputs = ParadigmFiles(Paradigm.IMAGERY, tmp_path / "cue.toml", names=tmp_path / "names.tsv")
    script = inputs.read_script(inputs.read_settings(), inputs.read_candidates())
    assert script.names == {"c1": "dog"}
    assert "none for 1 of 2 categories, shown by their identifiers: c2" in caplog.text
