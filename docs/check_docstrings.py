"""Check the docstrings of the public names by numpydoc: sections, parameters, returned values, full stops.

Usage: python docs/check_docstrings.py
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from numpydoc.validate import validate
from pydantic import BaseModel

import calibration
import rtgod

#: What is not asked for: cross references, longer summaries, and an example of every method; those of the public names
#: themselves are run by the tests.
_NOT_ASKED = frozenset({"SA01", "ES01", "EX01"})
#: Parameters of data classes, settings, protocols and enumerations are their attributes, and documented as such.
_OF_FIELDS = frozenset({"PR01"})


def public() -> Iterator[tuple[str, object]]:
    """Every public name with what it is, then the public methods of classes."""
    for module in (rtgod, calibration):
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, str):  # the version
                continue
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    is_method = inspect.isfunction(function) or isinstance(function, property | classmethod)
                    if is_method and not method.startswith("_"):
                        yield f"{module.__name__}.{name}.{method}", function


def is_protocol(value: Any) -> bool:
    """Whether a class is a protocol, which nobody calls."""
    return bool(getattr(value, "_is_protocol", False))


def problems() -> Iterator[str]:
    """What numpydoc finds wrong, a line each."""
    for name, value in public():
        has_fields = dataclasses.is_dataclass(value) or (
            inspect.isclass(value) and (issubclass(value, enum.Enum | BaseModel) or is_protocol(value))
        )
        for code, message in validate(name)["errors"]:
            if code not in _NOT_ASKED and not (has_fields and code in _OF_FIELDS):
                yield f"{name}: {code} {message}"


if __name__ == "__main__":
    found = list(problems())
    print(*found, sep="\n")
    sys.exit(bool(found))
