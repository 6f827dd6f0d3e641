"""Rules for events of the server's decoder: asked for until the server has said them, as none are guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rtgod.errors import InputError
from rtgod.events.counting import in_words, is_usual, n_used
from rtgod.events.trials import remarks_on
from rtgod.receivers.run_options import RunOptions, live_trials
from rtgod.settings import EventsSettings
from rtgod.sources.event_rules import COUNTS, live_rules
from rtgod.text import number_of

_NO_TABLE = "no table of events (--events): blocks are what a display tells; without any, a window slides over a run"


class ServerRules:
    """Rules that are known once the server has answered.

    Without them nobody knows which volumes are discarded and when trials are, unless both counts were chosen and there
    is no table of events.

    Parameters
    ----------
    ask : callable
        Asks the server; see `rtgod.protocol.clients.Sender.ask_rules`.
    options : RunOptions
        With the table of events of every run.
    counts : mapping of str to int
        Those of `rtgod.sources.event_rules.COUNTS` that the user chose.
    tell : callable
        Shows the operator a line.
    """

    def __init__(
        self,
        ask: Callable[[], Mapping[str, Any] | None],
        options: RunOptions,
        counts: Mapping[str, int],
        tell: Callable[[str], object],
    ) -> None:
        self._ask, self._options, self._counts, self._tell = ask, options, counts, tell
        self._rules: EventsSettings | None = None
        #: Whether runs cannot be decided on before they are known.
        self.are_needed = options.events is not None or len(counts) < len(COUNTS)

    def ask(self) -> None:
        """Ask the server, unless it has answered before, and say what will be done with every run.

        Raises
        ------
        RefusedError
            If the server refuses to answer.
        ServerError
            If no answer came in time.
        InputError
            If the options do not go with the rules, which are known from then on nevertheless.
        """
        if self._rules is None:
            rules, remarks = live_rules(self._ask(), self._counts)
            self._rules = rules
            tell_rules(self._options, rules, remarks, self._tell)
            if self._options.events is None:
                self._tell(_NO_TABLE)

    def ask_later(self) -> None:
        """Ask the server as `ask` does, but only tell what is wrong with the options: a scan goes on.

        Raises
        ------
        RefusedError
            If the server refuses to answer.
        ServerError
            If no answer came in time.
        """
        try:
            self.ask()
        except InputError as error:
            table, why = self._options.events, str(error)
            self._tell(why if table is None else why.replace(str(table.path), table.path.name))

    def applied_to(self, options: RunOptions) -> RunOptions:
        """Return options with the rules, or as they are as long as these are needed and not known.

        Parameters
        ----------
        options : RunOptions
        """
        if self._rules is not None:
            return replace(options, rules=self._rules, server_rules=None)
        if self.are_needed:
            return options
        return replace(options, rules=live_rules(None, self._counts)[0], server_rules=None)


def tell_rules(options: RunOptions, rules: EventsSettings, remarks: list[str], tell: Callable[[str], object]) -> None:
    """Say what will be done with every run.

    Parameters
    ----------
    options : RunOptions
        With the table of events of every run.
    rules : EventsSettings
    remarks : list of str
        Lines about the rules, which come first.
    tell : callable
        Shows the operator a line.

    Raises
    ------
    InputError
        If the table cannot be read by these rules, or no planned volume would be left.
    """
    for line in remarks:
        tell(line)
    if options.n_volumes:
        n_used(options.n_volumes, rules)
    if options.events is not None:
        read, note = live_trials(options.events, rules, options.tr_s)
        tell(f"every run has {number_of(len(read.trials), 'trial')}: {in_words(rules, read.trials, options.tr_s)}")
        for line in ([note] if note else []) + remarks_on([replace(read, counted="")]):
            tell(f"{options.events.path.name}: {line}")
    elif not is_usual(rules):
        tell(f"of every run: {in_words(rules)}")
