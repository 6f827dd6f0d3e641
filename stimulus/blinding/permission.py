"""Permission to open sealed conditions: the journals must be of the session they were sealed for, and have ended.

The display reports the commitment of its conditions when a sealed run begins, so the commitment is in the session's
journal. It does not depend on the run's condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rtgod.errors import InputError, JournalError
from rtgod.journal.journal import SUFFIX, read_headers
from rtgod.journal.summary import account
from rtgod.messages import COMMITMENT


class _Line(msgspec.Struct):
    """Fields of a message that are needed here."""

    type: str
    kind: str = ""
    value: str = ""
    client: str = ""
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """Facts about sealed conditions that a journal holds.

    Attributes
    ----------
    ended : bool
        Whether the journal's session has ended.
    commitments : frozenset of str
        Commitments that displays reported.
    """

    ended: bool
    commitments: frozenset[str]


def told_by(journal: Path) -> Told:
    """Read from a journal whether its session has ended, and which commitments displays reported.

    Parameters
    ----------
    journal : Path

    Raises
    ------
    JournalError
        If it cannot be read, or is no journal.
    """
    headers = list(read_headers(journal))
    commitments: set[str] = set()
    for header in headers:
        try:
            line = msgspec.json.decode(header, type=_Line)
        except msgspec.DecodeError:
            break  # after a crash the last record may have its full length but not its content
        if line.type == "event" and line.kind == COMMITMENT:
            commitments.add(line.value)
    return Told(account(headers).ended, frozenset(commitments))


def check_journals(journals: Sequence[Path], commitment: str) -> None:
    """Refuse journals that do not show that the session of these conditions has ended.

    Parameters
    ----------
    journals : sequence of Path
        Journals of the session, which may have several: each must have ended and hold the commitment.
    commitment : str
        Commitment of the sealed conditions.

    Raises
    ------
    InputError
        If one of the journals has not ended, or is of another session; or if another journal in one of their folders
        is of this session and has not ended.
    JournalError
        If one of the journals cannot be read.
    """
    early = "give --early with a reason"
    for journal in journals:
        facts = told_by(journal)
        if not facts.ended:
            raise InputError(f"{journal}: the session has not ended; stop its server first, or {early} if it crashed")
        if commitment not in facts.commitments:
            reported = ", ".join(sorted(facts.commitments))
            why = f"its displays reported others ({reported[:200]})" if reported else "no display reported any to it"
            raise InputError(
                f"{journal}: not of the session with these conditions (commitment {commitment}): {why}. Give the "
                f"journal in which their runs are, or {early}"
            )
    given = {journal.resolve() for journal in journals}
    for folder in dict.fromkeys(journal.parent for journal in given):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path.resolve() not in given and _goes_on(path, commitment):
                raise InputError(f"{path}: the session goes on here; stop its server first, or {early} if it crashed")


def _goes_on(journal: Path, commitment: str) -> bool:
    """Whether a journal is of the session and has not ended; False for a journal that cannot be read."""
    try:
        facts = told_by(journal)
    except JournalError:
        return False
    return commitment in facts.commitments and not facts.ended
