"""Journals as a server would have written them, without sockets."""

from rtgod.journal.journal import JournalWriter
from rtgod.messages import Event, SessionEnd
from rtgod.server.session import Session


def record(path, messages, bundle=None, ended=True):
    """Take messages in, write them and their answers into a journal, and give all that was written."""
    session = Session(bundle)
    written = [session.hello()]
    for message in messages:
        written.append(message)
        for answer, pattern in session.handle(message):
            written += [pattern, answer] if pattern is not None else [answer]
    written += [SessionEnd(1e9)] * ended
    with JournalWriter(path) as writer:
        for message in written:
            writer.append(message)
    return written


def event(number, value="", **changes):
    """A client's event in the middle of the first run."""
    given = {"offset_s": 1e9, "offset_error_s": 0.002, "run_id": "run-1", "received_utc_s": 1e9 + 7.5, **changes}
    return Event("screen", number, "shown", 7.25, value=value, **given)
