"""Rules for a source's table of events: those of the server's decoder, unless others were chosen.

A decoder was trained on trials that certain settings found. With other settings the same table may give other trials,
which do not match those that the decoder was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from rtgod.errors import InputError
from rtgod.settings import EventsSettings
from rtgod.sources import Source
from rtgod.text import number_of


def agreed(
    source: Source,
    opened: Callable[[EventsSettings], Source],
    own: EventsSettings,
    theirs: Mapping[str, Any] | None,
    *,
    is_chosen: bool,
) -> tuple[Source, list[str]]:
    """Read a run's trials by the rules of the server's decoder, or report that they were read by others.

    Parameters
    ----------
    source : Source
        The run, opened by the rules of the source.
    opened : callable
        Function that opens the same run by other rules.
    own : EventsSettings
        The rules of the source.
    theirs : mapping of str to value, or None
        The rules of the server's decoder, from `rtgod.messages.Pong`; None if it has none or does not give them.
    is_chosen : bool
        Whether the user chose the source's rules, which then hold.

    Returns
    -------
    source : Source
    remarks : list of str
        Remarks for the operator, a line each; empty if both rules give the same trials.

    Raises
    ------
    InputError
        If the table cannot be read by the decoder's rules, and the user did not choose others.
    """
    if theirs is None or source.read is None:
        return source, []
    name = source.read.path.name
    try:
        rules = EventsSettings.model_validate(theirs)
    except ValidationError:
        return source, [
            f"{name}: the server is of another version, and how its bundle reads tables of events cannot be told; give "
            "the bundle with --settings"
        ]
    if rules == own:
        return source, []
    whose = f"the server's bundle ({in_words(rules)})"
    try:
        reopened = opened(rules)
    except InputError as error:
        if not is_chosen:
            raise
        return source, [f"{name}: by the rules of {whose} it could not be used ({error}); yours are followed"]
    if reopened.run.blocks == source.run.blocks:
        return (source if is_chosen else reopened), []
    n_own, n_theirs = (number_of(len(choice.run.blocks), "trial") for choice in (source, reopened))
    if is_chosen:
        return source, [
            f"{name}: {n_own} by the rules that were given ({in_words(own)}), and {n_theirs} by those of {whose}: the "
            "decoder was trained on others than are sent; leave out --settings and --merge-gap if this is not meant"
        ]
    return reopened, [f"{name}: read by the rules of {whose}: {n_theirs}; as usual it would be {n_own}"]


def in_words(rules: EventsSettings) -> str:
    """Write the rules that differ from their defaults, as in a file of settings.

    Parameters
    ----------
    rules : EventsSettings
    """
    set_ = rules.model_dump(mode="json", exclude_defaults=True)
    return (
        ", ".join(f"events.{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in set_.items())
        or "the usual"
    )
