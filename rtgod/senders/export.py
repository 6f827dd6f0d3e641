"""The interface of an export: a scanner's end of a protocol, which sends a run's volumes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rtgod.errors import RtgodError
from rtgod.files import Closing
from rtgod.messages import Run, Volume
from rtgod.senders.faults import Fault
from rtgod.senders.voxels import VoxelRange


class StoppedError(RtgodError):
    """The receiver has asked for no more volumes."""


class Export(Closing):
    """A scanner's end of a protocol."""

    #: What `--as` calls it.
    name: ClassVar[str]
    #: Faults that it cannot play, each with the reason.
    impossible: ClassVar[Mapping[Fault, str]] = {}
    #: Whether nothing can overtake a volume that is late.
    in_stream: ClassVar[bool] = False

    @abstractmethod
    def begin(self, run: Run, voxels: VoxelRange) -> Sequence[str]:
        """Begin a run.

        Parameters
        ----------
        run : Run
        voxels : VoxelRange
            Numbers of all of its voxels.

        Returns
        -------
        sequence of str
            Lines for the operator: what is not sent exactly as it is.

        Raises
        ------
        InputError
            If it cannot be sent like this.
        ServerError
            If the receiver cannot be reached.
        """

    @abstractmethod
    def volume(self, volume: Volume, *, is_cut: bool = False) -> None:
        """Send a volume.

        Parameters
        ----------
        volume : Volume
        is_cut : bool
            Whether it breaks off in the middle.

        Raises
        ------
        ServerError
            If the receiver is gone.
        StoppedError
            If it wants no more.
        """

    @abstractmethod
    def end(self) -> None:
        """End the run."""
