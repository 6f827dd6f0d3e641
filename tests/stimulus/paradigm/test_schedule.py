"""Runs as they are planned: the published protocol's numbers, counterbalancing, and what is asked at every frame."""

from __future__ import annotations

import timeit
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from stimulus.paradigm.schedule import (
    Image,
    Schedule,
    Step,
    StepKind,
    deal,
    deal_images,
    feedback_run,
    from_steps,
    imagery_run,
    perception_run,
)
from stimulus.paradigm.timing_settings import ProtocolSettings

PUBLISHED = ProtocolSettings()
CATEGORIES = [f"n{number:08d}" for number in range(50)]
IMAGES = [Image(f"{category}_{number}", category) for category in CATEGORIES for number in range(3)]


def generator(seed=0):
    return np.random.default_rng(seed)


def training_run(seed=0):
    return perception_run("run", IMAGES[:50], PUBLISHED, generator(seed))


def kinds(schedule):
    return [step.kind.value for step in schedule.steps]


class TestPublishedProtocol:
    def test_fifty_images_and_five_repeats_are_178_volumes(self):
        schedule = training_run()
        assert schedule.n_volumes == 178
        assert schedule.duration_s == 534
        assert kinds(schedule) == ["rest", *["stimulus"] * 55, "rest"]
        assert [step.onset_s for step in schedule.steps] == [0, *range(33, 33 + 55 * 9, 9), 528]

    def test_25_imagery_trials_are_213_volumes(self):
        schedule = imagery_run("run", CATEGORIES[:25], PUBLISHED)
        assert schedule.n_volumes == 213
        assert kinds(schedule) == ["rest", *["cue", "imagery", "evaluation", "inter_rest"] * 25, "rest"]
        assert [step.onset_s for step in schedule.steps[:6]] == [0, 33, 36, 51, 54, 57]
        assert (schedule.steps[-1].onset_s, schedule.steps[-1].duration_s) == (633, 6)
        assert [step.category for step in schedule.trials] == CATEGORIES[:25]

    def test_closed_loop_gives_the_response_time_to_come_before_it_is_shown(self):
        schedule = feedback_run("run", CATEGORIES[:2], PUBLISHED)
        trial = ["cue", "imagery", "evaluation", "inter_rest", "feedback", "inter_rest"]
        assert kinds(schedule) == ["rest", *trial, *trial, "rest"]
        imagery, feedback = schedule.steps[2], schedule.steps[5]
        assert feedback.onset_s - imagery.end_s == 6

    def test_what_the_participant_chose_is_named_before_it_is_rated(self):
        schedule = feedback_run("run", ["", "n00000001"], PUBLISHED)
        assert kinds(schedule)[1:5] == ["cue", "imagery", "naming", "evaluation"]
        assert "naming" not in kinds(schedule)[5:]
        assert {step.category for step in schedule.steps if step.trial == 1} == {""}

    def test_trials_count_from_one_and_rest_has_none(self):
        for schedule in (training_run(), feedback_run("run", ["a", "", "b"], PUBLISHED)):
            assert [step.trial for step in schedule.trials] == list(range(1, len(schedule.trials) + 1))
            assert {step.trial for step in schedule.steps if step.kind is StepKind.REST} == {0}


class TestOneBack:
    @given(st.integers(0, 1000), st.integers(0, 12), st.integers(12, 60))
    def test_each_image_once_and_repeats_directly_after(self, seed, n_repeats, n_images):
        settings = ProtocolSettings(n_repeats=n_repeats)
        shown = [step.stimulus for step in perception_run("run", IMAGES[:n_images], settings, generator(seed)).trials]
        assert len(shown) == n_images + n_repeats
        assert sum(a == b for a, b in pairwise(shown)) == n_repeats
        once = [name for place, name in enumerate(shown) if place == 0 or name != shown[place - 1]]
        assert once == [image.name for image in IMAGES[:n_images]]

    def test_an_image_that_comes_twice_without_being_meant_to_is_refused(self):
        with pytest.raises(InputError, match="follows itself"):
            perception_run("run", [*IMAGES[:9], IMAGES[8]], PUBLISHED, generator())

    @pytest.mark.parametrize("n_images", [0, 3])
    def test_too_few_images_for_the_repeats(self, n_images):
        with pytest.raises(InputError, match=f"{n_images} images and 5 repeats; give more"):
            perception_run("run", IMAGES[:n_images], PUBLISHED, generator())

    def test_which_ones_are_repeated_is_chance(self):
        repeated = Counter()
        for seed in range(200):
            shown = [step.stimulus for step in training_run(seed).trials]
            repeated.update(a for a, b in pairwise(shown) if a == b)
        assert len(repeated) == 50
        assert max(repeated.values()) < 45  # 20 expected; 45 is over 5 standard deviations above


