"""The anatomy of a simulated subject: an EPI template, tissue maps and the regions of visual cortex.

Everything is drawn as implicit surfaces in head millimetres (RAS+, with the axes and about the origin of MNI space):
a function gives each point its depth under a surface, positive inside. The drawing is then sampled on the voxel grid
with partial volumes, so that one head can be sampled at any resolution. The seed sets folding, size and pose.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtgod.errors import InputError

Field = NDArray[np.floating[Any]]  # one value for each point, always float32
Points = tuple[Field, Field, Field]  # x, y and z in head mm
Millimetres = tuple[float, float, float]

REGIONS: tuple[str, ...] = ("V1", "V2", "V3", "V4", "LOC", "FFA", "PPA")
UNIONS: dict[str, tuple[str, ...]] = {"LVC": ("V1", "V2", "V3"), "HVC": ("LOC", "FFA", "PPA"), "VC": REGIONS}

VOLUME_MM3 = {"V1": 18900, "V2": 17550, "V3": 16200, "V4": 12150, "LOC": 24300, "FFA": 12150, "PPA": 12150}
# Starts of patches of cortex in the right hemisphere (the left mirrors it), each a line by its two ends. V1 lies on
# the calcarine sulcus; V2 and V3 surround it, so the three grow as one and are told apart by distance to that line.
SEEDS_MM = {
    ("V1", "V2", "V3"): ((7, -97, 2), (10, -68, 9)),
    ("V4",): ((24, -87, -14), (35, -62, -18)),
    ("LOC",): ((44, -82, 6), (50, -62, -2)),
    ("FFA",): ((41, -54, -21), (42, -38, -22)),
    ("PPA",): ((24, -50, -12), (25, -36, -15)),
}
# Box, in head mm, that the field of view must hold.
VISUAL_CORTEX_MM = ((-62, 62), (-101, -28), (-32, 34))

FIELD_CENTRE_MM = (0.0, -17.0, 9.0)
TILT_DEG = 10.0  # slices rise towards the front: the occipital lobe and cerebellum stay in, the face is cut
COARSEST_MM = 8.0  # above this few voxels are mostly cortex, and small regions are no longer resolved
SUBSTEP_MM = 1.5  # a voxel is sampled at least this finely: half the thickness of cortex
CORTEX_MM = 3.2
DEEPEST_SULCUS_MM = 21.0

# T2*-weighted signal at 3 T, TE 30 ms, in scanner units before coil and dropout; skull and air have none.
SIGNAL = {"cortex": 860.0, "grey": 830.0, "white": 690.0, "csf": 1150.0, "scalp": 210.0, "eyes": 900.0}
BRAIN_MEAN = 800.0


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A simulated subject's anatomy on the voxel grid of the functional images; arrays are read-only.

    Attributes
    ----------
    affine : array of shape (4, 4), float64
        Maps voxel indices to scanner mm, RAS+, oblique.
    template : array of shape (x, y, z), float32
        EPI intensity without noise in scanner units: about 800 on average in the brain, 0 in air.
    grey, white, csf : array of shape (x, y, z), float32
        Partial volumes of the tissues, 0 to 1.
    brain : array of shape (x, y, z), bool
        Voxels that are mostly brain or the fluid around it.
    regions : array of shape (x, y, z), int16
        0 outside visual cortex, else 1 + the region's place in `REGIONS`.
    """

    affine: NDArray[np.float64]
    template: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    csf: NDArray[np.float32]
    brain: NDArray[np.bool_]
    regions: NDArray[np.int16]

    def __post_init__(self) -> None:
        for array in (self.affine, self.template, self.grey, self.white, self.csf, self.brain, self.regions):
            array.setflags(write=False)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return the voxels of a region or a union of regions, bool of shape (x, y, z).

        Parameters
        ----------
        name : str
            Member of `REGIONS` or key of `UNIONS`.

        Raises
        ------
        InputError
            If no region or union has that name.
        """
        if name not in REGIONS and name not in UNIONS:
            raise InputError(f"no region {name!r}; known are {', '.join((*REGIONS, *UNIONS))}")
        return np.isin(self.regions, [1 + REGIONS.index(member) for member in UNIONS.get(name, (name,))])


def build_head(
    shape: tuple[int, int, int] = (64, 64, 50),
    voxel_mm: Millimetres = (3.0, 3.0, 3.0),
    seed: int = 0,
    area_scale: Mapping[str, float] | None = None,
) -> Head:
    """Draw a subject and sample it on a grid.

    Parameters
    ----------
    shape : (x, y, z)
        Number of voxels along each axis.
    voxel_mm : (x, y, z)
        Voxel edges in mm.
    seed : int
        Sets the subject's folding, head size and pose. The same seed gives the same head at every resolution.
    area_scale : mapping of str to float, optional
        Size of regions relative to `VOLUME_MM3`; by default 1, as for regions that it lacks.

    Returns
    -------
    Head

    Raises
    ------
    InputError
        If a size is not positive, the field of view cuts visual cortex, or its regions do not fit into the voxels.
    """
    if min(shape) < 1 or not all(math.isfinite(edge) and edge > 0 for edge in voxel_mm):
        raise InputError(f"a grid needs positive sizes, not shape {shape} with voxels of {voxel_mm} mm")
    if max(voxel_mm) > COARSEST_MM:
        raise InputError(f"voxels of {max(voxel_mm):g} mm are too coarse for the folds of cortex; use up to 6 mm")
    rng = np.random.default_rng(seed)
    affine = _oblique_affine(shape, voxel_mm)
    head_from_voxel = _pose(rng) @ affine
    _require_visual_cortex(shape, voxel_mm, head_from_voxel)
    partial = _sample(shape, voxel_mm, head_from_voxel, _Folds.draw(rng))
    grey, white, csf = (
        np.minimum(part, 1) for part in (partial["cortex"] + partial["grey"], partial["white"], partial["csf"])
    )
    brain = grey + white + csf > 0.5
    points = _points(shape, head_from_voxel)
    signal = sum((SIGNAL[tissue] * part for tissue, part in partial.items()), np.zeros(shape, np.float32))
    signal = signal * _coil(*points) * _dropout(*points)
    template = (signal * (BRAIN_MEAN / signal[brain].mean())).astype(np.float32)
    volume_mm3 = {name: volume * (area_scale or {}).get(name, 1.0) for name, volume in VOLUME_MM3.items()}
    regions = _grow_regions(partial["cortex"] > 0.5, points, math.prod(voxel_mm), volume_mm3)
    return Head(affine, template, grey, white, csf, brain, regions)


# ---------------------------------------------------------------------------------------------------- the grid


def _oblique_affine(shape: tuple[int, int, int], voxel_mm: Millimetres) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = _rotation(0, TILT_DEG) @ np.diag(voxel_mm)
    affine[:3, 3] = FIELD_CENTRE_MM - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _rotation(axis: int, angle_deg: float) -> NDArray[np.float64]:
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return rotation


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the map from scanner mm to head mm: the size of this head and its pose, within what padding allows."""
    pitch, roll, yaw = rng.uniform(-1.0, 1.0, 3)
    pose = np.eye(4)
    pose[:3, :3] = np.diag(rng.uniform(0.98, 1.04, 3)) @ _rotation(0, pitch) @ _rotation(1, roll) @ _rotation(2, yaw)
    pose[:3, 3] = FIELD_CENTRE_MM - pose[:3, :3] @ (FIELD_CENTRE_MM + rng.uniform(-1.0, 1.0, 3))
    return pose


