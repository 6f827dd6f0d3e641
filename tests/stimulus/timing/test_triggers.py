"""Where pulses come from: every source on fakes, the serial port on a pseudo-terminal as well."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from dataclasses import replace
from threading import Event
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rtgod.errors import InputError, MissingDependencyError
from rtgod.messages import Reason, RunEnd, SessionEnd
from stimulus.timing.triggers import (
    ByteReader,
    DevicePulses,
    EdgeReader,
    KeyPress,
    SampleReader,
    TriggerSettings,
    open_pulses,
)

TR_S = 3.0
WAIT_S = 10.0


class Clock:
    """Stands still, unless the test moves it or waits."""

    def __init__(self, now_s=100.0):
        self.now_s = now_s

    def __call__(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock():
    return Clock()


def opened(clock, n_pulses=5, **chosen):
    return closing(open_pulses(TriggerSettings(**chosen), clock, TR_S, n_pulses))


class Device:
    """Gives what a script says, then nothing; an exception in it is raised."""

    def __init__(self, *script):
        self.script, self.done, self.released = list(script), Event(), Event()

    def read(self):
        if self.script:
            given = self.script.pop(0)
            if isinstance(given, Exception):
                raise given
            return given
        self.done.set()
        self.released.wait(0.01)
        return None


# Keyboard


def test_only_the_keys_in_the_settings_are_pulses(clock):
    with opened(clock, keys=("5", "t")) as pulses:
        keys = [KeyPress("t", 3.0), KeyPress("escape", 1.0), KeyPress("5", 2.0), KeyPress("num_5", 2.5)]
        assert pulses.poll(keys, []) == [2.0, 3.0]
        assert pulses.poll([], []) == []


# Emulated


def test_an_emulated_scanner_keeps_time_to_the_bit(clock):
    with opened(clock, kind="emulated", delay_s=1.5, n_pulses=3) as pulses:
        assert pulses.poll([], []) == []
        clock.now_s = 101.5
        assert pulses.poll([], []) == [101.5]
        clock.now_s = 999.0
        assert pulses.poll([], []) == [104.5, 107.5]
        assert pulses.poll([], []) == []


# The server's first answer


class FromServer:
    """Polls at given times with given messages; collects the pulses."""

    def __init__(self, clock):
        self.clock = clock
        self.pulses = open_pulses(TriggerSettings(kind="server"), clock, TR_S, 1)
        self.seen = []

    def at(self, at_s, *messages):
        self.clock.now_s = at_s
        self.seen += self.pulses.poll([], messages)
        return self


@pytest.fixture
def server(clock):
    return FromServer(clock)


def test_the_first_answer_is_the_end_of_volume_0_and_no_later_one_counts(server, run, not_ready, hello):
    server.at(0, hello).at(5, run).at(8, not_ready(index=0)).at(8.1, not_ready(index=0)).at(11, not_ready(index=1))
    assert server.seen == [8 - TR_S]


def test_the_age_of_a_ranking_is_taken_off(server, run, ranking):
    server.at(0).at(5, run, replace(ranking(0), age_s=0.25, stage_ms={"align": 100.0}))
    assert server.seen == [5 - TR_S - 0.25]


def test_where_no_age_is_given_the_time_of_the_stages_is_taken_off(server, run, not_ready):
    server.at(0).at(5, run, replace(not_ready(index=0), stage_ms={"receive": 50.0, "align": 200.0}))
    assert server.seen == [5 - TR_S - 0.25]


def test_each_run_gives_one_pulse(server, run, not_ready):
    server.at(0).at(5, run).at(8, not_ready()).at(9, RunEnd("run-1", 1))
    server.at(20, replace(run, run_id="run-2")).at(23, not_ready(run_id="run-2"))
    assert server.seen == [5, 20]


def test_the_same_run_in_another_session_counts_again(server, run, not_ready):
    server.at(0).at(5, run, not_ready()).at(9, SessionEnd(0.0)).at(20, run).at(23, not_ready())
    assert server.seen == [2, 20]


@pytest.mark.parametrize("index", [0, 7])
def test_a_run_that_was_under_way_before_the_first_poll_starts_nothing(server, run, not_ready, hello, index):
    server.at(0, hello, run, not_ready(index=index)).at(3, not_ready(index=index + 1)).at(4, hello, run)
    assert server.at(6, not_ready(index=0)).seen == []


@pytest.mark.parametrize("index", [0, 7])
def test_nor_does_one_that_is_told_a_late_joiner_in_two_polls(server, run, not_ready, hello, index):
    server.at(0).at(0.5, hello, run).at(0.516, not_ready(index=index)).at(3.5, not_ready(index=index + 1))
    assert server.seen == []


def test_nor_does_one_whose_header_alone_came_before_the_first_poll(server, run, not_ready, hello):
    assert server.at(0, hello, run).at(3, not_ready(index=0)).seen == []


def test_nor_what_is_repeated_just_after_the_first_poll(server, run, not_ready, hello):
    assert server.at(0, hello).at(0.016, run).at(0.25, not_ready(index=0)).seen == []


def test_nor_one_whose_first_answer_is_not_of_volume_0(server, run, not_ready):
    server.at(0).at(5, run).at(8, not_ready(index=1)).at(9, not_ready(index=0))
    assert server.seen == []


@pytest.mark.parametrize("reason", [Reason.LOST_VOLUME, Reason.BEHIND])
def test_nor_one_whose_volume_0_came_late(server, run, not_ready, reason):
    server.at(0).at(5, run).at(14, not_ready(reason, index=0)).at(14, not_ready(index=3))
    assert server.seen == []


def test_nor_what_a_server_says_again_after_it_was_gone(server, run, not_ready, hello):
    server.at(0, hello).at(1, hello).at(9, hello, run, not_ready(index=0)).at(12, not_ready(index=1))
    assert server.seen == []


def test_nor_a_run_whose_first_answer_fell_into_a_broken_connection(server, run, not_ready, hello):
    server.at(0, hello).at(5, hello, run).at(15, hello, run, not_ready(index=0))
    assert server.seen == []


def test_another_display_that_joins_before_the_first_answer_changes_nothing(server, run, not_ready, hello):
    server.at(0, hello).at(1, hello, run).at(1.9, hello, run).at(2.0, not_ready())
    assert server.seen == [2.0 - TR_S]


def test_an_answer_of_another_run_is_none(server, run, not_ready):
    server.at(0).at(5, not_ready(run_id="run-0"), run, not_ready(run_id="run-0")).at(8, not_ready())
    assert server.seen == [5]


# Devices, by fakes


def test_a_thread_stamps_pulses_between_two_polls():
    device = Device(1.0, None, 1.25, 1.5)
    with closing(DevicePulses("box", device.read, device.released.set)) as pulses:
        assert device.done.wait(WAIT_S)
        assert pulses.poll([], []) == [1.0, 1.25, 1.5]
        assert pulses.poll([], []) == []


def test_closing_releases_the_device_once_however_often():
    device, n_released = Device(), []
    pulses = DevicePulses("box", device.read, lambda: n_released.append(device.released.set()))
    pulses.close()
    pulses.close()
    assert len(n_released) == 1


def test_the_display_gives_way_to_the_thread_at_once_as_long_as_it_listens():
    device, usual_s = Device(), sys.getswitchinterval()
    with closing(DevicePulses("box", device.read, device.released.set)):
        assert sys.getswitchinterval() == pytest.approx(0.001)
    assert sys.getswitchinterval() == usual_s


def test_closing_does_not_wait_for_a_driver_that_never_returns(monkeypatch):
    monkeypatch.setattr("stimulus.timing.triggers._CLOSE_S", 0.01)
    stuck, entered, returned = Event(), Event(), Event()

    def read():
        entered.set()
        stuck.wait(WAIT_S)
        returned.set()

    pulses = DevicePulses("box", read)
    assert entered.wait(WAIT_S)
    pulses.close()
    assert not returned.is_set()
    stuck.set()
    pulses.close()
    assert returned.is_set()


def test_a_device_that_fails_in_mid_run_is_told_once_after_its_last_pulses():
    device = Device(1.0, OSError("unplugged"))
    pulses = DevicePulses("serial port COM3", device.read, device.released.set)
    assert device.released.wait(WAIT_S)
    pulses.close()
    assert pulses.poll([], []) == [1.0]
    with pytest.raises(InputError, match="serial port COM3 gives no more triggers: OSError: unplugged"):
        pulses.poll([], [])
    assert pulses.poll([], []) == []


@given(widths_s=st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(0.001, 0.1)), max_size=8))
def test_every_edge_is_seen_within_half_a_millisecond(widths_s):
    """Each pulse is low for a while, then high for a while; the shortest are far shorter than a frame."""
    clock, rises_s, falls_s = Clock(0.0), [], []
    for low_s, high_s in widths_s:
        rises_s.append((falls_s[-1] if falls_s else 0.0) + low_s)
        falls_s.append(rises_s[-1] + high_s)

    def pin():
        return any(rise_s <= clock.now_s < fall_s for rise_s, fall_s in zip(rises_s, falls_s, strict=True))

    reader = EdgeReader(pin, clock, clock.wait)
    seen_s = []
    while clock.now_s < 2.0:
        at_s = reader()
        if at_s is not None:
            seen_s.append(at_s)
    assert len(seen_s) == len(rises_s)
    assert all(0 <= seen - rise < 0.0006 for seen, rise in zip(seen_s, rises_s, strict=True))


def test_a_pin_that_is_high_from_the_beginning_is_no_pulse(clock):
    reader = EdgeReader(lambda: True, clock, clock.wait)
    assert [reader() for _ in range(5)] == [None] * 5


@pytest.mark.parametrize(("byte", "expected"), [(None, [100.0, 100.0, None]), (53, [None, 100.0, None])])
def test_bytes(clock, byte, expected):
    received = iter([b"\x00", b"5", b""])
    reader = ByteReader(lambda: next(received), clock, byte)
    assert [reader() for _ in range(3)] == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("", [100.0, 100.0, 100.0, None]), ("5", [None, 100.0, 100.0, None]), ("TR", [100.0, None, None, None])],
)
def test_samples(clock, wanted, expected):
    pulled = iter([["TR"], [5], [0.5, 5.0], None])
    reader = SampleReader(lambda: next(pulled), clock, wanted)
    assert [reader() for _ in range(4)] == expected


# Opening devices


def test_a_serial_port_and_its_end(clock):
    pytest.importorskip("serial")
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with opened(clock, kind="serial", port=os.ttyname(theirs), byte=53) as pulses:
        os.write(ours, b"x5")
        assert first_of(pulses) == [100.0]
        os.close(theirs)
        os.close(ours)
        with pytest.raises(InputError, match=r"serial port /dev/.* gives no more triggers"):
            first_of(pulses)


def first_of(pulses):
    """The pulses of the first poll that has some, waiting for the device's thread."""
    pause = Event()
    for _ in range(int(WAIT_S / 0.01)):
        if seen := pulses.poll([], []):
            return seen
        pause.wait(0.01)
    raise AssertionError("no pulse")


