"""Contact sheets: every word, picture and name once, on a bounded number of files, and what is not drawn is said."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image as Pillow

from stimulus.drawing import sheets
from stimulus.drawing.raster import PreviewStage
from stimulus.drawing.sheets import groups, save_sheets
from stimulus.paradigm.schedule import Image, feedback_run, imagery_run, perception_run
from stimulus.paradigm.script import Paradigm, Script
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.screens.feedback import FeedbackSettings, View
from stimulus.screens.texts import ENGLISH
from stimulus.settings import MonitorSettings

PROTOCOL = ProtocolSettings()
NAMES = tuple(f"thing_{number}" for number in range(24))


def closed_loop(view, categories=NAMES[:5], names=NAMES):
    schedule, words = feedback_run("run-01", categories, PROTOCOL), {name: name for name in names}
    return Script(
        Paradigm.FEEDBACK, schedule, ENGLISH, {}, words, names, choices=NAMES[:3], feedback=FeedbackSettings(view=view)
    )


def names_in(group):
    """Names that are on a group's screens, in order."""
    shown = [[*scene.rows, *scene.pictures] for scene, _ in group.tiles]
    return [getattr(part, "name", "") or part.label for screen in shown for part in screen]


def test_every_cue_of_an_imagery_run_once():
    script = Script(Paradigm.IMAGERY, imagery_run("run-01", (*NAMES, *NAMES[:3]), PROTOCOL), ENGLISH)
    (cues,) = groups(script)
    assert [scene.title for scene, _ in cues.tiles] == [name.replace("_", " ") for name in NAMES]
    assert (cues.name, cues.n_items, cues.n_all) == ("cues", 24, 24)
    assert [label for _, label in cues.tiles][2:4] == ["thing_2 × 2", "thing_3"]


def test_every_image_of_a_perception_run():
    images = [Image(f"n1_{number}", "n1") for number in range(50)]
    schedule = perception_run("run-01", images, PROTOCOL, np.random.default_rng(0))
    (stimuli,) = groups(Script(Paradigm.TEST, schedule, ENGLISH, {name: f"{name}.png" for name, _ in images}))
    assert {scene.pictures[0].file for scene, _ in stimuli.tiles} == {f"n1_{number}.png" for number in range(50)}
    assert len(stimuli.tiles) == 50


@pytest.mark.parametrize(("view", "n_each"), [(View.LIST, 10), (View.PICTURES, 5), (View.GRID, 9)])
def test_every_candidate_as_the_settings_view_shows_it(view, n_each):
    cues, candidates = groups(closed_loop(view))
    assert (cues.name, candidates.name) == ("cues", "candidates")
    assert len(candidates.tiles) == -(-24 // n_each)
    assert list(dict.fromkeys(names_in(candidates))) == [name.replace("_", " ") for name in NAMES]
    assert candidates.n_items == candidates.n_all == 24


def test_a_thermometer_has_its_targets_and_names_only_where_nobody_knows_the_target():
    cues, targets = groups(closed_loop(View.THERMOMETER))
    assert (cues.name, targets.name) == ("cues", "targets")
    labels = {scene.thermometer.label for scene, _ in targets.tiles}
    assert labels == {ENGLISH.target.format(f"thing {number}") for number in range(5)}
    *_, names = groups(closed_loop(View.THERMOMETER, (*NAMES[:2], "")))
    assert (names.name, names.n_items) == ("candidates", 24)


def test_of_too_many_names_the_longest_are_drawn(monkeypatch):
    monkeypatch.setattr(sheets, "MOST_SHEETS", 1)
    many = (*NAMES, *(f"{number}" for number in range(200)), "the longest name of all")
    *_, candidates = groups(closed_loop(View.LIST, names=many))
    shown = names_in(candidates)
    assert (candidates.n_items, candidates.n_all, len(candidates.tiles)) == (120, 225, 12)
    assert {"thing 0", "thing 23", "the longest name of all"} <= set(shown)


@pytest.mark.skipif(find_spec("psychopy") is None, reason="PsychoPy, whose font is used, is not installed")
def test_sheets_are_pictures_of_the_screens_side_by_side(tmp_path):
    stage = PreviewStage(MonitorSettings(width_cm=32, distance_cm=60, size_px=(800, 600), mirrored=True))
    script = Script(Paradigm.IMAGERY, imagery_run("run-01", NAMES[:14], PROTOCOL), ENGLISH)
    paths, lines = save_sheets(script, stage, tmp_path)
    assert [path.name for path in paths] == ["cues_01.png", "cues_02.png"]
    assert lines == ["all 14 cues are drawn: 2 sheets, cues_01.png to cues_02.png"]
    with Pillow.open(paths[0]) as first, Pillow.open(paths[1]) as second:
        assert first.width == 3 * (640 + 16) + 16
        assert second.width == 2 * (640 + 16) + 16
        sheet = np.asarray(first)
    # Not as the projector gets it: letters are to be read.
    (scene, _), *_ = next(groups(script)).tiles
    screen = np.asarray(Pillow.fromarray(stage.drawn(scene)).resize((640, 480), Pillow.Resampling.LANCZOS))
    np.testing.assert_array_equal(sheet[16 : 16 + 480, 16 : 16 + 640], screen)


def test_one_screen_of_a_kind_needs_no_sheet(tmp_path):
    script = Script(Paradigm.IMAGERY, imagery_run("run-01", ("owl",), PROTOCOL), ENGLISH)
    assert list(groups(script)) == []
    assert save_sheets(script, None, tmp_path) == ([], [])
