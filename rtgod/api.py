"""Functions of the Python API that join several packages: each opens, decodes, asks or reads in one call.

Nothing here behaves otherwise than on the command line. Each function imports what it needs when it is called:
listening to a server loads no kernels, and reading a run no sockets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rtgod.errors import ServerError

if TYPE_CHECKING:
    from rtgod.bundle import DecoderBundle
    from rtgod.events.trials import TrialsRead
    from rtgod.journal.contents import Journal
    from rtgod.messages import Answer, Message, Status
    from rtgod.protocol.keys import ClientKey
    from rtgod.settings import PipelineSettings
    from rtgod.sources import Source

log = logging.getLogger(__name__)

#: A server publishes its status each second; after this silence it counts as gone.
_SILENCE_S = 15.0


def open_run(
    path: str | Path,
    events: str | Path | None = None,
    *,
    settings: PipelineSettings | None = None,
    run_id: str | None = None,
    subject: str | None = None,
    tr_s: float | None = None,
    series: int | None = None,
) -> Source:
    """Open a recorded run in any of the formats that rtgod reads.

    Parameters
    ----------
    path : str or Path
        A 4-D NIfTI file (.nii, .nii.gz), a Philips .PAR file, or a folder of one series' DICOM files or of a run's 3-D
        NIfTI files.
    events : str or Path, optional
        BIDS events table that gives the run its blocks; by default the one that BIDS places beside the run, if any.
    settings : PipelineSettings, optional
        Its `events` say which rows of the table are trials.
    run_id, subject : str, optional
        Name of the run and label of the subject, if they are to replace those in the files.
    tr_s : float, optional
        Repetition time in seconds, if the files give none; it must not contradict them.
    series : int, optional
        SeriesNumber to read from a DICOM folder that holds several.

    Returns
    -------
    Source
        Iteration gives the volumes, from the start each time. `run` holds the properties common to all volumes, `read`
        the contents of the events table, and `notes` the decisions made when files disagree.

    Raises
    ------
    InputError
        If the run cannot be used as it is.

    Examples
    --------
    >>> import rtgod
    >>> source = rtgod.open_run("sub-01_task-objects_run-01_bold.nii.gz")
    >>> source.run.run_id, source.run.tr_s, len(source.run.blocks)
    ('sub-01_task-objects_run-01', 2.0, 6)
    >>> next(iter(source)).data.shape
    (18, 20, 16)
    """
    from rtgod.sources import open_source

    return open_source(
        Path(path),
        events=None if events is None else Path(events),
        reading=settings.events if settings else None,
        run_id=run_id,
        subject=subject,
        tr_s=tr_s,
        series=series,
    )


def read_events(path: str | Path, settings: PipelineSettings | None = None) -> TrialsRead:
    """Read the trials of a BIDS events table, and count the rows that are not trials.

    Parameters
    ----------
    path : str or Path
        The table, tab-separated.
    settings : PipelineSettings, optional
        Its `events` say which rows are trials. Onsets stay as the table counts them.

    Returns
    -------
    TrialsRead
        `trials` in order of onset, each with `onset_s`, `duration_s`, `kind` and `category`; `left_out` counts other
        rows by reason.

    Raises
    ------
    InputError
        If the table cannot be read, or holds no trial.

    Examples
    --------
    >>> import rtgod
    >>> read = rtgod.read_events("sub-01_task-objects_run-01_events.tsv")
    >>> [(trial.onset_s, trial.category) for trial in read.trials[:2]]
    [(20.0, 'n00000000'), (38.0, 'n00000001')]
    >>> read.n_left_out
    0
    """
    from rtgod.events import table

    return table.read_events(Path(path), settings.events if settings else None)


def load_bundle(folder: str | Path) -> DecoderBundle:
    """Load a decoder that `rtgod calibrate` saved, without running any code from its files.

    Parameters
    ----------
    folder : str or Path
        The bundle.

    Returns
    -------
    DecoderBundle
        Immutable; `replay` decodes a recorded run with it.

    Raises
    ------
    BundleError
        If the bundle is missing, incomplete, altered since it was written, or of another format.

    Examples
    --------
    >>> import rtgod
    >>> bundle = rtgod.load_bundle("bundle")
    >>> len(bundle.candidates), bundle.candidates[0].name
    (7, 'category 0')
    """
    from rtgod.bundle import DecoderBundle

    return DecoderBundle.load(Path(folder))


def decode_run(run: Source, bundle: DecoderBundle, *, any_subject: bool = False) -> Iterator[Answer]:
    """Decode a recorded run to the answers that a server with this bundle gives, equal to the last bit.

    Parameters
    ----------
    run : Source
        From `open_run`. Its blocks are cut at its end, as when it is sent to a server.
    bundle : DecoderBundle
        From `load_bundle`. Each call is a session of its own and keeps no evidence for the next run.
    any_subject : bool
        Whether a run of another subject than the bundle's may be decoded.

    Yields
    ------
    Ranking or NotReady
        One for each volume, in order; `NotReady` says why there is no ranking.

    Raises
    ------
    RefusedError
        If the run does not fit the bundle: another subject, repetition time or resolution.
    InputError
        If a volume cannot be read, or all trials begin after the run's end.

    Examples
    --------
    >>> import rtgod
    >>> run = rtgod.open_run("sub-01_task-objects_run-01_bold.nii.gz")
    >>> for answer in rtgod.decode_run(run, rtgod.load_bundle("bundle")):
    ...     if isinstance(answer, rtgod.Ranking) and answer.final:
    ...         print(answer.block, answer.index, answer.n_volumes, len(answer.top))
    0 13 3 7
    1 22 3 7
    2 31 3 7
    3 40 3 7
    4 49 3 7
    5 58 3 7
    """
    from rtgod.messages import RunEnd
    from rtgod.replay import cut_run
    from rtgod.server.session import Session

    session, announced = Session(bundle), cut_run(run.run)
    for oddity in session.oddities(announced, any_subject=any_subject):
        log.warning("run %s: %s", announced.run_id, oddity)
    session.check(announced)
    n_volumes = 0
    list(session.handle(announced))  # nothing is answered yet
    for volume in run:
        session.check(volume)
        for answer, _ in session.handle(volume):
            yield answer
        n_volumes = volume.index + 1
    for answer, _ in session.handle(RunEnd(announced.run_id, n_volumes)):
        yield answer


def read_key(path: str | Path) -> ClientKey:
    """Read a client's key, for a server that asks for one.

    Parameters
    ----------
    path : str or Path
        A file that `rtgod keys new` wrote.

    Returns
    -------
    ClientKey
        For `Sender`, `subscribe` and `status`.

    Raises
    ------
    InputError
        If the file is no key, or others may read it.

    Examples
    --------
    >>> import rtgod
    >>> rtgod.read_key("keys/scanner.key").name
    'scanner'
    """
    from rtgod.protocol.keys import read_client_key

    return read_client_key(Path(path))


def subscribe(
    address: str = "tcp://127.0.0.1:5556", *, key: ClientKey | None = None, patience_s: float = _SILENCE_S
) -> Iterator[Message]:
    """Receive what a server publishes: its identity, its status each second, every run and every answer.

    The connection is made when the first message is requested; messages published before that are not received.

    Parameters
    ----------
    address : str
        Address at which the server publishes.
    key : ClientKey, optional
        From `read_key`, for a server that asks for one.
    patience_s : float
        Longest wait for the next message, in seconds.

    Yields
    ------
    Hello, Status, Run, Ranking, NotReady, RunEnd or SessionEnd
        `SessionEnd` is the last: the server was stopped.

    Raises
    ------
    ServerError
        If nothing is heard for `patience_s`, the server turns this client away, or the address is malformed.
    WireError
        If a server of another version publishes there.

    Examples
    --------
    >>> import rtgod
    >>> for message in rtgod.subscribe("tcp://127.0.0.1:5556"):
    ...     if isinstance(message, rtgod.Ranking):
    ...         print(message.top[0], message.probability)
    ...     else:
    ...         print(type(message).__name__)
    ...         break
    Hello
    """
    from rtgod.messages import SessionEnd
    from rtgod.protocol.clients import Subscriber

    with Subscriber(address, key) as subscriber:
        while (message := subscriber.poll(patience_s)) is not None:
            yield message
            if isinstance(message, SessionEnd):
                return
    raise _unheard(address, patience_s)


def status(address: str = "tcp://127.0.0.1:5556", *, key: ClientKey | None = None, patience_s: float = 5.0) -> Status:
    """Ask a server for its status: its clients, the current run, how fast it answers and the disk space left.

    Parameters
    ----------
    address : str
        Address at which the server publishes.
    key : ClientKey, optional
        From `read_key`, for a server that asks for one.
    patience_s : float
        Longest wait for the status, in seconds.

    Returns
    -------
    Status
        `problem` says what keeps the server from taking volumes; it is empty if it can take them.

    Raises
    ------
    ServerError
        If the server does not answer in time, turns this client away, or the address is malformed.

    Examples
    --------
    >>> import rtgod
    >>> rtgod.status("tcp://127.0.0.1:5556").journal
    'session.rtgod'
    """
    from rtgod.messages import Status
    from rtgod.protocol.clients import Subscriber

    deadline_s = time.monotonic() + patience_s
    with Subscriber(address, key) as subscriber:
        while not isinstance(message := subscriber.poll(max(0.0, deadline_s - time.monotonic())), Status):
            if time.monotonic() >= deadline_s:
                raise _unheard(address, patience_s)
    return message


def read_journal(path: str | Path) -> Journal:
    """Read the journal of a session, even while a server writes to it.

    Parameters
    ----------
    path : str or Path
        The journal's file.

    Returns
    -------
    Journal
        Its attributes are `runs`, `answers` and `events`; `to_frame()` makes a pandas table of the answers, and
        iteration gives every message, including the volumes.

    Raises
    ------
    JournalError
        If the file cannot be read, is no journal, or is damaged before its end.

    Examples
    --------
    >>> import rtgod
    >>> journal = rtgod.read_journal("session.rtgod")
    >>> [run.run_id for run in journal.runs], len(journal.answers)
    (['sub-01_task-objects_run-01'], 64)
    """
    from rtgod.journal.contents import Journal

    return Journal.read(Path(path))


def _unheard(address: str, patience_s: float) -> ServerError:
    return ServerError(f"nothing was heard from {address} within {patience_s:g} s; is `rtgod serve` running there?")
