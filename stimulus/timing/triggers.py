"""Where trigger pulses come from: keys, ports, streams, the server's first answer, or none but the clock.

Each source gives the times of its pulses. What they mean is `metronome`'s.
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

#: No read of a device takes longer, so that it can be closed.
_READ_S = 0.1
#: A pin is looked at so often: a pulse of a few ms is not missed, and its time is known as well.
_EDGE_S = 0.0005
#: Python lets a thread run so soon after another one is ready; its usual 5 ms would make stamps as late as that.
_SWITCH_S = 0.001
#: An LSL stream has so long to be found, and to connect.
_FIND_S = 5.0
#: A device whose driver does not return is left behind after so long.
_CLOSE_S = 1.0
#: A server that was silent for so long was out of reach: it says something each second.
_SILENT_S = 2.5
#: What a server says once more to whoever connects comes within so long of its first word.
_REPEATED_S = 0.2


class KeyPress(NamedTuple):
    """A key that was pressed.

    Attributes
    ----------
    name : str
        PsychoPy's name of the key: "5", "t", "space".
    at_s : float
        Of the display's clock, seconds.
    """

    name: str
    at_s: float


class TriggerSettings(Settings):
    """Where the scanner's pulses come from."""

    kind: Literal["keyboard", "serial", "parallel", "lsl", "server", "emulated"] = "keyboard"
    #: Keyboard: PsychoPy's names of the keys that are a pulse.
    keys: Annotated[tuple[str, ...], Field(min_length=1)] = ("5", "t")
    #: Serial: such as /dev/ttyUSB0 or COM3. Parallel: an address such as 0x378, or /dev/parport0.
    port: str = ""
    baud_rate: AtLeastOne = 115_200
    #: Serial: only this byte is a pulse; without one, any is.
    byte: Annotated[int, Field(ge=0, le=255)] | None = None
    #: Parallel: the status pin whose rising edge is a pulse.
    pin: Literal[10, 11, 12, 13, 15] = 10
    #: LSL: name of the stream.
    stream: str = ""
    #: LSL: only samples that say so are pulses; empty: any.
    sample: str = ""
    #: Pulses before volume 0.
    n_dummies: Count = 0
    #: Whether there is a pulse for each volume, or for the first alone.
    every_volume: bool = True
    #: Emulated: the first pulse comes so long after the program is ready.
    delay_s: NotNegative = 1.0
    #: Without a pulse for so long, the operator is told.
    patience_s: Positive = 60.0

    @model_validator(mode="after")
    def _server_counts_from_volume_0(self) -> Self:
        if self.kind == "server" and self.n_dummies:
            raise ValueError('with kind = "server" volume 0 is the only pulse, so n_dummies must be 0')
        return self


class Pulses(Protocol):
    """A source of pulses."""

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:
        """Times of the pulses since the last call, seconds of the display's clock, ascending; never waits."""

    def close(self) -> None:
        """Let go of the device, within a second or so; may be called twice."""


def open_pulses(settings: TriggerSettings, clock: Callable[[], float], tr_s: float, n_pulses: int) -> Pulses:
    """Open the source of pulses that the settings name.

    Parameters
    ----------
    settings : TriggerSettings
    clock : callable
        The display's, seconds; called from another thread, too.
    tr_s : float
        Repetition time.
    n_pulses : int
        How many an emulated scanner gives, dummies included.

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
    """Keys of a keyboard, or of a box that behaves like one."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:  # noqa: ARG002
        """Times of those keys that are a pulse."""
        return sorted(key.at_s for key in keys if key.name in self._names)

    def close(self) -> None:
        """Nothing to let go of."""


class EmulatedPulses(Closing):
    """Pulses at given times, with no scanner.

    Parameters
    ----------
    clock : callable
    due_s : sequence of float
        Ascending.
    """

    def __init__(self, clock: Callable[[], float], due_s: Sequence[float]) -> None:
        self._clock, self._due_s = clock, deque(due_s)

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:  # noqa: ARG002
        """Times that have come, as planned to the last bit."""
        now_s = self._clock()
        pulses = []
        while self._due_s and self._due_s[0] <= now_s:
            pulses.append(self._due_s.popleft())
        return pulses

    def close(self) -> None:
        """Nothing to let go of."""


