"""Which series of one volume each are of one run."""

import random

from hypothesis import given
from hypothesis import strategies as st

from rtgod.sources.dicom.lone_series import LoneSeries, runs_of

DAY_S = 86400.0
TR_S = st.floats(0.4, 10)
GAPS = st.lists(st.integers(1, 60), min_size=1, max_size=30)


@given(TR_S, st.integers(1, 10_000), GAPS, st.floats(0, DAY_S, exclude_max=True), st.randoms(use_true_random=False))
def test_volumes_at_the_pace_of_the_scanner_are_one_run_whichever_are_lost(tr_s, number, gaps, at_s, shuffling):
    turns = [(number + n, (at_s + n * tr_s) % DAY_S) for n in (sum(gaps[:k]) for k in range(len(gaps) + 1))]
    shuffled: random.Random = shuffling
    shuffled.shuffle(turns)
    assert [sorted(run) for run in runs_of(turns, tr_s)] == [list(range(len(turns)))]


@given(TR_S, st.integers(3, 20), st.integers(3, 20), st.integers(0, 20), st.floats(6, 400), st.randoms())
def test_runs_between_which_more_than_five_repetition_times_pass_are_two(tr_s, n_one, n_other, n_between, rest, turn):
    """Where numbers were used between, more passes than these volumes would take."""
    one = [(100 + n, n * tr_s) for n in range(n_one)]
    first, at_s = 100 + n_one + n_between, (n_one + n_between + rest) * tr_s
    turns = one + [(first + n, at_s + n * tr_s) for n in range(n_other)]
    turn.shuffle(turns)
    runs = runs_of(turns, tr_s)
    assert sorted(sorted(turns[at] for at in run)[0] for run in runs) == [(100, 0.0), (first, at_s)]


@given(TR_S, st.lists(st.tuples(st.integers(0, 50), st.none() | st.floats(0, DAY_S, exclude_max=True)), max_size=30))
def test_every_volume_is_in_one_run(tr_s, turns):
    for known_s in (tr_s, 0.0):
        assert sorted(at for run in runs_of(turns, known_s) for at in run) == list(range(len(turns)))
    assert len(runs_of(turns, 0.0)) == bool(turns)


def test_what_goes_on_after_the_end_is_in_time():
    series = LoneSeries(2.0)
    for n in range(5):
        series.add((100 + n, 2.0 * n))
    assert series.takes((105, 10.0), in_time=True)
    assert series.takes((105, 15.0))
    assert not series.takes((105, 15.0), in_time=True)
    assert not series.takes((105, 25.0))
