"""Sources of trigger pulses: keys, ports, streams, the server's first answer, or the clock alone.

Each source gives the times of its pulses. `stimulus.timing.trigger_clock` finds out what they mean.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from threading import Event, Thread
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Self

from pydantic import Field, model_validator

from rtgod.errors import InputError, MissingDependencyError
from rtgod.files import Closing
from rtgod.messages import Hello, Message, NotReady, Ranking, Reason, Run, SessionEnd
from rtgod.settings import AtLeastOne, Count, NotNegative, Positive, Settings

#: Longest time that a read of a device waits, so that the device can be closed, seconds.
_READ_S = 0.1
#: Time between two looks at a pin, seconds: a pulse of a few ms is not missed, and its time is known as precisely.
_EDGE_S = 0.0005
#: Python's thread switch interval while a device is read, seconds; its usual 5 ms would make time stamps that late.
_SWITCH_S = 0.001
#: Longest time to find an LSL stream, and to connect to it, seconds.
_FIND_S = 5.0
#: Time after which a device whose driver does not return is left behind, seconds.
_CLOSE_S = 1.0
#: Silence after which a server counts as out of reach, seconds: it sends something each second.
_SILENT_S = 2.5
#: A server repeats its last messages to whoever connects; they come within this time of its first message, seconds.
_REPEATED_S = 0.2


class KeyPress(NamedTuple):
    """A key that was pressed.

    Attributes
    ----------
    name : str
        PsychoPy's name of the key: "5", "t", "space".
    at_s : float
        Time by the display's clock, seconds.
    """

    name: str
    at_s: float


class TriggerSettings(Settings):
    """Settings of the source of the scanner's pulses."""

    kind: Literal["keyboard", "serial", "parallel", "lsl", "server", "emulated"] = "keyboard"
    #: Keyboard: PsychoPy's names of the keys that count as a pulse.
    keys: Annotated[tuple[str, ...], Field(min_length=1)] = ("5", "t")
    #: Serial: the port, such as /dev/ttyUSB0 or COM3. Parallel: an address such as 0x378, or /dev/parport0.
    port: str = ""
    baud_rate: AtLeastOne = 115_200
    #: Serial: the byte that is a pulse; if not set, any byte is.
    byte: Annotated[int, Field(ge=0, le=255)] | None = None
    #: Parallel: the status pin whose rising edge is a pulse.
    pin: Literal[10, 11, 12, 13, 15] = 10
    #: LSL: name of the stream.
    stream: str = ""
    #: LSL: value of the samples that are pulses; if empty, any sample is.
    sample: str = ""
    #: Number of pulses before volume 0.
    n_dummies: Count = 0
    #: Whether the scanner sends a pulse for each volume, or only for the first.
    every_volume: bool = True
    #: Emulated: time from the program's readiness to the first pulse, seconds.
    delay_s: NotNegative = 1.0
    #: Time without a pulse after which the operator is told, seconds.
    patience_s: Positive = 60.0

    @model_validator(mode="after")
    def _server_counts_from_volume_0(self) -> Self:
        if self.kind == "server" and self.n_dummies:
            raise ValueError('with kind = "server" volume 0 is the only pulse, so n_dummies must be 0')
        return self


class Pulses(Protocol):
    """A source of pulses."""

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:
        """Return the times of the pulses since the last call, by the display's clock, ascending, without waiting.

        Parameters
        ----------
        keys : sequence of KeyPress
            Keys pressed since the last call.
        messages : sequence of Message
            The server's messages since the last call.
        """

    def close(self) -> None:
        """Release the device, within a second or so; may be called twice."""


