"""The option `--as` of `rtgod replay`: a run is played as a scanner, or a tool beside it, sends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rtgod.commands.options import progress_bars, say
from rtgod.errors import InputError
from rtgod.text import number_of, plain, times

if TYPE_CHECKING:
    from rtgod.senders.export import Export
    from rtgod.senders.faults import Wish
    from rtgod.sources import Source

ExportKind = Literal["dicom-folder", "dicom-net", "afni", "vsend", "pyneal"]
Style = Literal["mosaic", "slices", "enhanced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What the command line says of an export.

    Attributes
    ----------
    kind : str or None
        The value of `--as`.
    to : str or None
        A folder or an address; None for the usual one.
    style : str or None
        How DICOM images lie in files; None for mosaics.
    in_pieces : bool
        Whether files grow in pieces.
    faults : tuple of str
    seed : int or None
    patience_s : float
        How long it goes on trying when nobody answers, seconds.
    """

    kind: ExportKind | None
    to: str | None
    style: Style | None
    in_pieces: bool
    faults: tuple[str, ...]
    seed: int | None
    patience_s: float

    def check(self, of_server: Mapping[str, object]) -> None:
        """Refuse options that have no meaning together.

        Parameters
        ----------
        of_server : mapping of str to object
            Values of options that only a replay to a server has, by name; those that are not given are false.

        Raises
        ------
        InputError
            If one has no meaning.
        """
        if self.kind is None:
            own = {
                "--dicom-style": self.style, "--chunks": self.in_pieces, "--fault": self.faults,
                "--seed": self.seed is not None,
            }  # fmt: skip
            if given := [name for name, value in own.items() if value]:
                raise InputError(f"{given[0]}: give a sender that it belongs to with --as, such as --as dicom-folder")
            return
        if given := [name for name, value in of_server.items() if value]:
            raise InputError(
                f"{given[0]}: of a replay to a server; a scanner sends volumes alone, so leave it out with --as (what "
                "receives them, rtgod watch or rtgod receive, may have it)"
            )
        if self.style and not self.kind.startswith("dicom"):
            raise InputError(f"--dicom-style: {self.kind} sends no DICOM; leave it out")
        if self.in_pieces and self.kind != "dicom-folder":
            raise InputError("--chunks: only files grow in pieces, those of --as dicom-folder")


def play_run(source: Source, options: ExportOptions, speed: float, *, dry_run: bool) -> None:
    """Play a run, and say what goes wrong in it on purpose.

    Parameters
    ----------
    source : Source
    options : ExportOptions
    speed : float
        Pace as a multiple of the scanner's; `math.inf` does not wait.
    dry_run : bool
        Only say what would be played.
    """
    from rtgod.senders.faults import read_faults
    from rtgod.senders.play import planned, play

    run, wishes, seed = source.run, read_faults(options.faults), options.seed or 0
    for note in source.notes:
        say(f"{run.run_id}: {note}")
    say(f"{run.run_id}: is played as a new scan; of a run that a bundle was trained on, its rankings are no test")
    if run.blocks:
        say(f"{run.run_id}: its trials are not sent; give their table to what receives the volumes, with --events")
    progress = progress_bars()
    n_sent: Counter[str] = Counter()
    with ExitStack() as stack:
        export = stack.enter_context(_export_of(options))
        if dry_run:
            sends = planned(source, export, wishes, seed)
            faults = ", ".join(f"{sent.fault} {sent.index + 1}" for sent in sends if sent.fault)
            grid = f"{run.n_volumes} volumes of {times(run.shape)}"
            say(f"{run.run_id}: {grid}, TR {run.tr_s:g} s, as {options.kind}; faults: {faults or 'none'}")
            return
        task = progress.add_task(plain(run.run_id), total=run.n_volumes)
        for send in play(source, export, speed, wishes, seed, say):
            if not n_sent:  # no progress bar before a volume was sent
                stack.enter_context(progress)
            n_sent[send.fault or ""] += 1
            progress.update(task, completed=send.index + 1)
    _say_sum(n_sent, wishes)


def _say_sum(n_sent: Counter[str], wishes: Sequence[Wish]) -> None:
    faults = ", ".join(f"{n} {fault}" for fault, n in n_sent.items() if fault)
    n_sends = sum(n for fault, n in n_sent.items() if fault != "missing")
    say(f"{number_of(n_sends, 'volume')} sent" + (f"; faults: {faults or 'none'}" if wishes else ""))


def _export_of(options: ExportOptions) -> Export:
    """Make the export, whose packages are imported now."""
    style, patience_s = options.style or "mosaic", options.patience_s
    if options.kind == "dicom-folder":
        from rtgod.senders.dicom_folder import DicomFolder

        if options.to is None:
            raise InputError("--as dicom-folder: name the folder with --to")
        return DicomFolder(Path(options.to), style, in_pieces=options.in_pieces, seed=options.seed or 0)
    if options.kind == "dicom-net":
        from rtgod.senders import dicom_net

        return dicom_net.DicomStore(options.to or dicom_net.USUAL_TARGET, style, patience_s, say)
    if options.kind == "afni":
        from rtgod.senders import afni_net

        return afni_net.AfniExport(options.to or afni_net.USUAL_TARGET, patience_s, say)
    if options.kind == "vsend":
        from rtgod.senders import vsend_net

        return vsend_net.VsendExport(options.to or vsend_net.USUAL_TARGET, patience_s, say)
    from rtgod.senders import pyneal_net

    return pyneal_net.PynealExport(options.to or pyneal_net.USUAL_TARGET, patience_s, say)