class TestDeal:
    @given(st.integers(1, 30), st.integers(0, 8), st.integers(0, 40), st.integers(0, 1000))
    def test_every_item_has_its_turn(self, n_items, n_runs, n_per_run, seed):
        items = list(range(n_items))
        runs = deal(items, n_runs, n_per_run, generator(seed))
        assert [len(run) for run in runs] == [n_per_run] * n_runs
        row = [item for run in runs for item in run]
        for start in range(0, len(row), n_items):
            in_round = row[start : start + n_items]
            assert len(set(in_round)) == len(in_round)
        counts = Counter(dict.fromkeys(items, 0) | Counter(row))
        assert max(counts.values()) - min(counts.values()) <= 1
        if n_items > 1:
            assert all(a != b for run in runs for a, b in pairwise(run))

    @pytest.mark.parametrize(("n_items", "n_per_run", "n_runs"), [(50, 25, 20), (50, 50, 10), (30, 25, 18), (8, 24, 6)])
    def test_places_even_out_over_rounds(self, n_items, n_per_run, n_runs):
        def unevenness(runs):
            places = {item: [] for item in range(n_items)}
            for run in runs:
                for place, item in enumerate(run):
                    places[item].append(place)
            return np.std([np.mean(of_item) for of_item in places.values()])

        def by_chance(rng):
            row = np.concatenate([rng.permutation(n_items) for _ in range(-(-n_runs * n_per_run // n_items))])
            return row[: n_runs * n_per_run].reshape(n_runs, n_per_run).tolist()

        ours = [unevenness(deal(list(range(n_items)), n_runs, n_per_run, generator(seed))) for seed in range(20)]
        chance = [unevenness(by_chance(generator(seed))) for seed in range(20)]
        assert np.mean(ours) < 0.5 * np.mean(chance)
        assert np.percentile(ours, 90) < np.mean(chance)

    def test_the_order_is_no_pattern(self):
        """Each item is in the first place about as often as any other, over seeds."""
        first = Counter(deal(range(5), 2, 5, generator(seed))[1][0] for seed in range(500))
        assert min(first.values()) > 60  # 100 expected, 9 the standard deviation

    def test_the_same_seed_gives_the_same_and_another_another(self):
        assert deal(CATEGORIES, 3, 25, generator(1)) == deal(CATEGORIES, 3, 25, generator(1))
        assert deal(CATEGORIES, 3, 25, generator(1)) != deal(CATEGORIES, 3, 25, generator(2))

    def test_nothing_to_deal(self):
        with pytest.raises(InputError, match="say where they are"):
            deal([], 2, 5, generator())


class TestDealImages:
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 30), st.integers(0, 1000))
    def test_each_image_once(self, sizes, n_per_run, seed):
        images = [Image(f"{c}_{n}", str(c)) for c, size in enumerate(sizes) for n in range(size)]
        runs = deal_images(images, n_per_run, generator(seed))
        assert sorted(image for run in runs for image in run) == sorted(images)
        assert all(len(run) == n_per_run for run in runs[:-1])
        assert 0 < len(runs[-1]) <= n_per_run

    @given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 30), st.integers(0, 1000))
    def test_a_run_shows_as_many_categories_as_it_can(self, n_categories, n_each, n_per_run, seed):
        images = [Image(f"{c}_{n}", str(c)) for c in range(n_categories) for n in range(n_each)]
        runs = deal_images(images, n_per_run, generator(seed))
        for run in runs[:-1]:
            assert len({image.category for image in run}) == min(n_per_run, n_categories)
        for run in runs:
            # as often as any other
            counts = Counter(image.category for image in run)
            assert max(counts.values()) - min(counts.values()) <= 1

    def test_the_published_training_is_24_runs_of_50_categories(self):
        images = [Image(f"n{c}_{n}", f"n{c}") for c in range(150) for n in range(8)]
        runs = deal_images(images, 50, generator())
        assert len(runs) == 24
        assert all(len({image.category for image in run}) == 50 for run in runs)
        first, second = (perception_run("run", run, PUBLISHED, generator()) for run in runs[:2])
        assert first.n_volumes == second.n_volumes == 178

    def test_nothing_gives_no_run(self):
        assert deal_images([], 50, generator()) == []


durations = st.floats(0.05, 40)
steps_in_a_row = st.lists(st.tuples(durations, st.sampled_from(StepKind), st.booleans()), min_size=1, max_size=25)


def with_gaps(rows):
    """Steps, a gap after some of them."""
    steps, onset_s = [], 0.0
    for duration_s, kind, leaves_gap in rows:
        steps.append(Step(onset_s, duration_s, kind, category="n1", stimulus="n1_1"))
        onset_s += duration_s + (1.5 if leaves_gap else 0)
    return steps


