"""What is previewed: every screen, by name, once; and a figure of the run."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow

from stimulus.paradigm.preview import _legend, made_up_ranking, save_screens, save_timeline, scenes_of, screens
from stimulus.paradigm.schedule import Image, Schedule, Step, StepKind, feedback_run, imagery_run, perception_run
from stimulus.paradigm.script import Paradigm, Script
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.screens.feedback import FeedbackSettings, View, When, percentile
from stimulus.screens.texts import ENGLISH

PROTOCOL = ProtocolSettings()
NAMES = tuple(f"thing_{number}" for number in range(24))
AROUND = (["loading", "before", "rest"], ["after", "stopped"])


def perception():
    images = [Image(f"n1_{number}", "n1") for number in range(50)]
    schedule = perception_run("run-01", images, PROTOCOL, np.random.default_rng(0))
    return Script(Paradigm.TEST, schedule, ENGLISH, {name: f"{name}.png" for name, _ in images})


def imagery():
    return Script(Paradigm.IMAGERY, imagery_run("run-01", NAMES, PROTOCOL), ENGLISH)


def closed_loop(when=When.CONTINUOUS, view=View.THERMOMETER, categories=("thing_3", ""), n_candidates=24):
    schedule = feedback_run("run-01", categories, PROTOCOL)
    settings = FeedbackSettings(when=when, view=view)
    names = {name: name for name in NAMES}
    return Script(
        Paradigm.FEEDBACK, schedule, ENGLISH, {}, names, NAMES[:n_candidates], choices=NAMES[:3], feedback=settings,
        near={f"{i}.png": f"/pictures/{i}.png" for i in range(50)} if view is View.NEAREST else {},
    )  # fmt: skip


FEEDBACK = [*(f"feedback_thermometer{sure}" for sure in ("", "_not_sure", "_unknown")), "feedback_not_ready"]
FREE = ["cue_free", "naming", "naming_chosen"]


class TestScreens:
    @pytest.mark.parametrize(
        ("script", "between"),
        [
            (perception(), ["stimulus", "stimulus_off"]),
            (imagery(), ["cue", "imagery", "evaluation", "evaluation_chosen", "inter_rest"]),
            (
                closed_loop(categories=("thing_3",)),
                ["cue", *FEEDBACK, "evaluation", "evaluation_chosen", "inter_rest"],
            ),
            (
                closed_loop(When.AFTER),
                [
                    "cue",
                    "imagery",
                    "evaluation",
                    "evaluation_chosen",
                    "inter_rest",
                    *FEEDBACK[:-1],
                    "feedback_free",
                    FEEDBACK[-1],
                    *FREE,
                ],
            ),
        ],
    )
    def test_every_kind_once_in_the_order_of_the_run(self, script, between):
        names = [name for name, _ in screens(script)]
        assert names == [*AROUND[0], *between, *AROUND[1]]

    def test_they_are_the_screens_of_the_run(self):
        shown = dict(screens(closed_loop()))
        assert shown["stopped"].title == ENGLISH.stopped
        assert shown["evaluation"].choice.chosen is None
        assert shown["evaluation_chosen"].choice.chosen == 2
        assert shown["cue_free"].title == ENGLISH.your_choice
        assert shown["feedback_not_ready"].message == ENGLISH.one_moment
        assert shown["feedback_thermometer"].thermometer.label == ENGLISH.target.format("thing 3")
        flash = dict(screens(perception()))
        assert len(flash["stimulus"].pictures) == 1
        assert flash["stimulus_off"].pictures == ()

    @pytest.mark.parametrize("view", View)
    def test_feedback_is_drawn_in_the_view_that_is_set_sure_and_not_and_unknown(self, view):
        shown = dict(screens(closed_loop(view=view, categories=("thing_3",))))
        kinds = {name for name in shown if name.startswith("feedback")}
        assert kinds == {*(f"feedback_{view}{kind}" for kind in ("", "_not_sure", "_unknown")), "feedback_not_ready"}
        sure, not_sure, unknown = (shown[f"feedback_{view}{kind}"] for kind in ("", "_not_sure", "_unknown"))
        parts = {
            View.LIST: (10, 0),
            View.THERMOMETER: (0, 0),
            View.PICTURES: (0, 5),
            View.GRID: (0, 9),
            View.NEAREST: (0, 4),
        }[view]
        assert (len(sure.rows), len(sure.pictures)) == parts
        assert sure.strength > not_sure.strength
        assert not_sure.caption == ENGLISH.not_sure
        assert (unknown.strength, unknown.caption) == (1, "")

    def test_a_free_trial_of_a_thermometer_is_drawn_too_for_it_has_no_target(self):
        assert len(dict(screens(closed_loop()))["feedback_free"].rows) == 10
        assert "feedback_free" not in dict(screens(closed_loop(view=View.GRID)))

    def test_the_same_each_time(self):
        assert list(screens(closed_loop(), seed=1)) == list(screens(closed_loop(), seed=1))

    def test_a_single_candidate(self):
        assert len(dict(screens(closed_loop(n_candidates=1, view=View.GRID)))["feedback_grid"].pictures) == 1

    def test_each_is_saved_under_a_numbered_name(self, tmp_path):
        class Painter:
            def save_png(self, path, screen):
                path.write_text(repr(screen))

        paths = save_screens(imagery(), Painter(), tmp_path / "new" / "folder")
        assert [path.name for path in paths][:4] == ["01_loading.png", "02_before.png", "03_rest.png", "04_cue.png"]
        assert sorted((tmp_path / "new" / "folder").iterdir()) == paths


@pytest.mark.parametrize(("n", "target"), [(24, 3), (24, 23), (2, 1), (1, 0)])
@pytest.mark.parametrize("sure", [True, False])
def test_a_made_up_ranking_has_the_target_among_the_first(n, target, sure):
    ranking = made_up_ranking(n, target, 1, 0, sure=sure)
    assert sorted(ranking.order.tolist()) == list(range(n))
    assert target in ranking.order[:3]
    assert (np.diff(ranking.scores) <= 0).all()
    assert ranking.block == 1
    assert n < 24 or percentile(ranking, target) > 0.8


def test_the_scenes_of_a_run_are_all_its_words_each_once():
    script = closed_loop(categories=("thing_3", "thing_5", "thing_3", ""))
    scenes = scenes_of(script)
    assert len(scenes) == len(set(scenes))
    titles = [scene.title for scene in scenes if scene.title]
    assert titles == ["thing 3", ENGLISH.rate, "thing 5", ENGLISH.your_choice, ENGLISH.name_it]
    labels = {scene.thermometer.label for scene in scenes if scene.thermometer}
    assert labels == {ENGLISH.target.format("thing 3"), ENGLISH.target.format("thing 5")}
    assert any(scene.rows for scene in scenes)  # of the free trial: a thermometer has no target


class TestTimeline:
    def test_is_a_picture_with_a_row_for_three_minutes(self, tmp_path):
        heights = []
        for script in (closed_loop(), imagery()):
            save_timeline(script.schedule, {"thing_1": "a thing"}, tmp_path / "new" / "timeline.png")
            with Pillow.open(tmp_path / "new" / "timeline.png") as picture:
                assert picture.format == "PNG"
                heights.append(picture.height)
                colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
                assert {(0xF0, 0xE4, 0x42), (0x56, 0xB4, 0xE9), (0x00, 0x9E, 0x73)} <= colours
        assert heights[1] > heights[0]

    def test_of_few_trials_each_has_its_number_and_its_name(self):
        assert _legend(["owl", "", "owl"]) == [("1", "owl"), ("2", "free choice"), ("3", "owl")]

    def test_of_many_each_category_has_its_count_and_of_very_many_some_are_left_out_with_a_word(self):
        assert _legend(["owl", "bat", "owl"] * 50) == [("100 ×", "owl"), ("50 ×", "bat")]
        lines = _legend([f"thing {n}" for n in range(100)])
        assert len(lines) == 72
        assert lines[-1] == ("", "and 29 more categories")

    def test_long_names_are_shortened_and_wide_letters_need_more_room(self):
        ((_, line),) = _legend(["a name that is far too long for a column beside the figure"])
        assert line.endswith("…")
        assert len(line) <= 30
        ((_, line),) = _legend(["消防車のはしごの写真と長い名前"])
        assert len(line) <= 20

    def test_no_label_runs_into_another(self, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
        steps = [Step(0.9 * n, 0.9, StepKind.STIMULUS, n + 1, "face", f"face_{n}") for n in range(30)]
        for schedule in (closed_loop().schedule, imagery().schedule, Schedule("fast", 2.0, tuple(steps))):
            save_timeline(schedule, dict.fromkeys(NAMES, "a long name of a thing"), tmp_path / "timeline.png")
            figure = drawn.pop()
            figure.canvas.draw()
            texts = [text for axis in figure.axes for text in axis.texts] + [*figure.texts, *figure.legends]
            texts += [axis.xaxis.label for axis in figure.axes if axis.get_xlabel()]
            boxes = [text.get_window_extent() for text in texts]
            assert len(boxes) > 3
            for place, box in enumerate(boxes):
                assert figure.bbox.x0 <= box.x0
                assert box.x1 <= figure.bbox.x1
                assert not any(box.overlaps(other) for other in boxes[:place])
