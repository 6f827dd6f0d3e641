import csv

import numpy as np
import pytest

from calibration.simulation.objects import object_categories
from calibration.simulation.schedule import Stimulus, imagery_run, in_turn, perception_run
from rtgod.events.table import read_trials

CATEGORIES = object_categories(60, 0)
STIMULI = [Stimulus(category, 3, i + 1, i + 101) for i, category in enumerate(CATEGORIES[:50])]


def perception(seed=0, stimuli=STIMULI):
    return perception_run(stimuli, np.random.default_rng(seed))


def imagery(seed=0):
    return imagery_run(list(enumerate(CATEGORIES[:25], 1)), np.random.default_rng(seed))


@pytest.fixture(params=[perception, imagery])
def schedule(request):
    return request.param()


def written(schedule, folder):
    path = folder / "events.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in (schedule.columns, *schedule.rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("make", "session", "task", "n_volumes"),
    [(perception, "perceptionTraining01", "perception", 178), (perception, "perceptionTest01", "perception", 178),
     (imagery, "imageryTest01", "imagery", 213)],
)  # fmt: skip
def test_timing_and_columns_are_those_of_the_published_data_set(shared_data, make, session, task, n_volumes):
    folder = shared_data / "ds001246" / "sub-01" / f"ses-{session}" / "func"
    table = (folder / f"sub-01_ses-{session}_task-{task}_run-01_events.tsv").read_text().splitlines()
    header, *theirs = csv.reader(table, delimiter="\t")
    ours = make()
    assert list(ours.columns) == header
    timing = [(float(onset), float(duration), int(trial), event) for onset, duration, trial, event, *_ in theirs]
    assert [(float(o), float(d), int(n), event) for o, d, n, event, *_ in ours.rows] == timing
    assert {len(row) for row in ours.rows} == {len(header)}
    assert ours.n_volumes == n_volumes == sum(timing[-1][:2]) / 3


def test_the_tables_are_read_as_the_trials_that_were_planned(schedule, tmp_path):
    read = read_trials(written(schedule, tmp_path))
    assert [(t.onset_s, t.duration_s, t.category, t.stimulus) for t in read] == [
        (t.onset_s, t.duration_s, t.category.category_id, t.stimulus and t.stimulus.name) for t in schedule.trials
    ]


@pytest.mark.parametrize("seed", range(5))
def test_five_images_are_repeated_at_once_and_all_others_shown_once(seed, tmp_path):
    trials = read_trials(written(perception(seed), tmp_path))
    repeats = [trial.stimulus for trial in trials if trial.repeat]
    assert len(set(repeats)) == len(repeats) == 5
    assert sorted(t.stimulus for t in trials if not t.repeat) == sorted(s.name for s in STIMULI)


@pytest.mark.parametrize("n_images", [50, 20])
def test_the_button_is_pressed_only_for_an_image_that_comes_again(n_images, tmp_path):
    dealt = (STIMULI[:n_images] * 3)[:50]
    # Few categories are dealt to a run more than once, and may then follow themselves by chance.
    for seed in range(4):
        schedule = perception(seed, dealt)
        trials = read_trials(written(schedule, tmp_path))
        pressed = [float(row[-1]) for row in schedule.rows if row[-1] != "n/a"]
        repeats = [trial for trial in trials if trial.repeat]
        assert len(repeats) >= 5
        assert len(repeats) - len(pressed) in (0, 1, 2)  # now and then the subject misses one
        for response_s in pressed:
            assert any(0 < response_s - trial.onset_s < trial.duration_s for trial in repeats)


def test_vividness_is_rated_after_imagery_and_sets_its_strength():
    schedule = imagery()
    ratings = [float(row[-1]) for row in schedule.rows if row[3] == "imagery"]
    assert set(ratings) <= {2.0, 3.0, 4.0, 5.0}
    assert len(set(ratings)) > 1
    assert [trial.strength for trial in schedule.trials] == [rating / 4 for rating in ratings]
    for row in schedule.rows:
        if row[3] == "evaluation":
            assert 0 < float(row[-2]) - float(row[0]) <= 3
    assert {trial.strength for trial in perception().trials} == {1.0}


@pytest.mark.parametrize("make", [perception, imagery])
def test_the_order_is_random_but_the_seed_s(make):
    assert make(1).rows == make(1).rows
    assert make(1).rows != make(2).rows


@pytest.mark.parametrize("n_items", [20, 50])
def test_no_category_comes_again_before_all_had_their_turn(n_items):
    runs = in_turn(CATEGORIES[:n_items], 4, 25)
    assert [len(run) for run in runs] == [25] * 4
    dealt = [category for run in runs for _, category in run]
    for start in range(0, 100 - n_items, n_items):
        assert set(dealt[start : start + n_items]) == set(CATEGORIES[:n_items])
    assert all(CATEGORIES[index - 1] == category for run in runs for index, category in run)