def open_pulses(settings: TriggerSettings, clock: Callable[[], float], tr_s: float, n_pulses: int) -> Pulses:
    """Open the source of pulses that the settings name.

    Parameters
    ----------
    settings : TriggerSettings
    clock : callable
        The display's clock, seconds; called from another thread, too.
    tr_s : float
        Repetition time, seconds.
    n_pulses : int
        Number of pulses that an emulated scanner gives, including dummies.

    Raises
    ------
    InputError
        If the device cannot be opened.
    MissingDependencyError
        If the package for it is not installed.
    """
    match settings.kind:
        case "keyboard":
            return KeyPulses(settings.keys)
        case "serial":
            return _open_serial(settings, clock)
        case "parallel":
            return _open_parallel(settings, clock)
        case "lsl":
            return _open_lsl(settings, clock)
        case "server":
            return ServerPulses(clock, tr_s)
        case "emulated":
            first_s = clock() + settings.delay_s
            return EmulatedPulses(clock, [first_s + n * tr_s for n in range(n_pulses)])


class KeyPulses(Closing):
    """Pulses from keys of a keyboard, or of a box that behaves like one.

    Parameters
    ----------
    names : sequence of str
        PsychoPy's names of the keys that count as a pulse.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:  # noqa: ARG002
        """Return the times of the pressed keys that count as a pulse.

        Parameters
        ----------
        keys : sequence of KeyPress
            Keys pressed since the last call.
        messages : sequence of Message
            Not used.
        """
        return sorted(key.at_s for key in keys if key.name in self._names)

    def close(self) -> None:
        """Do nothing: no device is held."""


class EmulatedPulses(Closing):
    """Pulses at given times, with no scanner.

    Parameters
    ----------
    clock : callable
        The display's clock, seconds.
    due_s : sequence of float
        Times of the pulses by that clock, ascending.
    """

    def __init__(self, clock: Callable[[], float], due_s: Sequence[float]) -> None:
        self._clock, self._due_s = clock, deque(due_s)

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:  # noqa: ARG002
        """Return the planned times that have come, equal to the planned ones to the last bit.

        Parameters
        ----------
        keys : sequence of KeyPress
            Not used.
        messages : sequence of Message
            Not used.
        """
        now_s = self._clock()
        pulses = []
        while self._due_s and self._due_s[0] <= now_s:
            pulses.append(self._due_s.popleft())
        return pulses

    def close(self) -> None:
        """Do nothing: no device is held."""


class ServerPulses(Closing):
    """A single pulse for each run: the server's answer to volume 0 marks its end, so the volume began a TR earlier.

    Whenever somebody connects, a server repeats the current run and its last answer to all. A run that was
    under way before the first poll, or that is heard of when a server comes (back) into reach, gives no pulse; nor does
    a run whose volume 0 was answered late, because the volume was lost or the server was behind.

    Parameters
    ----------
    clock : callable
        The display's clock, seconds.
    tr_s : float
        Repetition time, seconds.
    """

    def __init__(self, clock: Callable[[], float], tr_s: float) -> None:
        self._clock, self._tr_s = clock, tr_s
        self._run_id: str | None = None
        self._awaited = False
        self._heard_s = -math.inf
        self._repeated_until_s = math.inf

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:  # noqa: ARG002
        """Return the onset of volume 0 if its answer is among the messages, else nothing.

        Parameters
        ----------
        keys : sequence of KeyPress
            Not used.
        messages : sequence of Message
            The server's messages since the last call.
        """
        now_s = self._clock()
        pulses = []
        for message in messages:
            match message:
                case Hello() if now_s - self._heard_s > _SILENT_S:
                    self._repeated_until_s = now_s + _REPEATED_S
                case Run() if message.run_id != self._run_id:
                    self._run_id, self._awaited = message.run_id, now_s >= self._repeated_until_s
                case Ranking() | NotReady() if message.run_id == self._run_id and self._awaited:
                    self._awaited = False
                    if now_s >= self._repeated_until_s and _tells_end_of_first_volume(message):
                        pulses.append(now_s - self._tr_s - _age_s(message))
                case SessionEnd():
                    self._run_id = None  # the next session may use its name
            self._heard_s = now_s
        if self._repeated_until_s == math.inf:  # messages from before the first poll
            self._repeated_until_s = now_s + _REPEATED_S
        return pulses

    def close(self) -> None:
        """Do nothing: no device is held."""


def _tells_end_of_first_volume(answer: Ranking | NotReady) -> bool:
    late = isinstance(answer, NotReady) and answer.reason in (Reason.LOST_VOLUME, Reason.BEHIND)
    return answer.index == 0 and not late


def _age_s(answer: Ranking | NotReady) -> float:
    """Return the seconds since the source had the volume, as far as the answer tells."""
    if isinstance(answer, Ranking) and answer.age_s is not None:
        return answer.age_s
    return sum(answer.stage_ms.values()) / 1e3


class DevicePulses(Closing):
    """Pulses from a device; a thread listens for them, as the display may be drawing when one comes.

    Parameters
    ----------
    device : str
        Name of the device in messages.
    read : callable
        Returns the time of a pulse, or None after a short while without one.
    release : callable, optional
        Releases the device; the thread calls it at its end.
    """

    def __init__(
        self, device: str, read: Callable[[], float | None], release: Callable[[], object] = lambda: None
    ) -> None:
        self._device, self._read, self._release = device, read, release
        self._times: deque[float] = deque()
        self._failure: Exception | None = None
        self._closing = Event()
        self._usual_switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        self._thread = Thread(target=self._listen, name=f"triggers from {device}", daemon=True)
        self._thread.start()

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:  # noqa: ARG002
        """Return the times of the pulses since the last call.

        Parameters
        ----------
        keys : sequence of KeyPress
            Not used.
        messages : sequence of Message
            Not used.

        Raises
        ------
        InputError
            Once, if the device has failed; no more pulses come then.
        """
        pulses = [self._times.popleft() for _ in range(len(self._times))]
        if self._failure is not None and not pulses:
            failure, self._failure = self._failure, None
            raise InputError(f"{self._device} gives no more triggers: {_what(failure)}; check its cable and its power")
        return pulses

    def close(self) -> None:
        """End the thread; a thread whose driver does not return is left behind."""
        self._closing.set()
        self._thread.join(_CLOSE_S)
        sys.setswitchinterval(self._usual_switch_s)

    def _listen(self) -> None:
        try:
            try:
                while not self._closing.is_set():
                    at_s = self._read()
                    if at_s is not None:
                        self._times.append(at_s)
            finally:
                self._release()
        except Exception as error:  # noqa: BLE001 # drivers' errors have no class in common; `poll` raises it
            self._failure = error


class EdgeReader:
    """Reader of a pin's state; a rising edge is a pulse.

    Parameters
    ----------
    read_pin : callable
        Returns whether the pin is high.
    clock : callable
        The display's clock, seconds.
    wait : callable, optional
        Waits for a number of seconds; called before each look at the pin.
    """

    def __init__(
        self, read_pin: Callable[[], bool], clock: Callable[[], float], wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._read_pin, self._clock, self._wait = read_pin, clock, wait
        self._high = read_pin()

    def __call__(self) -> float | None:
        """Wait for `_EDGE_S`, look at the pin once, and return the time of a rising edge, or None."""
        self._wait(_EDGE_S)
        was_high, self._high = self._high, self._read_pin()
        return self._clock() if self._high and not was_high else None


class ByteReader:
    """Reader of a serial port's next byte.

    Parameters
    ----------
    read : callable
        Returns one byte, or no byte after a short while without one.
    clock : callable
        The display's clock, seconds.
    byte : int or None
        The byte that is a pulse; with None every byte is.
    """

    def __init__(self, read: Callable[[], bytes], clock: Callable[[], float], byte: int | None = None) -> None:
        self._read, self._clock, self._byte = read, clock, byte

    def __call__(self) -> float | None:
        """Wait a short while for a byte, and return the time of a pulse, or None."""
        received = self._read()
        return self._clock() if received and self._byte in (None, received[0]) else None


class SampleReader:
    """Reader of an LSL stream's next sample.

    Parameters
    ----------
    pull : callable
        Returns the sample's channels, or None after a short while without a sample.
    clock : callable
        The display's clock, seconds.
    wanted : str
        A sample is a pulse if one of its channels has this value; if empty, every sample is.
    """

    def __init__(self, pull: Callable[[], Sequence[Any] | None], clock: Callable[[], float], wanted: str = "") -> None:
        self._pull, self._clock, self._wanted = pull, clock, wanted

    def __call__(self) -> float | None:
        """Wait a short while for a sample, and return the time of a pulse, or None."""
        sample = self._pull()
        if sample is None or (self._wanted and self._wanted not in map(_text, sample)):
            return None
        return self._clock()


def _text(value: Any) -> str:
    """Write a channel's value as people do: a trigger of 5 is 5.0 in a stream of floats."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _open_serial(settings: TriggerSettings, clock: Callable[[], float]) -> Pulses:
    serial = _imported("serial", "pyserial")
    try:
        port = serial.Serial(settings.port, settings.baud_rate, timeout=_READ_S)
    except (OSError, ValueError) as error:
        ports = _listed(port.device for port in import_module("serial.tools.list_ports").comports())
        raise InputError(
            f"triggers: serial port {settings.port!r} cannot be opened ({error}); those that are there: {ports}"
        ) from error
    return DevicePulses(
        f"serial port {settings.port}", ByteReader(lambda: port.read(1), clock, settings.byte), port.close
    )