def test_a_serial_port_that_is_not_there_names_those_that_are(clock, monkeypatch):
    pytest.importorskip("serial")
    ports = [SimpleNamespace(device="COM7"), SimpleNamespace(device="COM8")]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    for port in ("", "/dev/nowhere"):
        with pytest.raises(InputError, match=rf"'{port}' cannot be opened .*those that are there: COM7, COM8"):
            opened(clock, kind="serial", port=port)


@pytest.fixture
def parallel(monkeypatch):
    """A parallel port whose pin 12 goes high at the third look."""
    levels = iter([0, 0])
    port = SimpleNamespace(readPin=lambda pin: next(levels, 1) if pin == 12 else 0)
    fake = SimpleNamespace(ParallelPort=lambda address: port)  # noqa: ARG005
    monkeypatch.setitem(sys.modules, "parallel", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "psychopy", SimpleNamespace(parallel=fake))
    monkeypatch.setitem(sys.modules, "psychopy.parallel", fake)
    return fake


def test_a_parallel_port(clock, parallel):  # noqa: ARG001
    with opened(clock, kind="parallel", port="0x378", pin=12) as pulses:
        assert first_of(pulses) == [100.0]


def test_a_parallel_port_that_cannot_be_opened_says_what_to_do(clock, parallel):
    def missing(address):
        raise FileNotFoundError(2, "No such file or directory", address)

    parallel.ParallelPort = missing
    with pytest.raises(InputError, match=r"parallel port '/dev/parport7' cannot be opened .*modprobe ppdev"):
        opened(clock, kind="parallel", port="/dev/parport7")


