"""Dates of a journal, moved by whole days where it is shared: no interval changes, and nothing else does.

The only absolute times in a journal are those when a server began and ended, and those of the clients' events.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from rtgod.errors import InputError
from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.messages import Event, Hello, Message, SessionEnd

_DAY_S = 86_400
#: Largest absolute time, in seconds before or after 1970, that whole days can be added to without a rounding error.
_FURTHEST_S = 2**31
#: A client's clock that shows more seconds than a computer runs shows a date.
_LEAST_DATE_S = 10**8
#: Days before the true ones to which random dates are moved.
_LEAST_RANDOM, _N_RANDOM = 366, 3650
#: What `--by` may be.
BY = "a number of days, such as -400, a first day, such as 1925-01-01, or the word random"


def copy_with_other_dates(journal: Path, out: Path, by: str) -> int:
    """Write a copy of a journal, in which all absolute times are the same number of whole days earlier or later.

    Parameters
    ----------
    journal : Path
        Read up to its last whole record.
    out : Path
        File to make.
    by : str
        See `BY`. BIDS recommends years up to 1925 for dates that are not the true ones.

    Returns
    -------
    int
        Number of days by which they are moved.

    Raises
    ------
    JournalError
        If the journal cannot be read, or the copy cannot be written.
    InputError
        If `by` is none of these, the journal has no date, or the copy would lie beside it or have impossible dates.
    """
    if out.resolve().parent == journal.resolve().parent:
        raise InputError(f"{out}: lies beside the journal, where a server may go on with it; choose another folder")
    times_s = [time_s for message in read_journal(journal) for time_s in _times_s(message)]
    if not times_s:
        raise InputError(f"{journal}: holds no date; share it as it is")
    days = _days(by, min(times_s))
    if max(abs(time_s + days * _DAY_S) for time_s in times_s) >= _FURTHEST_S:
        raise InputError(f"--by {by}: dates from 1902 to 2037 can be kept exactly; move them to one of these years")
    with JournalWriter(out) as writer:
        for message in read_journal(journal):
            writer.append(_moved(message, days * _DAY_S))
    return days


def _days(by: str, first_s: float) -> int:
    if by == "random":
        return -_LEAST_RANDOM - secrets.randbelow(_N_RANDOM)
    if re.fullmatch(r"[+-]?[0-9]{1,6}", by):
        return int(by)
    try:
        wanted = date.fromisoformat(by)
    except ValueError as error:
        raise InputError(f"--by {by}: give {BY}") from error
    return (wanted - datetime.fromtimestamp(first_s, UTC).date()).days


def _times_s(message: Message) -> Iterator[float]:
    """Give the absolute times of a message, in seconds since 1970."""
    match message:
        case Hello():
            times_s = [message.began_utc_s]
        case SessionEnd():
            times_s = [message.utc_s]
        case Event():
            is_date = abs(message.at_s) >= _LEAST_DATE_S
            times_s = [message.received_utc_s, message.at_s if is_date else message.offset_s]
        case _:
            times_s = []
    return (time_s for time_s in times_s if time_s is not None)


def _moved(message: Message, seconds: int) -> Message:
    match message:
        case Hello():
            return dataclasses.replace(message, began_utc_s=_later(message.began_utc_s, seconds))
        case SessionEnd():
            return dataclasses.replace(message, utc_s=message.utc_s + seconds)
        case Event():
            received_s = _later(message.received_utc_s, seconds)
            if abs(message.at_s) >= _LEAST_DATE_S:
                return dataclasses.replace(message, received_utc_s=received_s, at_s=message.at_s + seconds)
            # The client's clock began at some moment that says nothing; its distance from the server's says when.
            return dataclasses.replace(message, received_utc_s=received_s, offset_s=_later(message.offset_s, seconds))
        case _:
            return message


def _later(time_s: float | None, seconds: int) -> float | None:
    return None if time_s is None else time_s + seconds