def _require_visual_cortex(
    shape: tuple[int, int, int], voxel_mm: Millimetres, head_from_voxel: NDArray[np.float64]
) -> None:
    voxel_from_head = np.linalg.inv(head_from_voxel)
    corners = np.array(list(product(*VISUAL_CORTEX_MM))) @ voxel_from_head[:3, :3].T + voxel_from_head[:3, 3]
    if (corners < -0.5).any() or (corners > np.array(shape) - 0.5).any():
        extent = " × ".join(f"{n * edge:g}" for n, edge in zip(shape, voxel_mm, strict=True))
        raise InputError(f"a field of view of {extent} mm cuts visual cortex; 192 × 192 × 150 mm holds it")


def _points(shape: tuple[int, int, int], head_from_voxel: NDArray[np.float64], offset: ArrayLike = 0.0) -> Points:
    """Return the position of every voxel, `offset` voxels off its centre."""
    origin = head_from_voxel[:3, :3] @ np.broadcast_to(np.asarray(offset), 3) + head_from_voxel[:3, 3]
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    x, y, z = (
        (row[0] * i + row[1] * j + row[2] * k + start).astype(np.float32)
        for row, start in zip(head_from_voxel[:3, :3], origin, strict=True)
    )
    return x, y, z


def _sample(
    shape: tuple[int, int, int],
    voxel_mm: Millimetres,
    head_from_voxel: NDArray[np.float64],
    folds: "_Folds",
) -> dict[str, Field]:
    """Return the partial volume of each tissue, (x, y, z): the mean over a lattice of points in each voxel."""
    counts = [math.ceil(edge / SUBSTEP_MM) for edge in voxel_mm]
    lattice = list(product(*((np.arange(n) + 0.5) / n - 0.5 for n in counts)))
    total = {tissue: np.zeros(shape, np.float32) for tissue in SIGNAL}
    for offset in lattice:
        for tissue, part in _draw(_points(shape, head_from_voxel, offset), folds).items():
            total[tissue] += part
    return {tissue: part / len(lattice) for tissue, part in total.items()}


