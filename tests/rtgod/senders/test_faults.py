"""What is sent when: every volume once at its time, but for the faults that are asked for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.senders.faults import Fault, Send, read_faults, schedule
from rtgod.senders.play import play
from tests.rtgod.senders.runs import N_VOLUMES, TR_S, Recorded


def order_of(*faults, n=6, **options):
    return [send.index + 1 for send in schedule(n, read_faults(faults), **options) if send.fault != Fault.MISSING]


def test_without_faults_every_volume_is_sent_when_it_is_whole():
    assert schedule(3, ()) == (Send(0, 1.0), Send(1, 2.0), Send(2, 3.0))


@pytest.mark.parametrize(
    ("fault", "order"),
    [
        ("late:2", [1, 3, 2, 4, 5, 6]),
        ("late:2+3", [1, 3, 4, 5, 2, 6]),
        ("late:2+0.5", [1, 2, 3, 4, 5, 6]),
        ("late:6", [1, 2, 3, 4, 5, 6]),
        ("doubled:2", [1, 2, 2, 3, 4, 5, 6]),
        ("missing:2", [1, 3, 4, 5, 6]),
        ("truncated:2", [1, 2, 3, 4, 5, 6]),
        ("out-of-order:2", [1, 3, 2, 4, 5, 6]),
        ("late:1,doubled:3, missing:4,out-of-order:5", [2, 1, 3, 3, 6, 5]),
    ],
)
def test_each_fault_is_what_it_says(fault, order):
    assert order_of(fault) == order


def test_a_late_volume_comes_between_the_next_and_the_one_after_it():
    (late,) = (send for send in schedule(6, read_faults(["late:2"])) if send.fault)
    assert (late.due_tr, late.fault) == (3.5, Fault.LATE)
    swapped = schedule(6, read_faults(["out-of-order:2"]))
    assert [(send.index, send.due_tr) for send in swapped[1:3]] == [(2, 3.0), (1, 3.0)]


def test_nothing_overtakes_a_late_volume_in_a_stream():
    sends = schedule(6, read_faults(["late:2+2"]), in_stream=True)
    assert [send.index for send in sends] == list(range(6))
    assert [send.due_tr for send in sends] == [1, 4, 4, 4, 5, 6]


kinds = st.sampled_from([*Fault])
drawn = st.lists(st.tuples(kinds, st.integers(0, 100)), max_size=5)


@given(st.integers(1, 60), drawn, st.integers(0, 99), st.booleans())
def test_every_volume_is_accounted_for(n, wishes, seed, in_stream):
    written = [f"{kind}:{percent}%" for kind, percent in wishes]
    sends = schedule(n, read_faults(written), seed, in_stream=in_stream)
    assert sends == schedule(n, read_faults(written), seed, in_stream=in_stream)
    n_sends = Counter(send.index for send in sends)
    doubled = {send.index for send in sends if send.fault is Fault.DOUBLED}
    assert n_sends == {index: 1 + (index in doubled) for index in range(n)}
    assert all(send.due_tr >= send.index + 1 for send in sends)
    assert [send.due_tr for send in sends] == sorted(send.due_tr for send in sends)
    clean = [send for send in sends if send.fault is None and send.index not in doubled]
    if not in_stream:
        assert all(send.due_tr == send.index + 1 for send in clean)


def test_a_share_is_drawn_from_the_seed():
    n_missing = [
        sum(send.fault is Fault.MISSING for send in schedule(2000, read_faults(["missing:5%"]), seed))
        for seed in range(5)
    ]
    assert len(set(n_missing)) > 1
    assert all(60 <= n <= 140 for n in n_missing)
    assert order_of("missing:0%") == order_of()
    assert order_of("missing:100%") == []


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("late", "write one of late, doubled, missing, truncated, out-of-order"), ("lost:3", "write one of"),
        ("late:0", "volumes count from 1"), ("late:-1", "write one of"), ("missing:3+2", "only what is late"),
        ("late:3+0", "a delay is more than 0"), ("late:120%", "shares end at 100 %"), ("", "write one of"),
        ("late:7", "the run has 6 volumes"), ("out-of-order:6", "and none after it"),
        ("late:3,doubled:3", "has another fault"), ("out-of-order:3,late:4", "has another fault"),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_named(written, says):
    with pytest.raises(InputError, match=says):
        schedule(6, read_faults([written]))


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text):
    try:
        read_faults([text])
    except InputError as error:
        assert "--fault" in str(error)  # noqa: PT017 # whether it is raised depends on the text


class Taken:
    """An export that writes down what it is given."""

    name, impossible, in_stream = "taken", {}, False

    def __init__(self):
        self.begun, self.sent, self.is_over = None, [], False

    def begin(self, run, voxels):
        self.begun = run, voxels
        return ["rounded"]

    def volume(self, volume, *, is_cut=False):
        self.sent.append((volume.index + 1, is_cut))

    def end(self):
        self.is_over = True


def test_a_run_is_played_at_its_pace_with_its_faults():
    export, waits, lines = Taken(), [], []
    wishes = read_faults(["doubled:2,missing:3,truncated:4,out-of-order:5"])
    sends = list(play(Recorded(), export, 2.0, wishes, 0, lines.append, waits.append))
    assert export.sent == [(1, False), (2, False), (2, False), (4, True), (6, False), (5, False)]
    assert export.is_over
    # Nothing really waits here, so every wait is from the start.
    assert waits == pytest.approx([send.due_tr * TR_S / 2 for send in sends], abs=0.5)
    assert lines == [
        "rounded", "fault: volume 2 is sent twice", "fault: volume 3 is missing",
        "fault: volume 4 is cut in the middle",
        "fault: volume 5 comes after the next one",
    ]  # fmt: skip


def test_a_volume_that_the_recording_lacks_is_told_and_costs_no_other():
    export, lines = Taken(), []
    list(play(Recorded(lost=[2]), export, float("inf"), read_faults(["late:2"]), 0, lines.append))
    assert [number for number, _ in export.sent] == [1, 2, 4, 5, 6]
    assert lines[1:] == ["volume 3 is not in the recording: not sent", "fault: volume 2 is late by 1.5 TR"]
    assert len(export.sent) == N_VOLUMES - 1
