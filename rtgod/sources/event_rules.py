"""Rules for a source's table of events: those of the server's decoder, unless others were chosen.

A decoder was trained on trials that certain settings found. With other settings the same table may give other trials,
which do not match those that the decoder was trained on; so may volumes that are counted otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from rtgod.errors import InputError
from rtgod.settings import EventsSettings
from rtgod.sources import Source
from rtgod.text import number_of

#: Settings that count volumes, and may be chosen for a run beside the rules of its table.
COUNTS = ("discard_volumes", "count_from")
_ANOTHER_VERSION = "the server is of another version, and how its bundle reads tables of events cannot be told"


def agreed(
    source: Source,
    opened: Callable[[EventsSettings], Source],
    own: EventsSettings,
    theirs: Mapping[str, Any] | None,
    *,
    is_chosen: bool,
    counts: Mapping[str, int] = MappingProxyType({}),
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
    counts : mapping of str to int
        Those of `COUNTS` that the user chose; the others are the decoder's.

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
    if theirs is None:
        return source, []
    try:
        trained = EventsSettings.model_validate(theirs)
    except ValidationError:
        return source, [f"{_ANOTHER_VERSION}; give the bundle with --settings"]
    mine, rules = (_counted(settings, trained, counts) for settings in (own, trained))
    remarks = _on_counts(trained, rules)
    if mine != own:
        source = opened(mine)
    own = mine
    if source.read is None or rules == own:
        return source, remarks
    name = source.read.path.name
    whose = f"the server's bundle ({in_words(rules)})"
    try:
        reopened = opened(rules)
    except InputError as error:
        if not is_chosen:
            raise
        why = f"{name}: by the rules of {whose} it could not be used ({error}); yours are followed"
        return source, [*remarks, why]
    if reopened.run.blocks == source.run.blocks:
        return (source if is_chosen else reopened), remarks
    n_own, n_theirs = (number_of(len(choice.run.blocks), "trial") for choice in (source, reopened))
    if is_chosen:
        return source, [
            *remarks,
            f"{name}: {n_own} by the rules that were given ({in_words(own)}), and {n_theirs} by those of {whose}: the "
            "decoder was trained on others than are sent; leave out --settings and --merge-gap if this is not meant",
        ]
    return reopened, [*remarks, f"{name}: read by the rules of {whose}: {n_theirs}; as usual it would be {n_own}"]


def live_rules(theirs: Mapping[str, Any] | None, counts: Mapping[str, int]) -> tuple[EventsSettings, list[str]]:
    """Choose the rules for a running scan: those of the server's decoder, but for the counts that the user chose.

    Parameters
    ----------
    theirs : mapping of str to value, or None
        The rules of the server's decoder, from `rtgod.messages.Pong`; None if it has none or does not give them.
    counts : mapping of str to int
        Those of `COUNTS` that the user chose.

    Returns
    -------
    rules : EventsSettings
    remarks : list of str
        Remarks for the operator, a line each.
    """
    usual = EventsSettings().model_copy(update=dict(counts))
    try:
        trained = EventsSettings.model_validate(theirs or {})
    except ValidationError:
        return usual, [f"{_ANOTHER_VERSION}; they are read as usual"]
    if theirs is None:
        return usual, []
    rules = _counted(trained, trained, counts)
    of_table = rules.model_copy(update={name: getattr(usual, name) for name in COUNTS})
    told = [] if of_table == usual else [f"events are read by the rules of the server's bundle ({in_words(rules)})"]
    return rules, [*told, *_on_counts(trained, rules)]


def _counted(settings: EventsSettings, trained: EventsSettings, counts: Mapping[str, int]) -> EventsSettings:
    """Return settings with the decoder's counts, but for those that the user chose."""
    return settings.model_copy(update={name: counts.get(name, getattr(trained, name)) for name in COUNTS})


def _on_counts(trained: EventsSettings, rules: EventsSettings) -> list[str]:
    """Remark on volumes that are counted otherwise than those that the decoder was trained on."""
    differing = [name for name in COUNTS if getattr(trained, name) != getattr(rules, name)]
    if not differing:
        return []
    here, there = (", ".join(f"events.{name} = {getattr(one, name)}" for name in differing) for one in (rules, trained))
    return [
        f"volumes are counted otherwise here ({here}) than for the runs that the server's decoder was trained on "
        f"({there}); right only if these were recorded, or their tables written, in another way"
    ]


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
