"""What volumes came to is counted by reason, and who cannot be aligned is told of: at the start, and later."""

from dataclasses import replace

import pytest

from rtgod.messages import NotReady, Reason
from rtgod.server.tally import Tally, blinded, in_words
from tests import small

LOST_HEAD = replace(small.STILL, converged=False)


def astray(index=0, why="0 % of the template explained"):
    return NotReady("run-1", index, Reason.MOTION, why, LOST_HEAD)


ALIGNED = NotReady("run-1", 0, Reason.WARMING_UP, "", small.STILL)
MOVED = NotReady("run-1", 0, Reason.MOTION, "moved 3 mm", small.STILL)
BAD = NotReady("run-1", 0, Reason.BAD_VOLUME, "volume is constant")
LOST = NotReady("run-1", 0, Reason.LOST_VOLUME, "it never arrived")


def tally(*answers):
    counted = Tally()
    for answer in answers:
        counted.add(answer)
    return counted


def test_answers_are_counted_by_reason_and_a_head_that_moved_is_no_head_that_was_not_found():
    counted = tally(small.RANKING, small.RANKING, ALIGNED, MOVED, astray(), BAD, LOST)
    assert counted.answers == {
        "ranking": 2, "warming up": 1, "motion": 1, "not aligned": 1, "bad volume": 1, "lost volume": 1
    }  # fmt: skip


@pytest.mark.parametrize("first", [astray(), BAD])
def test_the_first_three_that_cannot_be_aligned_are_told_of_until_one_can(first):
    counted = tally(first, LOST, first)
    assert counted.notice("the bundle's head") == ""
    counted.add(first)
    assert counted.begins_astray
    notice = counted.notice("the bundle's head")
    assert notice.startswith("none of the first 3 volumes could be aligned to the bundle's head")
    assert first.detail in notice
    counted.add(astray(4))
    assert not counted.begins_astray
    assert counted.notice("the bundle's head")
    counted.add(ALIGNED)
    assert counted.notice("the bundle's head") == ""


def test_a_person_who_moves_is_not_told_of_before_five_in_a_row():
    counted = tally(ALIGNED, *[astray(), astray(), MOVED] * 4)
    assert counted.notice("the bundle's head") == ""
    counted = tally(ALIGNED, *[astray()] * 5)
    assert counted.notice("the bundle's head").startswith("the last 5 volumes")


@pytest.mark.parametrize("before", [(), (ALIGNED,)])
def test_what_is_told_does_not_change_with_each_volume(before):
    counted = tally(*before, *[astray(why=why) for why in ("lost", "lost", "lost", "lost", "half of it")])
    told = counted.notice("the bundle's head")
    for why in ("lost", "half of it"):
        counted.add(astray(why=why))
        assert counted.notice("the bundle's head") == told


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({}, "no rankings"),
        ({"ranking": 1}, "1 ranking"),
        (
            {"lost volume": 1, "warming up": 20, "ranking": 100},
            "100 rankings; not ranked: 20 warming up, 1 lost volume",
        ),
        (
            {"lost volume": 2, "bad volume": 3, "motion": 4},
            "no rankings; not ranked: 4 motion, 3 bad volumes, 2 lost volumes",
        ),
    ],
)
def test_counts_read_as_people_say_them(answers, words):
    assert in_words(answers) == words


def test_blinded_counts_tell_faults_alone():
    told = blinded({"ranking": 9, "between trials": 5, "motion": 1, "not aligned": 2, "lost volume": 1})
    assert told == {"in order": 15, "not aligned": 2, "lost volume": 1}
    assert in_words(told) == "15 in order, 2 not aligned, 1 lost volume"
