"""Files of one name, or one that grows, which are a run that is sent or may be the next to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rtgod.messages import LONGEST_TR_S, SHORTEST_TR_S
from rtgod.receivers.in_order import InOrder
from rtgod.receivers.known_folder import identity_of
from rtgod.sources.growing_nifti import GrowingNifti
from rtgod.sources.nifti_file import NiftiLayout, header_beside, is_gzipped


@dataclass(slots=True, eq=False)
class LiveNiftiSeries:
    """NIfTI files, and what came of them.

    Attributes
    ----------
    folder : Path
    stem : str
        Their names without the number, or the whole name of one that grows.
    layout : NiftiLayout
    first : Path
        The file that was found first.
    growing : GrowingNifti or None
        Reader of one that grows.
    order : InOrder
    before : LiveNiftiSeries or None
        The series whose files these took the place of.
    over : str
        Why no more of it is taken.
    is_silent : bool
        Whether it was told that no second volume comes.
    """

    folder: Path
    stem: str
    layout: NiftiLayout
    first: Path
    growing: GrowingNifti | None = None
    order: InOrder = field(default_factory=InOrder)
    before: LiveNiftiSeries | None = None
    over: str = ""
    is_silent: bool = False
    #: Device and inode of the folder, which stay when it is renamed.
    _identity: tuple[int, int] | None = field(init=False)

    def __post_init__(self) -> None:
        self._identity = _identity_if_there(self.folder)

    @property
    def tr_s(self) -> float:
        """Repetition time that the header says, seconds; 0 if none is possible."""
        claim = self.layout.tr_claim(self.first)
        tr_s = float(claim.value) if claim and isinstance(claim.value, float) else 0.0
        return tr_s if SHORTEST_TR_S <= tr_s <= LONGEST_TR_S else 0.0

    @property
    def grows(self) -> bool:
        """Whether the first file has more than a volume by now."""
        is_alone = is_gzipped(self.first) or header_beside(self.first) != self.first
        return not is_alone and n_there(self.first, self.layout) > 1

    def is_renamed_to(self, path: Path) -> bool:
        """Return whether the folder now has the name of that of a file.

        Parameters
        ----------
        path : Path
        """
        if self.folder == path.parent or self._identity is None or self._identity != _identity_if_there(path.parent):
            return False
        return not self.folder.exists()


def n_there(path: Path, layout: NiftiLayout) -> int:
    """Return how many volumes a file has room for by now.

    Parameters
    ----------
    path : Path
    layout : NiftiLayout
    """
    try:
        return (path.stat().st_size - layout.offset) // layout.n_bytes
    except OSError:
        return 0


def _identity_if_there(folder: Path) -> tuple[int, int] | None:
    try:
        return identity_of(folder)
    except OSError:
        return None  # gone again
