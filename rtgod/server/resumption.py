"""Continuation of a session after its server died, from a checkpoint beside the journal, and the journal after it.

A checkpoint is used only if the journal confirms it. It only makes the restart quick: without it the journal is read
from its beginning, with the same result.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from rtgod.errors import CheckpointError, WireError
from rtgod.journal.journal import MAGIC, JournalWriter, Mark, holds, read_headers, read_journal
from rtgod.journal.summary import account
from rtgod.messages import Answer, NotReady, Ranking
from rtgod.protocol.frames import from_journal, to_frames
from rtgod.server.checkpoint import read_checkpoint, write_checkpoint
from rtgod.server.session import Resumed, Session, resume
from rtgod.state import State

log = logging.getLogger(__name__)

SUFFIX = ".checkpoint"


class Continuation(NamedTuple):
    """Result of bringing a session to the end of its journal.

    Attributes
    ----------
    resumed : Resumed
    trusted_bytes : int
        Length of the part of the journal that the checkpoint covers, which need not be checked again.
    """

    resumed: Resumed
    trusted_bytes: int


def checkpoint_of(journal: Path) -> Path:
    """Return the path of a journal's checkpoint.

    Parameters
    ----------
    journal : Path
    """
    return journal.with_suffix(SUFFIX)


def save_checkpoint(journal: JournalWriter, session: Session, last: Answer | None, n_starts: int) -> None:
    """Save the state of a session at the present end of its journal.

    Parameters
    ----------
    journal : JournalWriter
        Journal that holds all that the session has taken and answered.
    session : Session
    last : Answer or None
        The last answer of the current run.
    n_starts : int
        Number of times that a server has begun on the journal.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be written.
    """
    mark = journal.mark()
    if mark is None:
        return
    frames = [] if last is None else [np.frombuffer(frame, np.uint8) for frame in to_frames(last)]
    state = {"mark": dataclasses.asdict(mark), "n_starts": n_starts, "last": frames, "session": session.state()}
    write_checkpoint(checkpoint_of(journal.path), cast("State", state))


def go_on(journal: Path, session: Session) -> Continuation:
    """Bring a new session to the state at the end of a journal.

    Parameters
    ----------
    journal : Path
    session : Session
        Session with the journal's bundle; it is changed in place.

    Raises
    ------
    JournalError
        If the journal cannot be read, or has a damaged record in the part that is read.
    """
    start, last_answer, n_starts = len(MAGIC), None, 0
    finished_runs: Collection[str] = ()
    try:
        start, last_answer, n_starts = _restore(journal, session)
    except CheckpointError as error:
        if checkpoint_of(journal).exists():
            log.warning("the whole journal is read: %s", error)
        finished_runs = _runs_that_are_over(journal, session)

    def pass_over(why: str) -> None:
        log.warning("passed over: %s", why)

    messages = read_journal(journal, start, pass_over)
    return Continuation(resume(messages, session, over=finished_runs, last=last_answer, n_starts=n_starts), start)


class _Saved(msgspec.Struct):
    mark: Mark
    n_starts: int
    last: list[Any]
    session: Any


def _restore(journal: Path, session: Session) -> tuple[int, Answer | None, int]:
    """Restore a session from its checkpoint; return the position in the journal, the last answer, and `n_starts`."""
    path = checkpoint_of(journal)
    try:
        saved = msgspec.convert(read_checkpoint(path), _Saved, dec_hook=lambda _, value: value)
        last_answer = from_journal([bytes(frame) for frame in saved.last]) if saved.last else None
    except (msgspec.ValidationError, WireError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: no checkpoint of a session ({error})") from error
    if not (last_answer is None or isinstance(last_answer, Ranking | NotReady)):
        raise CheckpointError(f"{path}: its last answer is none")
    if not holds(journal, saved.mark):
        raise CheckpointError(f"{path}: made for another journal, or {journal} has been changed since")
    session.restore(saved.session)
    return saved.mark.n_bytes, last_answer, saved.n_starts


def _runs_that_are_over(journal: Path, session: Session) -> Collection[str]:
    """Return the runs that are over and need no computation; none if the evidence of a run counts in later runs."""
    if session.keeps_evidence:
        return ()
    summary = account(read_headers(journal))
    return {name for name, run in summary.runs.items() if run.n_ended is not None} - {summary.current}