class TestSchedule:
    @given(steps_in_a_row, st.floats(-5, 1100))
    def test_the_step_at_a_time(self, rows, time_s):
        schedule = from_steps("run", 3.0, with_gaps(rows))
        found = [step for step in schedule.steps if step.onset_s <= time_s]
        expected = found[-1] if found and time_s < schedule.duration_s else None
        assert schedule.at(time_s) is expected

    @given(steps_in_a_row)
    def test_a_step_begins_at_its_onset_and_lasts_to_the_next(self, rows):
        schedule = from_steps("run", 3.0, with_gaps(rows))
        for step, following in pairwise(schedule.steps):
            assert schedule.at(step.onset_s) is step
            assert schedule.at(np.nextafter(following.onset_s, 0)) is step
        assert schedule.at(schedule.duration_s) is None

    def test_onsets_that_are_not_quite_zero(self):
        assert Schedule("run", 3.0, (Step(1e-6, 3.0, StepKind.REST),)).at(0.0) is not None

    @given(steps_in_a_row)
    def test_the_block_of_a_step_is_that_of_its_trial(self, rows):
        schedule = from_steps("run", 3.0, with_gaps(rows))
        assert schedule.trials == tuple(s for s in schedule.steps if s.kind in (StepKind.STIMULUS, StepKind.IMAGERY))
        for block, trial in enumerate(schedule.trials):
            assert schedule.block_of(trial) == block
        for step in schedule.steps:
            blocks = [block for block, trial in enumerate(schedule.trials) if trial.trial == step.trial]
            assert [schedule.block_of(step)] == (blocks or [None])

    @given(steps_in_a_row)
    def test_gaps_become_rest_and_nothing_else_changes(self, rows):
        given_steps = with_gaps(rows)
        schedule = from_steps("run", 3.0, reversed(given_steps))
        told = [(s.onset_s, s.duration_s, s.kind, s.category, s.stimulus) for s in schedule.steps]
        for step in given_steps:
            told.remove((step.onset_s, step.duration_s, step.kind, step.category, step.stimulus))
        assert all(duration_s == pytest.approx(1.5) and kind is StepKind.REST for _, duration_s, kind, *_ in told)

    def test_trials_begin_with_cues_images_and_imagery_without_a_cue(self):
        order = (
            "rest naming cue imagery evaluation cue inter_rest imagery imagery stimulus feedback rest stimulus cue cue"
        )
        steps = [Step(float(place), 1.0, StepKind(kind)) for place, kind in enumerate(order.split())]
        assert [step.trial for step in from_steps("run", 1.0, steps).steps] == [
            0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 4, 0, 5, 6, 7,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("steps", "complaint"),
        [
            ((), "nothing happens in it"),
            ((Step(1.0, 3.0, StepKind.REST),), "begins at 1 s"),
            ((Step(-1.0, 3.0, StepKind.REST),), "begins at -1 s"),
            ((Step(0.0, 0.0, StepKind.CUE),), "the cue at 0 s lasts 0 s"),
            ((Step(0.0, -1.0, StepKind.CUE),), "lasts -1 s"),
            ((Step(0.0, float("inf"), StepKind.CUE),), "lasts inf s"),
            ((Step(0.0, float("nan"), StepKind.CUE),), "lasts nan s"),
            (
                (Step(0.0, 3.0, StepKind.CUE), Step(2.0, 3.0, StepKind.REST)),
                "cue at 0 s ends at 3 s.*rest, begins at 2",
            ),
            ((Step(0.0, 3.0, StepKind.CUE), Step(4.0, 3.0, StepKind.REST)), "must follow each other"),
        ],
    )
    def test_what_is_no_schedule_is_named(self, steps, complaint):
        with pytest.raises(InputError, match=f"schedule run: .*{complaint}"):
            Schedule("run", 3.0, steps)

    def test_steps_that_overlap_are_not_filled(self):
        with pytest.raises(InputError, match=r"stimulus at 0 s ends at 9 s.*begins at 6 s"):
            from_steps("run", 3.0, [Step(6.0, 9.0, StepKind.STIMULUS), Step(0.0, 9.0, StepKind.STIMULUS)])

    @pytest.mark.parametrize("tr_s", [0.0, -3.0, float("nan"), float("inf")])
    def test_no_repetition_time(self, tr_s):
        with pytest.raises(InputError, match="repetition time above 0"):
            Schedule("run", tr_s, training_run().steps)

    @pytest.mark.parametrize(
        ("duration_s", "tr_s", "n_volumes"), [(534.0, 3.0, 178), (7.2, 0.72, 10), (0.1 * 3, 0.1, 3), (9.1, 3.0, 4)]
    )
    def test_volumes_cover_the_run_and_rounding_adds_none(self, duration_s, tr_s, n_volumes):
        assert Schedule("run", tr_s, (Step(0.0, duration_s, StepKind.REST),)).n_volumes == n_volumes

    def test_equal_by_its_steps_and_hashable(self):
        assert training_run(1) == training_run(1) != training_run(2)
        assert hash(training_run(1)) == hash(training_run(1))

    def test_asking_at_every_frame_costs_nothing(self):
        schedule = feedback_run("run", CATEGORIES * 4, PUBLISHED)
        step = schedule.steps[-2]
        n, ask = 2000, lambda: (schedule.at(step.onset_s), schedule.block_of(step))
        assert min(timeit.repeat(ask, number=n, repeat=5)) / n < 20e-6
