"""DICOM C-STORE receiver: images that a scanner sends to a node, as most scanners can while they acquire.

The handler takes the bytes and answers; everything is decoded outside of it, in order.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydicom.uid import UID

from rtgod.errors import InputError, MissingDependencyError
from rtgod.receivers.listening import listening_at
from rtgod.receivers.live_runs import LiveRuns, tags_taken
from rtgod.sources.dicom.file import read_growing, read_pixels

log = logging.getLogger(__name__)

#: Storage of MR images, enhanced MR images and legacy converted ones.
_STORED = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
#: Little endian, explicit and implicit; deflated; big endian; lossless: run lengths, JPEG, JPEG-LS, JPEG 2000, HTJ2K.
_SYNTAXES = (
    "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202",
)  # fmt: skip
#: Answers: stored; refused, as memory is short.
_STORED_WELL, _NO_ROOM = 0x0000, 0xA700
#: Most bytes of images that wait to be decoded, and time for which a sender waits for room, seconds.
_MOST_BYTES, _PATIENCE_S = 2**25, 5.0
#: Bytes of images that are decoded until volumes are sent, so that many at once do not fill memory.
_STEP_BYTES = 2**23
#: What messages call an image that has no file.
_IMAGE = Path("an image")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How a node listens, and to whom.

    Attributes
    ----------
    host : str
        Address to listen at.
    port : int
        0 takes any free one.
    title : str
        Application entity title; senders may use any.
    allowed : tuple of str
        Networks whose hosts may connect, such as 192.168.2.0/24; hosts of this machine always may.
    certificate, private_key : Path or None
        For TLS.
    authority : Path or None
        Certificates that senders must have theirs from; None lets any sender in that is allowed.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    title: str = "RTGOD"
    allowed: tuple[str, ...] = ()
    certificate: Path | None = None
    private_key: Path | None = None
    authority: Path | None = None


class ImageQueue:
    """Images that wait to be decoded, as many as fit into a number of bytes, or one that is larger.

    Parameters
    ----------
    most_bytes : int
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes, self._n_bytes = most_bytes, 0
        self._images: deque[bytes] = deque()
        self._changed = threading.Condition()

    def put(self, raw: bytes, timeout_s: float) -> bool:
        """Append an image; return whether there was room for it in time.

        Parameters
        ----------
        raw : bytes
        timeout_s : float
        """
        with self._changed:
            has_room = self._changed.wait_for(
                lambda: not self._images or self._n_bytes + len(raw) <= self._most_bytes, timeout_s
            )
            if has_room:
                self._images.append(raw)
                self._n_bytes += len(raw)
                self._changed.notify_all()
            return has_room

    def get(self, timeout_s: float) -> bytes | None:
        """Take out the first image; None if there is none in time.

        Parameters
        ----------
        timeout_s : float
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._images), timeout_s):
                return None
            raw = self._images.popleft()
            self._n_bytes -= len(raw)
            self._changed.notify_all()
            return raw


class DicomNode:
    """Storage node that gives its images to `LiveRuns`.

    Parameters
    ----------
    options : NodeOptions
    runs : LiveRuns
    tell : callable
        Shows the operator a line.

    Attributes
    ----------
    port : int
        The port that it listens at.

    Raises
    ------
    InputError
        If it cannot listen there, a network is malformed, or an address beyond this machine has no networks allowed.
    MissingDependencyError
        If pynetdicom is not installed.
    """

    def __init__(self, options: NodeOptions, runs: LiveRuns, tell: Callable[[str], object]) -> None:
        try:
            from pynetdicom import AE, evt
        except ModuleNotFoundError as error:
            raise MissingDependencyError("receiving DICOM needs pynetdicom: pip install 'rtgod[network]'") from error
        self._runs, self._tell = runs, tell
        self._listening = listening_at(options.host, options.port, options.allowed)
        self._queue = ImageQueue()
        self._tags = tags_taken()
        node = AE(ae_title=options.title)
        node.maximum_pdu_size = 0  # no limit
        node.add_supported_context("1.2.840.10008.1.1")  # verification: C-ECHO
        for stored in _STORED:
            node.add_supported_context(UID(stored), [UID(syntax) for syntax in _SYNTAXES])
        handlers: Sequence[Any] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_ECHO, lambda _: _STORED_WELL),
            (evt.EVT_CONN_OPEN, self._on_connection),
        ]
        try:
            self._server = node.start_server(
                (options.host, options.port), block=False, evt_handlers=list(handlers), ssl_context=_tls(options)
            )
        except OSError as error:
            where = f"{options.host}:{options.port}"
            raise InputError(f"{where}: cannot listen there ({error.strerror or error})") from error
        self._node = node
        self.port = int(self._server.server_address[1])  # type: ignore[union-attr] # it does not block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node.shutdown()

    def run(self, stopped: Callable[[], bool], poll_s: float = 0.02) -> None:
        """Take images until somebody stops it; what is complete by then is sent, with the end of the run.

        Parameters
        ----------
        stopped : callable
            Returns whether somebody has stopped it.
        poll_s : float
            Longest time between two looks at what is due, seconds.
        """
        while not stopped():
            self.step(poll_s)
        self.step(0.0)
        self._runs.end()

    def step(self, timeout_s: float) -> None:
        """Decode the images that have come, and send the volumes that they complete.

        Parameters
        ----------
        timeout_s : float
            Longest wait for an image, seconds.
        """
        n_bytes, raw = 0, self._queue.get(timeout_s)
        while raw is not None:
            self._take(raw)
            n_bytes += len(raw)
            if n_bytes >= _STEP_BYTES:
                n_bytes = 0
                self._runs.step()
            raw = self._queue.get(0.0)
        self._runs.step()

    def _take(self, raw: bytes) -> None:
        header, start, n_missing = read_growing(raw, self._tags)
        if header is None or n_missing:
            self._tell("an image that cannot be read came over the network: left out")
            return
        self._runs.take(header, partial(read_pixels, _IMAGE, header, start, raw), _IMAGE)

    # ---------------------------------------------------------------- in pynetdicom's threads

    def _on_store(self, event: Any) -> int:
        if self._queue.put(event.encoded_dataset(), _PATIENCE_S):
            return _STORED_WELL
        log.warning("%d MB of images wait to be decoded; one was refused, so that it is sent again", _MOST_BYTES >> 20)
        return _NO_ROOM

    def _on_connection(self, event: Any) -> None:
        host, port = event.address[:2]
        if self._listening.may_connect(host):
            log.warning("%s:%d connects", host, port)
            return
        log.warning("%s:%d is not allowed to connect; name its network with --allow", host, port)
        event.assoc.abort()


def _tls(options: NodeOptions) -> ssl.SSLContext | None:
    if options.certificate is None:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.private_key)
        if options.authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(options.authority)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--tls-certificate {options.certificate}: cannot be used ({error})") from error
    return context