class FakeLsl:
    """Streams by name; each is connected to unless it is called "shy", and gives one sample before it is lost."""

    def __init__(self, *names):
        self.streams = [SimpleNamespace(name=lambda name=name: name) for name in names]
        self.closed = Event()

    def resolve_byprop(self, prop, value, timeout):
        assert (prop, timeout) == ("name", 5.0)
        return [stream for stream in self.streams if stream.name() == value]

    def resolve_streams(self, wait_time):
        assert wait_time <= 5
        return self.streams

    def StreamInlet(self, info, recover):  # noqa: N802
        assert not recover
        samples = [(None, None), (["TR"], 17.0)]

        def open_stream(timeout):
            if info.name() == "shy":
                raise RuntimeError(f"not within {timeout} s")

        def pull_sample(timeout):
            assert timeout == 0.1
            if samples:
                return samples.pop(0)
            raise RuntimeError("the stream has been lost")

        return SimpleNamespace(open_stream=open_stream, pull_sample=pull_sample, close_stream=self.closed.set)


@pytest.fixture
def lsl(monkeypatch):
    fake = FakeLsl("scanner", "eeg", "eeg", "shy")
    monkeypatch.setitem(sys.modules, "pylsl", fake)
    return fake


def test_an_lsl_stream_and_its_end(clock, lsl):
    with opened(clock, kind="lsl", stream="scanner", sample="TR") as pulses:
        assert lsl.closed.wait(WAIT_S)
        assert first_of(pulses) == [100.0]
        with pytest.raises(InputError, match=r"LSL stream scanner gives no more triggers: .*lost"):
            first_of(pulses)