def _open_parallel(settings: TriggerSettings, clock: Callable[[], float]) -> Pulses:
    if sys.platform.startswith("linux"):
        _imported("parallel", "pyparallel")
    # PsychoPy is a library here: it must not move this process's site-packages to a folder of its own.
    os.environ.setdefault("PSYCHOPYNOPACKAGES", "1")
    parallel = _imported("psychopy.parallel", "'rtgod[display]'")
    try:
        port = parallel.ParallelPort(settings.port)
        reader = EdgeReader(lambda: bool(port.readPin(settings.pin)), clock)
    except Exception as error:  # PsychoPy's three drivers raise errors of any class
        raise InputError(
            f"triggers: parallel port {settings.port!r} cannot be opened ({_what(error)}); on Linux give /dev/parport0 "
            "after `sudo modprobe -r lp && sudo modprobe ppdev`, as a member of the group lp; on Windows give the "
            "address that the device manager shows, such as 0x378, with inpoutx64.dll installed"
        ) from error
    return DevicePulses(f"parallel port {settings.port}", reader)


def _open_lsl(settings: TriggerSettings, clock: Callable[[], float]) -> Pulses:
    pylsl = _imported("pylsl", "pylsl")
    streams = pylsl.resolve_byprop("name", settings.stream, timeout=_FIND_S) if settings.stream else []
    if not streams:
        names = sorted({stream.name() for stream in pylsl.resolve_streams(1.0)})
        raise InputError(
            f"triggers: no LSL stream is named {settings.stream!r}; those that are there: {_listed(names)}"
        )
    # With recover=False a lost stream raises an error; else it would be silent until it comes back.
    inlet = pylsl.StreamInlet(streams[0], recover=False)
    try:
        inlet.open_stream(timeout=_FIND_S)
    except RuntimeError as error:
        raise InputError(f"triggers: LSL stream {settings.stream!r} cannot be opened ({_what(error)})") from error
    reader = SampleReader(lambda: inlet.pull_sample(timeout=_READ_S)[0], clock, settings.sample)
    return DevicePulses(f"LSL stream {settings.stream}", reader, inlet.close_stream)


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:  # pylsl raises RuntimeError where its library is missing
        raise MissingDependencyError(
            f"triggers of this kind need {module} ({error}); install with: python -m pip install {package}"
        ) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
