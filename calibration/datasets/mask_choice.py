"""Choose among mask images of one region in several spaces, resolutions and folders: the mask in the runs' grid."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.datasets.masks import lies_in, mask_indices
from calibration.datasets.runs import RunFiles
from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.messages import Run

_ENTITY = re.compile(r"_(space|res|den)-([^_]+)")


@dataclass(frozen=True, slots=True)
class MaskFor:
    """Run that masks are chosen for: its grid, and the name of its file.

    Attributes
    ----------
    open : callable
        Opens the first run; called only if a region has several images.
    file_name : str
    """

    open: Callable[[], Run]
    file_name: str


def mask_for(runs: Sequence[RunFiles]) -> MaskFor:
    """Return the run that masks are chosen for: the first of the runs.

    Parameters
    ----------
    runs : sequence of RunFiles
        At least one.
    """
    return MaskFor(lambda: runs[0].open().run, runs[0].bold.name)


def choose_mask(region: str, paths: Sequence[Path], of: MaskFor) -> tuple[Path, str]:
    """Choose the region's mask that lies in the runs' grid.

    If several lie in it, the mask with the space and resolution that the run's file names is taken; of equal masks, the
    first.

    Parameters
    ----------
    region : str
        Name of the region, for messages.
    paths : sequence of Path
        At least one.
    of : MaskFor

    Returns
    -------
    path : Path
    note : str
        Names the mask taken and those passed over, with the reason; empty if the region has one mask only.

    Raises
    ------
    InputError
        If no mask lies in the grid, or several that differ do.
    """
    if len(paths) == 1:
        return paths[0], ""
    run = of.open()
    inside = [path for path in paths if lies_in(path, run)]
    if not inside:
        raise InputError(
            f"region {region}: none of its {len(paths)} masks lies in the grid of run {run.run_id} ({_named(paths)}); "
            "resample one to the functional images, or give a mask image with --mask"
        )
    alike = [path for path in inside if _entities(path.name) == _entities(of.file_name)] or inside
    if len(alike) > 1 and len({mask_indices(path, run).tobytes() for path in alike}) > 1:
        raise InputError(
            f"region {region}: {len(alike)} masks that differ lie in the grid of run {run.run_id} ({_named(alike)}); "
            "say which is meant with --mask; for several regions, make one image of the masks that are meant"
        )
    why = "the only one in the runs' grid" if len(inside) == 1 else "which is called as the runs are"
    if len(alike) > 1:
        why = f"the same as {len(alike) - 1} other{'s' * (len(alike) > 2)} in the runs' grid"
    not_taken = [path for path in paths if path != alike[0]]
    return alike[0], f"region {region}: of {len(paths)} masks {alike[0]} was taken, {why}; not {_named(not_taken)}"


def _entities(name: str) -> dict[str, str]:
    return dict(_ENTITY.findall(name))


def _named(paths: Sequence[Path]) -> str:
    return first_few([str(path) for path in paths], 4)
