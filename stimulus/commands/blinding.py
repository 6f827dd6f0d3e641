"""The commands `rtgod stimulus seal` and `rtgod unblind`: conditions that nobody knows until the session has ended.

Modules that take long to import are imported when a command runs, so that other commands start quickly.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rtgod.console import PlainConsole, styled
from rtgod.errors import InputError
from rtgod.text import number_of, plain
from stimulus.tables import NOT_APPLICABLE, line_of

if TYPE_CHECKING:
    from stimulus.blinding.conditions import Condition

CONDITIONS, AUDIT_TRAIL, SHOWN = "conditions.tsv", "unblinding.tsv", "*_shown.sealed"

_CONDITION_COLUMNS = ("run", "condition", "seed", "journal", "journal_run")
_AUDIT_COLUMNS = ("utc", "user", "commitment", "journal", "reason")


def seal(
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to make; it must not exist.")],
    real: Annotated[int, typer.Option(min=0, metavar="N", help="Runs with true feedback.")] = 0,
    shuffled: Annotated[int, typer.Option(min=0, metavar="N", help="Runs with each category in another's place.")] = 0,
    yoked: Annotated[int, typer.Option(min=0, metavar="N", help="Runs that show another session's answers.")] = 0,
    transfer: Annotated[int, typer.Option(min=0, metavar="N", help="Runs without feedback, after the others.")] = 0,
    yoke: Annotated[
        list[Path] | None,
        typer.Option(metavar="JOURNAL", help="Of a session to show in yoked runs; several, by repeating, in turn."),
    ] = None,
    mix_transfer: Annotated[
        bool, typer.Option("--mix-transfer", help="Transfer runs may come between the others.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Of the order; whoever knows it can work the order out. By default drawn."
        ),
    ] = None,
) -> None:
    """Draw the order of a session's conditions and seal it, so that nobody knows it.

    Prints a commitment, to be noted before the session. `rtgod unblind` opens the file afterwards.
    """
    from rtgod.files import write_whole
    from stimulus.blinding.conditions import of_unknown_confidence
    from stimulus.blinding.sealing import commitment
    from stimulus.blinding.sealing import seal as sealed
    from stimulus.blinding.yoking import JOURNALS, pinned

    if out.exists():
        raise InputError(f"{out}: exists already; give the name of a new file")
    plan = _drawn(
        real, shuffled, yoked, transfer, yoke or [], mix_transfer, secrets.randbits(63) if seed is None else seed
    )
    text = sealed([pinned(condition, out.parent) for condition in plan])
    write_whole(out, text)
    print(
        f"{plain(out)}: {number_of(len(plan), 'run')} sealed\ncommitment, to be noted before the session: "
        f"{commitment(text)}"
    )
    for journal in dict.fromkeys(yoke or []):
        n_unknown, n_rankings = of_unknown_confidence(journal)
        if n_unknown:
            print(
                f"{plain(journal.name)}: the confidence of {n_unknown} of its {n_rankings} rankings is not known, so "
                "that they are never pale and their bars are no chances; where the session's own bundle has a "
                "confidence, such a run looks unlike the others: yoke it to a session of a bundle that has one"
            )
        if journal.resolve().parent not in (out.resolve().parent, out.resolve().parent / JOURNALS):
            print(
                f"keep {plain(journal.name)} where it is, seen from {plain(out.name)}, or beside it; else name its "
                "folder with --recordings when the runs are played"
            )


def unblind(
    file: Annotated[Path, typer.Argument(help="As `rtgod stimulus seal` made it.")],
    journal: Annotated[
        list[Path] | None,
        typer.Option(metavar="JOURNAL", help="Of the session, which must have ended; all of them, by repeating."),
    ] = None,
    early: Annotated[
        str | None, typer.Option(metavar="REASON", help="Open it all the same; the reason is put on record.")
    ] = None,
    shown: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help=f"More tables of what was shown, besides {SHOWN} in the same folder."),
    ] = None,
) -> None:
    """Open sealed conditions once the session has ended, and what was shown in it.

    The session's journal shows that it has, and holds the commitment, which the display reported with each sealed run.
    Writes conditions.tsv and the tables of what was shown beside the sealed files, corrects the onsets in the events,
    and adds a line to unblinding.tsv.
    """
    from rtgod.files import write_whole
    from stimulus.blinding.sealing import commitment, read_sealed, unseal
    from stimulus.recording.unsealing import open_tables

    text, journals = read_sealed(file), journal or []
    rows = [_CONDITION_COLUMNS, *_cells(unseal(text, str(file)))]
    _check_permitted(journals, early, commitment(text))
    table = file.with_name(CONDITIONS)
    if table.exists() and table.read_text(encoding="utf-8", errors="replace") != _tsv(rows):
        raise InputError(f"{table}: has other conditions in it; move it elsewhere, it is not overwritten")
    # The record comes before any output: without a record nothing is told.
    _put_on_record(file.with_name(AUDIT_TRAIL), commitment(text), journals, early)
    write_whole(table, _tsv(rows))
    print(f"commitment: {commitment(text)}")
    _print(rows)
    for shown_file in dict.fromkeys([*sorted(file.parent.glob(SHOWN)), *(shown or [])]):
        for written in open_tables(shown_file):
            print(plain(written))


def _drawn(
    n_real: int, n_shuffled: int, n_yoked: int, n_transfer: int, yoke: Sequence[Path], mix_transfer: bool, seed: int
) -> list[Condition]:
    """Draw conditions in a random order, and check every journal."""
    import numpy as np

    from stimulus.blinding.conditions import Condition, ConditionKind, read_recording, runs_to_yoke

    if not n_real + n_shuffled + n_yoked + n_transfer:
        raise InputError("no runs to seal; give at least one of --real, --shuffled, --yoked and --transfer")
    if bool(n_yoked) != bool(yoke):
        raise InputError("--yoked and --yoke belong together: the number of runs, and the journals that they show")
    rng = np.random.default_rng(seed)
    counts = {ConditionKind.REAL: n_real, ConditionKind.SHUFFLED: n_shuffled, ConditionKind.YOKED: n_yoked}
    kinds = [kind for kind, n_runs in counts.items() for _ in range(n_runs)]
    transfer = [ConditionKind.NONE] * n_transfer
    mixed, unmixed = (kinds + transfer, []) if mix_transfer else (kinds, transfer)
    kinds = [mixed[i] for i in rng.permutation(len(mixed))] + unmixed
    # Each journal gives one run before any gives its second.
    runs = [(journal.resolve(), runs_to_yoke(journal)) for journal in yoke]
    plan, n_placed = [], 0
    for kind in kinds:
        match kind:
            case ConditionKind.SHUFFLED:
                plan.append(Condition(kind, seed=int(rng.integers(2**63))))
            case ConditionKind.YOKED:
                n_before, position = divmod(n_placed, len(runs))
                journal, names = runs[position]
                plan.append(Condition(kind, journal=str(journal), run_id=names[n_before % len(names)]))
                read_recording(plan[-1])
                n_placed += 1
            case _:
                plan.append(Condition(kind))
    return plan


def _check_permitted(journals: Sequence[Path], early: str | None, commitment: str) -> None:
    from stimulus.blinding.permission import check_journals

    if early is not None:
        if not early.strip():
            raise InputError("--early: say why; the reason is put on record")
        return
    if not journals:
        raise InputError("give --journal with the session's journal, or --early with a reason")
    check_journals(journals, commitment)


def _put_on_record(path: Path, commitment: str, journals: Sequence[Path], early: str | None) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    row = (now, _user(), commitment, ", ".join(map(str, journals)) or NOT_APPLICABLE, early or NOT_APPLICABLE)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_tsv([row] if file.tell() else [_AUDIT_COLUMNS, row]))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}), and nothing is opened unrecorded") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have no name
        return NOT_APPLICABLE


def _cells(plan: Sequence[Condition]) -> list[tuple[str, ...]]:
    from stimulus.blinding.conditions import ConditionKind

    return [
        (
            str(number),
            str(condition.kind),
            str(condition.seed) if condition.kind is ConditionKind.SHUFFLED else NOT_APPLICABLE,
            Path(condition.journal).name or NOT_APPLICABLE,
            condition.run_id or NOT_APPLICABLE,
        )
        for number, condition in enumerate(plan, 1)
    ]


def _tsv(rows: Sequence[Sequence[str]]) -> str:
    return "".join(line_of(row) + "\n" for row in rows)


def _print(rows: Sequence[Sequence[str]]) -> None:
    heading, *body = rows
    table = Table(*heading, box=None, padding=(0, 2, 0, 0))
    for row in body:
        table.add_row(*map(styled, row))
    PlainConsole(is_table=True).print(table)
