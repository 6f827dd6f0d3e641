"""What is left out is counted, with its reason."""

import numpy as np

from calibration.samples.left_out import LeftOutCounts, added, by_reason, tally, without_candidates


def test_trials_are_counted_by_their_reasons():
    found = tally("run-1", "trials seen", ["", "censored", "", "one-back repeat", "censored"])
    assert found.row() == ("run-1", "trials seen", 5, 2, 3, "2 censored, 1 one-back repeat")
    assert tally("run-1", "volumes", []).row() == ("run-1", "volumes", 0, 0, 0, "")


def test_tallies_of_one_set_add_up():
    some = [tally("training", "trials", ["", "a"]), tally("test", "trials", ["b"]), tally("training", "trials", ["a"])]
    assert added(some) == [
        LeftOutCounts("training", "trials", 1, {"a": 2}),
        LeftOutCounts("test", "trials", 0, {"b": 1}),
    ]


def test_each_reason_is_told_with_its_runs():
    some = [
        tally("run-1", "trials", ["", "a", "a"]),
        tally("run-2", "trials", ["", ""]),
        tally("run-3", "trials", ["b", "a"]),
    ]
    assert by_reason(some) == ["3 of 7 trials: a (2 in run-1, 1 in run-3)", "1 of 7 trials: b (1 in run-3)"]
    assert by_reason(some[1:2]) == by_reason([]) == []


def test_what_is_no_candidate_is_counted():
    assert without_candidates("tests", "trials seen", np.array([0, 3])) is None
    assert without_candidates("tests", "trials seen", np.array([0, -1, -1])).row()[3:] == (0, 2, "2 no candidate")
