"""Which runs a pattern means."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.datasets.run_patterns import RunPatterns, as_options
from rtgod.errors import InputError

NAMES = [f"sub-01_task-x_run-{n}_bold.nii.gz" for n in range(1, 13)]


def meant(*patterns, names=NAMES):
    """Numbers of the runs that patterns mean."""
    parsed = RunPatterns.parse(patterns)
    return [int(re.search(r"run-(\d+)", name)[1]) for name in names if parsed.match(name)]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], range(1, 13)),
        (["run-1"], [1]),  # not 10, 11, 12
        (["run-1", "run-7"], [1, 7]),
        (["run-1,run-7"], [1, 7]),
        (["run-1..6"], range(1, 7)),
        (["run-[1-6]"], range(1, 7)),
        (["run-1?_"], [10, 11, 12]),
        (["run-1*"], [1, 10, 11, 12]),
        (["x*run-[!1-9]"], []),
        (["not:run-7"], [n for n in range(1, 13) if n != 7]),
        (["task-x", "not:run-1..6"], range(7, 13)),
        (["Training"], []),
    ],
)
def test_a_pattern_means_whole_numbers(patterns, expected):
    assert meant(*patterns) == list(expected)


def test_leading_zeros_do_not_count():
    names = ["ses-Training01_run-01", "ses-Training01_run-10", "ses-Training02_run-01"]
    assert meant("run-1", names=names) == [1, 1]
    assert meant("Training", names=names) == [1, 10, 1]  # a part of a word is found, as ever
    assert meant("Training1*run-01", names=names) == [1]


@given(st.text("ab-_.", max_size=4), st.integers(0, 120), st.integers(0, 120))
def test_a_number_is_found_where_the_same_number_stands(before, number, other):
    assert RunPatterns.parse([f"{before}run-{number}"]).match(f"{before}run-{other:03d}_x") == (number == other)


@given(st.text(max_size=12))
def test_whatever_is_written_is_read_or_refused(text):
    with contextlib.suppress(InputError):
        RunPatterns.parse([text]).match("sub-01_run-01_bold.nii.gz")


@pytest.mark.parametrize("text", ["run-6..1", "run-1..99999"])
def test_a_range_that_does_not_ascend_or_has_no_end_is_refused(text):
    with pytest.raises(InputError, match=r"lower number first"):
        RunPatterns.parse([text])


def test_what_not_holds_for_must_be_clear():
    with pytest.raises(InputError, match="pattern not:run-1,run-2: does not: hold for the first or for all"):
        RunPatterns.parse(["not:run-1,run-2"])
    assert RunPatterns.parse(["not:run-1,not:run-2"]).unwanted == ("run-1", "run-2")
    assert RunPatterns.parse(["run-2,not:run-1"]).wanted == ("run-2",)


def test_what_is_found_nowhere_is_named_as_it_was_written():
    assert RunPatterns.parse(["run-1", "run-77", "not:echo-1"]).unmatched(NAMES) == ("run-77", "not:echo-1")


def test_a_default_holds_where_nothing_says_what_is_wanted():
    assert RunPatterns.parse(None, "Training").wanted == ("Training",)
    assert RunPatterns.parse(["not:echo-1"], "Training") == RunPatterns(("Training",), ("echo-1",))
    assert RunPatterns.parse(["Test"], "Training").wanted == ("Test",)


def test_options_are_quoted_where_a_shell_would_read_them_otherwise():
    assert as_options("--test", ["run-1", "run-[23]"]) == "--test run-1 --test 'run-[23]'"