class ServerPulses(Closing):
    """One pulse for each run: the server's answer to volume 0 marks its end, so it began a TR earlier.

    A server says the current run and its last answer again to all whenever somebody connects. A run that was
    under way before the first poll, or that is heard of when a server comes (back) into reach, gives no pulse; nor does
    one whose volume 0 was answered late, because it was lost or the server was behind.

    Parameters
    ----------
    clock : callable
    tr_s : float
    """

    def __init__(self, clock: Callable[[], float], tr_s: float) -> None:
        self._clock, self._tr_s = clock, tr_s
        self._run_id: str | None = None
        self._awaited = False
        self._heard_s = -math.inf
        self._repeated_until_s = math.inf

    def poll(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> list[float]:  # noqa: ARG002
        """Onset of volume 0, where its answer is among the messages."""
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
        if self._repeated_until_s == math.inf:  # what came before the first poll
            self._repeated_until_s = now_s + _REPEATED_S
        return pulses

    def close(self) -> None:
        """Nothing to let go of."""


def _tells_end_of_first_volume(answer: Ranking | NotReady) -> bool:
    late = isinstance(answer, NotReady) and answer.reason in (Reason.LOST_VOLUME, Reason.BEHIND)
    return answer.index == 0 and not late


def _age_s(answer: Ranking | NotReady) -> float:
    """How long ago the source had the volume, as far as the answer says."""
    if isinstance(answer, Ranking) and answer.age_s is not None:
        return answer.age_s
    return sum(answer.stage_ms.values()) / 1e3


class DevicePulses(Closing):
    """Pulses of a device, to which a thread of its own listens: the display may be drawing when one comes.

    Parameters
    ----------
    device : str
        Its name, for people.
    read : callable
        Gives the time of a pulse, or None when there was none for a short while.
    release : callable, optional
        Lets go of the device; called by the thread, as its last act.
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
        """Times of the pulses since the last call.

        Raises
        ------
        InputError
            Once, if the device has failed; there are no more pulses then.
        """
        pulses = [self._times.popleft() for _ in range(len(self._times))]
        if self._failure is not None and not pulses:
            failure, self._failure = self._failure, None
            raise InputError(f"{self._device} gives no more triggers: {_what(failure)}; check its cable and its power")
        return pulses

    def close(self) -> None:
        """End the thread; it is left behind where the driver does not return."""
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
    """Reads a pin's next state; a rising edge is a pulse.

    Parameters
    ----------
    read_pin : callable
    clock : callable
    wait : callable, optional
        Waits so many seconds before each look.
    """

    def __init__(
        self, read_pin: Callable[[], bool], clock: Callable[[], float], wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._read_pin, self._clock, self._wait = read_pin, clock, wait
        self._high = read_pin()

    def __call__(self) -> float | None:
        """Look once."""
        self._wait(_EDGE_S)
        was_high, self._high = self._high, self._read_pin()
        return self._clock() if self._high and not was_high else None


class ByteReader:
    """Reads a serial port's next byte.

    Parameters
    ----------
    read : callable
        One byte, or none where none came for a short while.
    clock : callable
    byte : int or None
        The one that is a pulse; None: each is.
    """

    def __init__(self, read: Callable[[], bytes], clock: Callable[[], float], byte: int | None = None) -> None:
        self._read, self._clock, self._byte = read, clock, byte

    def __call__(self) -> float | None:
        """Wait for a byte, for a short while."""
        received = self._read()
        return self._clock() if received and self._byte in (None, received[0]) else None


class SampleReader:
    """Reads an LSL stream's next sample.

    Parameters
    ----------
    pull : callable
        The sample's channels, or None where none came for a short while.
    clock : callable
    wanted : str
        A sample is a pulse if one of its channels says so; empty: each is.
    """

    def __init__(self, pull: Callable[[], Sequence[Any] | None], clock: Callable[[], float], wanted: str = "") -> None:
        self._pull, self._clock, self._wanted = pull, clock, wanted

    def __call__(self) -> float | None:
        """Wait for a sample, for a short while."""
        sample = self._pull()
        if sample is None or (self._wanted and self._wanted not in map(_text, sample)):
            return None
        return self._clock()


def _text(value: Any) -> str:
    """A channel's value as people write it: a trigger of 5 is 5.0 in a stream of floats."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _open_serial(settings: TriggerSettings, clock: Callable[[], float]) -> Pulses:
    serial = _imported("serial", "pyserial")
    try:
        port = serial.Serial(settings.port, settings.baud_rate, timeout=_READ_S)
    except (OSError, ValueError) as error:
        there = _listed(port.device for port in import_module("serial.tools.list_ports").comports())
        raise InputError(
            f"triggers: serial port {settings.port!r} cannot be opened ({error}); those that are there: {there}"
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
    except Exception as error:  # its three drivers raise whatever comes
        raise InputError(
            f"triggers: parallel port {settings.port!r} cannot be opened ({_what(error)}); on Linux give /dev/parport0 "
            "after `sudo modprobe -r lp && sudo modprobe ppdev`, as a member of the group lp; on Windows give the "
            "address that the device manager shows, such as 0x378, with inpoutx64.dll installed"
        ) from error
    return DevicePulses(f"parallel port {settings.port}", reader)


def _open_lsl(settings: TriggerSettings, clock: Callable[[], float]) -> Pulses:
    pylsl = _imported("pylsl", "pylsl")
    found = pylsl.resolve_byprop("name", settings.stream, timeout=_FIND_S) if settings.stream else []
    if not found:
        there = sorted({stream.name() for stream in pylsl.resolve_streams(1.0)})
        raise InputError(
            f"triggers: no LSL stream is named {settings.stream!r}; those that are there: {_listed(there)}"
        )
    # A stream that is lost is an error, and not a silence until it comes back.
    inlet = pylsl.StreamInlet(found[0], recover=False)
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
