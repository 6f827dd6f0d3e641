"""The log: for people, one line an entry; and as lines of JSON, for programs to search."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from rtgod.errors import InputError
from rtgod.text import plain, plain_lines

#: Logger of what an operator always reads, a line or two for each run.
RUNS = "rtgod.runs"


class PlainFormatter(logging.Formatter):
    """Writes a record's message on one line, and a traceback after it, with what a terminal would obey written out."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        """Write the message, made of what the record was logged with."""
        return plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 # logging's name
        """Write a traceback, of lines."""
        return plain_lines(super().formatException(ei))


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Add what is logged, from INFO on, to a file for the length of a `with` block.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"log {path}: cannot be written ({error.strerror})") from error
    handler.setFormatter(_Lines())
    logger = logging.getLogger("rtgod")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


class _Lines(logging.Formatter):
    """One JSON object a line: when, how grave, where, what, and the fields that it was logged with."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "utc": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