# ------------------------------------------------------------------------------------------------- the drawing


@dataclass(frozen=True, slots=True)
class _Folds:
    """Random plane waves whose zero crossings are the sulci: (n_waves, 3) per mm, and a phase for each hemisphere."""

    waves: Field
    phases: Field

    @classmethod
    def draw(cls, rng: np.random.Generator, n_waves: int = 20) -> "_Folds":
        directions = rng.standard_normal((n_waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths_mm = rng.uniform(20.0, 32.0, (n_waves, 1))  # each wave crosses zero twice: gyri of 10 to 16 mm
        phases = rng.uniform(0.0, 2 * np.pi, (n_waves, 1)) + rng.normal(0.0, 0.5, (n_waves, 2))  # similar, not equal
        return cls((2 * np.pi / lengths_mm * directions).astype(np.float32), phases.astype(np.float32))

    def distance(self, x: Field, y: Field, z: Field, right: NDArray[np.bool_]) -> Field:
        """Estimate each point's distance in mm from the nearest crossing, to first order, as |n| / |∇n|."""
        value, slope = np.zeros_like(x), [np.zeros_like(x) for _ in range(3)]
        for wave, (phase_left, phase_right) in zip(self.waves, self.phases, strict=True):
            angle = wave[0] * x + wave[1] * y + wave[2] * z + np.where(right, phase_right, phase_left)
            value += np.sin(angle)
            cosine = np.cos(angle)
            for total, component in zip(slope, wave, strict=True):
                total += component * cosine
        # The constant keeps flat spots of the noise from counting as far from every crossing.
        return np.asarray(np.abs(value) / np.sqrt(slope[0] ** 2 + slope[1] ** 2 + slope[2] ** 2 + 0.1))


def _ellipsoid(x: Field, y: Field, z: Field, centre: Millimetres, axes: Millimetres) -> Field:
    """Return the depth in mm under an ellipsoid's surface, to first order."""
    u, v, w = ((p - c) / a for p, c, a in zip((x, y, z), centre, axes, strict=True))
    a, b, c = axes
    radius, slope = np.sqrt(u**2 + v**2 + w**2), np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    return np.asarray(radius * (1 - radius) / np.maximum(slope, 1e-4))


def _draw(points: Points, folds: _Folds) -> dict[str, Field]:
    """Return the share of each tissue at every point: layers are painted over one another, air first."""
    x, y, z = points
    side = np.abs(x)
    dura, cortex, tentorium = _cerebrum(x, y, z, folds)
    cerebellum = np.minimum(_ellipsoid(side, y, z, (16, -60, -34), (33, 28, 25)), tentorium - z - 2)
    arms = 4 * np.sin(9 * np.arctan2(z + 34, y + 44)) * np.sin(side / 6)  # the cerebellum's white matter is a fan
    stem = _ellipsoid(x, y - 0.2 * (z + 30), z, (0, -28, -32), (15, 13, 46))
    inside = np.maximum(np.maximum(dura, cerebellum + 3), np.minimum(stem + 5, 10 - z))
    # Below the skull base the head narrows to face and neck; the back of the neck lies further forward.
    below = np.maximum(-36 - z, 0)
    wide, back = x * (1 + below / 300), (y - below / 2) * (1 + below / 160)
    head = _ellipsoid(wide, back, np.maximum(z, -15), (0, -16, 4), (81, 96, 86))
    sinuses = np.maximum(
        _ellipsoid(side, y, z, (6, 52, -40), (14, 22, 16)), _ellipsoid(x, y, z, (0, 22, -38), (14, 12, 10))
    )
    canals = _ellipsoid(side, y, z, (62, -28, -38), (22, 9, 9))
    thalamus = _ellipsoid(side, y, z, (10, -18, 8), (8, 15, 9))
    putamen = _ellipsoid(side, y, z, (27, 2, 2), (6, 19, 12))
    caudate = _ellipsoid(side, y, z, (14, 14, 9), (6, 12, 10))
    # The lateral ventricles arch over the thalamus and diverge towards the back.
    parting, arch = side - np.maximum(-10 - y, 0) / 3, z + 0.004 * (y + 10) ** 2
    lateral = _ellipsoid(parting, y, arch, (9, -10, 22), (6, 40, 8))
    third, fourth = _ellipsoid(x, y, z, (0, -14, 4), (2, 14, 11)), _ellipsoid(x, y, z, (0, -45, -32), (6, 5, 9))
    layers: list[tuple[str | None, Field]] = [
        ("scalp", head),
        (None, np.minimum(head, inside + 8)),  # skull
        (None, np.maximum(sinuses, canals)),
        ("eyes", _ellipsoid(side, y, z, (32, 60, -34), (12, 12, 12))),
        ("csf", inside),
        ("grey", cerebellum),
        ("white", cerebellum - 9 + arms),
        ("white", np.minimum(stem, -z)),
        ("cortex", cortex),
        ("white", cortex - CORTEX_MM),
        ("grey", np.maximum(np.maximum(thalamus, putamen), caudate)),
        ("csf", np.maximum(np.maximum(lateral, third), fourth)),
    ]
    parts, uncovered = {tissue: np.zeros_like(x) for tissue in SIGNAL}, np.ones_like(x)
    for painted, depth in reversed(layers):
        share = uncovered * np.clip(depth / SUBSTEP_MM + 0.5, 0, 1)  # an edge is a ramp one substep wide
        uncovered -= share
        if painted:
            parts[painted] += share
    return parts


def _cerebrum(x: Field, y: Field, z: Field, folds: _Folds) -> tuple[Field, Field, Field]:
    """Return the depths under the dura and under the folded surface of cortex, and the height z of the tentorium."""
    side = np.abs(x)
    egg = 1 - 0.0012 * np.maximum(y + 30, 0)  # narrower in front
    main = _ellipsoid(side / egg, y, z, (0, -17, 8), (69, 84, 66))
    # Floor of the cranial cavity: the tentorium slopes down sideways, the frontal base rises forwards and sideways.
    front = np.clip((y + 35) / 30, 0, 1)
    tentorium = (1 - front) * (-9 - 0.36 * np.minimum(side, 50)) + front * (
        np.maximum(y - 8, 0) ** 2 / 170 + side**2 / 250 - 19
    )
    temporal = _ellipsoid(side, y, z + 0.22 * (y + 18), (46, -20, -22), (21, 46, 20))
    lobe = np.minimum(main, z - tentorium)
    # The hemispheres are separate at the midline, except at the callosum and the brain's core.
    core = _ellipsoid(x, y, z, (0, -14, 10), (40, 40, 19))
    lobe = np.minimum(lobe, np.maximum(side - 1, core))
    hull = np.maximum(lobe, temporal)
    dura = np.maximum(np.minimum(main, z - tentorium), temporal) + 3

    # In these radially compressed coordinates folds run inwards from the surface of each hemisphere.
    across, along, up = side - 24, y + 17, z - 10
    radius = np.sqrt((across / 45) ** 2 + (along / 84) ** 2 + (up / 60) ** 2)
    scale = 0.5 + 0.5 / np.maximum(radius, 0.35)
    near = (hull > -SUBSTEP_MM) & (hull < DEEPEST_SULCUS_MM + 2 * CORTEX_MM)  # no fold shows elsewhere
    fold = np.full_like(x, 2 * DEEPEST_SULCUS_MM)
    u, v, w = ((p * scale)[near] for p in (across, along, up))
    fold[near] = folds.distance(u, v, w, x[near] > 0) / scale[near]
    sylvian = np.abs(lobe - temporal) / 2 + np.maximum(32 - side, 0) + np.maximum(-42 - y, 0)
    calcarine = np.abs(z - 2 - 0.1 * (y + 100)) + np.maximum(y + 62, 0) + np.maximum(side - 22, 0)
    # A sulcus is the neighbourhood of a sheet, rounded off at a depth of its own.
    depth = DEEPEST_SULCUS_MM - 6 + 6 * np.sin(across / 13 + up / 17) * np.sin(along / 15)
    sulcus = np.minimum(
        np.hypot(np.minimum(fold, calcarine), np.maximum(hull - depth, 0)), np.hypot(sylvian, np.maximum(hull - 24, 0))
    )
    return dura, np.minimum(hull, sulcus - 0.7), tentorium


def _coil(x: Field, y: Field, z: Field) -> Field:
    """Return the receive sensitivity: higher near the elements around the head, highest at the back where it rests."""
    distance = (x / 80) ** 2 + ((y + 17) / 95) ** 2 + ((z - 8) / 85) ** 2
    return np.exp(0.22 * np.minimum(distance, 1.5) - y / 900 + x / 2000)


def _dropout(x: Field, y: Field, z: Field) -> Field:
    """Return the share of signal left where air below the frontal base and in the ear canals dephases it."""
    side = np.abs(x)
    loss = 2.5 * _bump(side, y, z, (5, 34, -26), (16, 16, 13)) + 1.5 * _bump(side, y, z, (56, -24, -38), (11, 12, 9))
    return np.exp(-loss)


def _bump(x: Field, y: Field, z: Field, centre: Millimetres, width: Millimetres) -> Field:
    u, v, w = ((p - c) / s for p, c, s in zip((x, y, z), centre, width, strict=True))
    return np.asarray(np.exp(-(u**2 + v**2 + w**2) / 2))


# ------------------------------------------------------------------------------------------ the visual regions


def _grow_regions(
    cortex: NDArray[np.bool_], points: Points, voxel_mm3: float, volume_mm3: Mapping[str, float]
) -> NDArray[np.int16]:
    """Label the cortex nearest to each seed until every region has its volume, half of it in each hemisphere."""
    regions = np.zeros(cortex.shape, np.int16)
    for sign in (-1, 1):
        index = np.flatnonzero(cortex & (sign * points[0] > 0))
        positions = np.stack([p.ravel()[index] for p in points], axis=1) * (sign, 1, 1)
        quotas = {name: max(1, round(volume / voxel_mm3 / 2)) for name, volume in volume_mm3.items()}
        distance = np.stack([_line_distance(positions, *map(np.array, ends)) for ends in SEEDS_MM.values()], axis=1)
        room = [sum(quotas[name] for name in names) for names in SEEDS_MM]
        # All patches grow at once, each at a pace at which all fill up together, so that none crowds out another.
        pace = distance / np.cbrt(room)
        patch = np.full(len(index), -1)
        for flat in np.argsort(pace, axis=None, kind="stable"):
            voxel, seed = divmod(int(flat), len(room))
            if patch[voxel] < 0 and room[seed]:
                patch[voxel] = seed
                room[seed] -= 1
        if any(room):
            raise InputError(
                f"cortex has too few voxels of {voxel_mm3:g} mm³ for its regions; use voxels of up to 6 mm, or "
                "smaller areas where area_scale is set"
            )
        for seed, names in enumerate(SEEDS_MM):
            members = np.flatnonzero(patch == seed)
            members = members[np.argsort(distance[members, seed], kind="stable")]
            for name in names:
                members, in_region = members[quotas[name] :], members[: quotas[name]]
                regions.ravel()[index[in_region]] = 1 + REGIONS.index(name)
    return regions


def _line_distance(positions: Field, start: NDArray[np.int_], end: NDArray[np.int_]) -> Field:
    line = end - start
    along = np.clip((positions - start) @ line / (line @ line), 0, 1)
    return np.asarray(np.linalg.norm(positions - start - along[:, None] * line, axis=1))