@pytest.mark.parametrize("stream", ["", "scaner"])
def test_an_lsl_stream_that_is_not_there_names_those_that_are(clock, lsl, stream):  # noqa: ARG001
    with pytest.raises(InputError, match=rf"no LSL stream is named '{stream}'; .*: eeg, scanner, shy"):
        opened(clock, kind="lsl", stream=stream)


def test_an_lsl_stream_that_does_not_connect_is_named(clock, lsl):  # noqa: ARG001
    with pytest.raises(InputError, match="LSL stream 'shy' cannot be opened"):
        opened(clock, kind="lsl", stream="shy")


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [
        ("serial", "serial", "pyserial"),
        ("lsl", "pylsl", "pylsl"),
        pytest.param(
            "parallel",
            "parallel",
            "pyparallel",
            marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other drivers there"),
        ),
    ],
)
def test_a_missing_package_is_named(clock, monkeypatch, kind, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=f"install with: python -m pip install {package}"):
        opened(clock, kind=kind)


@pytest.mark.parametrize(
    "impossible",
    [
        {"kind": "server", "n_dummies": 1},
        {"keys": ()},
        {"pin": 4},
        {"byte": 256},
        {"patience_s": 0},
        {"n_dummies": -1},
        {"delay_s": float("inf")},
        {"kind": "usb"},
        {"key": "5"},
    ],
)
def test_impossible_settings_are_refused(impossible):
    with pytest.raises(ValidationError):
        TriggerSettings(**impossible)


def test_settings_come_from_a_file(tmp_path):
    path = tmp_path / "trigger.toml"
    path.write_text('kind = "serial"\nport = "COM3"\nbyte = 53\n', encoding="utf-8")
    assert TriggerSettings.from_toml(path) == TriggerSettings(kind="serial", port="COM3", byte=53)
