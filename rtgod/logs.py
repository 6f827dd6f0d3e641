"""The log: a line per entry for people, and lines of JSON in a file, for programs to search."""

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

#: Name of the logger for lines that are always shown to the operator, a line or two for each run.
RUNS = "rtgod.runs"


class PlainFormatter(logging.Formatter):
    """Formatter that writes a message on one line, with control characters escaped, and a traceback after it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        """Write the record's message.

        Parameters
        ----------
        record : logging.LogRecord
        """
        return plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 # logging's name
        """Write a traceback, on several lines.

        Parameters
        ----------
        ei : tuple
            Type, value and traceback of the exception, as `sys.exc_info` returns them.
        """
        return plain_lines(super().formatException(ei))


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append log entries of level INFO and above to a file for the length of a `with` block.

    Parameters
    ----------
    path : Path
        A line of JSON is written for each entry; missing folders above the file are made.

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
    """Formatter that writes each entry as a line of JSON: time, level, logger, message and extra fields."""

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
