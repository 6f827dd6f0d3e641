"""Stimulus images of the simulated subject: categories of drawn objects, and their exemplars.

A category is one sentence of an object grammar, and its name says the sentence: a build (slender, curved, …), a
texture, two colours, a silhouette (fish, key, teapot, …) and a part (handle, wheels, …). An exemplar is one photograph
of it: posed, lit and put before a background of its own. Silhouettes are signed distance functions, negative inside, in
a frame of about −1 … 1 with y up; one field gives outline, shading and shadow. Only NumPy and seeds: no files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from math import cos, exp, hypot, pi, sin
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rtgod.errors import InputError

# float32 throughout: half the time of float64. NumPy's stubs widen it wherever it meets a Python number.
Field = NDArray[np.floating[Any]]
Shape = Callable[[Field, Field], Field]

MIN_SIZE_PX: Final = 16


@dataclass(frozen=True, slots=True)
class ObjectCategory:
    """One category of objects: what all of its exemplars share.

    Parameters
    ----------
    category_id : str
        's' and 8 digits, counted from 1; never the form of a WordNet id.
    name : str
        Says what is drawn; unique within a list of categories.
    silhouette, build, part, texture : str
        Keys of `SILHOUETTES`, `BUILDS`, `PARTS` and `TEXTURES`; `build` and `part` may be empty.
    colour, accent : str
        Names of the body's colour, and of the colour of its pattern and part.
    texture_angle : float
        Direction of the pattern in radians.
    texture_frequency : float
        Periods of the pattern per unit of the object's frame; the object is about 1.7 units high.
    gloss : float
        Strength of the highlight, 0 (matt) … 1.
    """

    category_id: str
    name: str
    silhouette: str
    build: str
    part: str
    texture: str
    colour: str
    accent: str
    texture_angle: float
    texture_frequency: float
    gloss: float


# ── Distance functions ────────────────────────────────────────────────────────────────────────────────────────────────


def _ellipse(cx: float, cy: float, rx: float, ry: float | None = None, tilt: float = 0.0) -> Shape:
    ry = rx if ry is None else ry
    c, s = cos(tilt), sin(tilt)

    def distance(x: Field, y: Field) -> Field:
        u, v = x - cx, y - cy
        a, b = (c * u + s * v) / rx, (c * v - s * u) / ry
        return (np.sqrt(a * a + b * b) - 1) * min(rx, ry)

    return distance


def _stroke(x0: float, y0: float, x1: float, y1: float, r0: float, r1: float | None = None) -> Shape:
    """Return a round-ended line whose radius goes from `r0` to `r1`."""
    dx, dy, widening = x1 - x0, y1 - y0, (r0 if r1 is None else r1) - r0
    norm = max(dx * dx + dy * dy, 1e-9)

    def distance(x: Field, y: Field) -> Field:
        u, v = x - x0, y - y0
        t = np.clip((u * dx + v * dy) / norm, 0, 1)
        u, v = u - t * dx, v - t * dy
        return np.sqrt(u * u + v * v) - (r0 + widening * t)

    return distance


def _polygon(*corners: tuple[float, float]) -> Shape:
    """Return a convex polygon; its corners go anticlockwise."""
    edges = []
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = hypot(x1 - x0, y1 - y0)
        nx, ny = (y1 - y0) / length, (x0 - x1) / length
        edges.append((nx, ny, nx * x0 + ny * y0))

    def distance(x: Field, y: Field) -> Field:
        nx, ny, offset = edges[0]
        far = nx * x + ny * y - offset
        for nx, ny, offset in edges[1:]:
            far = np.maximum(far, nx * x + ny * y - offset)
        return far

    return distance


def _box(cx: float, cy: float, half_width: float, half_height: float) -> Shape:
    return lambda x, y: np.maximum(np.abs(x - cx) - half_width, np.abs(y - cy) - half_height)


def _turned(*half_widths: float, half_height: float = 0.85) -> Shape:
    """Return a body as from a lathe: `half_widths` at equal steps from the base to the top, rounded off."""
    heights = np.linspace(-half_height, half_height, 61)
    angular = np.interp(heights, np.linspace(-half_height, half_height, len(half_widths)), half_widths)
    padded = np.pad(angular, 6, "reflect", reflect_type="odd")
    widths = np.convolve(padded, np.hanning(15)[1:-1] / 7, mode="valid")

    def distance(x: Field, y: Field) -> Field:
        half_width: Field = np.interp(y, heights, widths).astype(np.float32)
        return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)

    return distance


def _polar(radius: Callable[[Field], Field]) -> Shape:
    return lambda x, y: np.sqrt(x * x + y * y) - radius(np.arctan2(x, y))


def _union(*shapes: Shape, blend: float = 0.05) -> Shape:
    """Return the union with its inner corners filled over a distance of `blend`, as clay would be."""

    def distance(x: Field, y: Field) -> Field:
        near = shapes[0](x, y)
        for shape in shapes[1:]:
            other = shape(x, y)
            overlap = np.maximum(blend - np.abs(near - other), 0)
            near = np.minimum(near, other) - overlap * overlap * (0.25 / blend)
        return near

    return distance


def _ring(cx: float, cy: float, radius: float, half_width: float) -> Shape:
    return lambda x, y: np.abs(np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius) - half_width


def _cut(shape: Shape, hole: Shape) -> Shape:
    return lambda x, y: np.maximum(shape(x, y), -hole(x, y))


def _mirrored(shape: Shape, cx: float = 0.0) -> Shape:
    """Return the right half of a shape and its mirror image about the vertical line through `cx`."""
    return lambda x, y: shape(np.abs(x - cx), y)


def _triangle_wave(phase: Field) -> Field:
    """Return the wave of period 1 between 0 (at whole phases) and 1."""
    offset: Field = phase - np.rint(phase)
    return 2 * np.abs(offset)


# ── The grammar ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Bodies from the lathe, closed curves, then things put together.
# fmt: off
SILHOUETTES: Final[dict[str, Shape]] = {
    "vase": _turned(0.3, 0.45, 0.62, 0.6, 0.35, 0.2, 0.22, 0.42),
    "bottle": _turned(0.36, 0.38, 0.38, 0.38, 0.36, 0.14, 0.13, 0.13, 0.17),
    "goblet": _turned(0.42, 0.12, 0.08, 0.1, 0.42, 0.55, 0.56, 0.52),
    "bell": _turned(0.8, 0.68, 0.52, 0.48, 0.46, 0.4, 0.14, 0.1),
    "hourglass": _turned(0.62, 0.58, 0.4, 0.07, 0.4, 0.58, 0.62),
    "pear": _turned(0.3, 0.6, 0.66, 0.55, 0.36, 0.28, 0.2, 0.04),
    "bowling pin": _turned(0.2, 0.32, 0.38, 0.32, 0.18, 0.13, 0.2, 0.12, half_height=0.9),
    "fir tree": _turned(0.12, 0.12, 0.75, 0.3, 0.58, 0.2, 0.42, 0.0, half_height=0.9),
    "cup": _turned(0.4, 0.48, 0.52, 0.56, 0.6, half_height=0.6),
    "lamp": _turned(0.4, 0.1, 0.06, 0.06, 0.72, 0.58, 0.46, 0.34),
    "spinning top": _turned(0.0, 0.14, 0.5, 0.82, 0.45, 0.1, 0.08, 0.1),
    "mushroom": _union(_stroke(0, -0.66, 0, 0.3, 0.24, 0.18), _cut(_ellipse(0, 0.12, 0.82, 0.68), _box(0, -1, 2, 1))),
    "star": _polar(lambda a: 0.42 + 0.48 * (1 - _triangle_wave(a * (5 / (2 * pi)))) ** 1.3),
    "flower": _polar(lambda a: 0.62 + 0.22 * np.cos(6 * a)),
    "gear": _cut(_polar(lambda a: 0.7 + 0.13 * np.clip(3 * np.cos(10 * a), -1, 1)), _ellipse(0, 0, 0.26)),
    "ring": _ring(0, 0, 0.62, 0.2),
    "crescent": _cut(_ellipse(0, 0, 0.85), _ellipse(0.54, 0.08, 0.7)),
    "cross": _union(_box(0, 0, 0.26, 0.85), _box(0, 0, 0.85, 0.26)),
    "heart": _mirrored(_stroke(0.36, 0.32, -0.02, -0.72, 0.46, 0.04)),
    "leaf": _union(_mirrored(_ellipse(-0.45, 0.1, 0.92)), _stroke(0, -0.6, 0.08, -0.95, 0.05)),
    "key": _union(_ring(0, 0.5, 0.29, 0.11), _box(0, -0.3, 0.09, 0.6), _box(0.2, -0.8, 0.2, 0.08),
                  _box(0.17, -0.52, 0.17, 0.08)),
    "house": _union(_box(0, -0.35, 0.6, 0.45), _polygon((-0.85, 0.08), (0.85, 0.08), (0, 0.85)),
                    _box(0.42, 0.55, 0.1, 0.25), blend=0.02),
    "tree": _union(_stroke(0, -0.85, 0, 0, 0.16, 0.1), _ellipse(0, 0.45, 0.45), _ellipse(-0.4, 0.2, 0.34),
                   _ellipse(0.42, 0.16, 0.36)),
    "fish": _union(_ellipse(0.18, 0, 0.68, 0.42), _stroke(-0.42, 0, -0.82, 0.3, 0.08, 0.13),
                   _stroke(-0.42, 0, -0.82, -0.3, 0.08, 0.13), _stroke(0.1, 0.3, -0.12, 0.56, 0.14, 0.05)),
    "dog": _union(_stroke(-0.45, 0.0, 0.35, 0.02, 0.24, 0.26), _stroke(-0.52, -0.1, -0.56, -0.72, 0.13, 0.1),
                  _stroke(0.4, -0.1, 0.42, -0.72, 0.13, 0.1), _stroke(0.4, 0.1, 0.58, 0.5, 0.2, 0.22),
                  _stroke(0.6, 0.46, 0.9, 0.38, 0.16, 0.1), _stroke(0.46, 0.62, 0.36, 0.38, 0.1, 0.12),
                  _stroke(-0.6, 0.1, -0.9, 0.45, 0.08, 0.05)),
    "cat": _union(_ellipse(0, -0.4, 0.42, 0.5), _ellipse(0, 0.32, 0.42, 0.36), _stroke(0.35, -0.75, 0.75, -0.4, 0.08),
                  _mirrored(_stroke(0.26, 0.5, 0.34, 0.8, 0.14, 0.03)), _mirrored(_ellipse(0.24, -0.82, 0.15, 0.1))),
    "duck": _union(_ellipse(-0.1, -0.25, 0.65, 0.42), _ellipse(0.42, 0.42, 0.28), _stroke(0.36, 0.3, 0.3, -0.1, 0.18),
                   _stroke(0.62, 0.38, 0.88, 0.34, 0.09, 0.05), _stroke(-0.6, -0.1, -0.88, 0.14, 0.16, 0.04)),
    "rabbit": _union(_ellipse(0, -0.45, 0.4, 0.42), _ellipse(0, 0.12, 0.3),
                     _mirrored(_stroke(0.12, 0.3, 0.22, 0.8, 0.09, 0.11)), _mirrored(_ellipse(0.24, -0.8, 0.15, 0.1))),
    "butterfly": _union(_stroke(0, -0.6, 0, 0.5, 0.08), _mirrored(_ellipse(0.46, 0.3, 0.46, 0.32, 0.6)),
                        _mirrored(_ellipse(0.38, -0.36, 0.36, 0.26, -0.7)), _mirrored(_stroke(0, 0.4, 0.2, 0.8, 0.03))),
    "teapot": _union(_ellipse(0, -0.15, 0.55, 0.48), _stroke(0.4, -0.2, 0.88, 0.3, 0.16, 0.07), _ellipse(0, 0.42, 0.1),
                     _ring(-0.58, -0.1, 0.25, 0.07)),
    "boat": _union(_polygon((-0.55, -0.75), (0.5, -0.75), (0.9, -0.28), (-0.85, -0.28)), _box(0, 0.1, 0.05, 0.75),
                   _polygon((0.1, -0.16), (0.75, -0.16), (0.1, 0.8)),
                   _polygon((-0.1, -0.16), (-0.1, 0.6), (-0.55, -0.16)), blend=0.01),
    "car": _union(_stroke(-0.68, -0.15, 0.68, -0.18, 0.22), _stroke(-0.28, 0.14, 0.2, 0.14, 0.24),
                  _mirrored(_ellipse(0.45, -0.42, 0.22))),
    "umbrella": _union(_cut(_cut(_ellipse(0, 0.05, 0.88, 0.75), _box(0, -0.98, 2, 1)),
                            _mirrored(_union(_ellipse(0.22, 0, 0.24, 0.14), _ellipse(0.66, 0, 0.24, 0.14)))),
                       _box(0, -0.3, 0.05, 0.45), _stroke(0, -0.75, 0.2, -0.78, 0.06)),
    "cactus": _union(_stroke(0, -0.75, 0, 0.65, 0.2), _stroke(0.1, -0.2, 0.5, -0.1, 0.11),
                     _stroke(0.52, -0.1, 0.52, 0.35, 0.12), _stroke(-0.1, -0.4, -0.48, -0.3, 0.11),
                     _stroke(-0.5, -0.3, -0.5, 0.1, 0.12)),
    "hammer": _union(_stroke(0, -0.85, 0, 0.5, 0.11, 0.08), _box(0.0, 0.55, 0.35, 0.2),
                     _stroke(-0.3, 0.6, -0.7, 0.45, 0.18, 0.04)),
    "chair": _union(_box(-0.42, 0.0, 0.1, 0.85), _box(0.05, -0.12, 0.5, 0.11), _box(0.45, -0.5, 0.09, 0.35)),
    "snowman": _union(_ellipse(0, -0.45, 0.45), _ellipse(0, 0.15, 0.33), _ellipse(0, 0.6, 0.24),
                      _box(0, 0.82, 0.26, 0.04)),
    "guitar": _cut(_union(_ellipse(0, -0.52, 0.42, 0.36), _ellipse(0, -0.08, 0.32, 0.28), _box(0, 0.45, 0.07, 0.45),
                          _box(0, 0.85, 0.13, 0.12)), _ellipse(0, -0.2, 0.12)),
    "boot": _union(_stroke(-0.25, 0.65, -0.25, -0.4, 0.3, 0.28), _stroke(-0.2, -0.5, 0.5, -0.55, 0.26, 0.2),
                   _box(0.1, -0.76, 0.62, 0.07)),
    "anchor": _union(_box(0, 0.05, 0.08, 0.7), _stroke(-0.35, 0.42, 0.35, 0.42, 0.08), _ring(0, 0.75, 0.15, 0.06),
                     _cut(_ring(0, -0.15, 0.6, 0.09), _box(0, 0.65, 2, 1)),
                     _mirrored(_stroke(0.6, -0.42, 0.62, -0.1, 0.14, 0.02))),
}
# fmt: on

_EYES: Final = _mirrored(_ellipse(0.15, 0.36, 0.06))
# Dark details, which make a silhouette an object.
MARKS: Final[dict[str, Shape]] = {
    "fish": _ellipse(0.5, 0.12, 0.07),
    "dog": _union(_ellipse(0.62, 0.56, 0.05), _ellipse(0.97, 0.42, 0.06)),
    "cat": _union(_EYES, _ellipse(0, 0.22, 0.05, 0.035)),
    "duck": _ellipse(0.5, 0.5, 0.055),
    "rabbit": _union(_mirrored(_ellipse(0.12, 0.18, 0.045)), _ellipse(0, 0.04, 0.04)),
    "snowman": _union(_mirrored(_ellipse(0.09, 0.64, 0.04)), _ellipse(0, 0.2, 0.045), _ellipse(0, 0.02, 0.045)),
    "house": _union(_box(0, -0.55, 0.13, 0.26), _mirrored(_box(0.36, -0.2, 0.11, 0.11))),
    "car": _mirrored(_ellipse(0.45, -0.42, 0.13)),
    "butterfly": _stroke(0, -0.55, 0, 0.48, 0.045),
    "boot": _box(0.1, -0.76, 0.64, 0.05),
}

# Each takes the object's frame to its silhouette's frame.
BUILDS: Final[dict[str, Callable[[Field, Field], tuple[Field, Field]]]] = {
    "": lambda x, y: (x, y),
    "slender": lambda x, y: (x / np.float32(0.66), y),
    "stout": lambda x, y: (x, y / np.float32(0.68)),
    "leaning": lambda x, y: (x - np.float32(0.4) * y, y),
    "curved": lambda x, y: (x - np.float32(0.4) * (y * y - 0.3), y),
    "top-heavy": lambda x, y: (x / np.clip(1 + np.float32(0.42) * y, 0.4, 2), y),
}

# Each with its weight: half of the objects have none.
PARTS: Final = {
    "": 8, "with handle": 1, "with horns": 1, "with tail": 1, "with wings": 1,
    "with knobs": 1, "with spikes": 1, "on wheels": 1, "on legs": 1,
}  # fmt: skip

PALETTE: Final = {
    "red": (0.80, 0.10, 0.12), "orange": (0.95, 0.50, 0.08), "yellow": (0.97, 0.84, 0.18), "lime": (0.60, 0.80, 0.15),
    "green": (0.08, 0.45, 0.18), "teal": (0.05, 0.56, 0.56), "sky-blue": (0.40, 0.74, 0.95), "blue": (0.12, 0.25, 0.75),
    "purple": (0.45, 0.16, 0.62), "pink": (0.96, 0.52, 0.70), "brown": (0.42, 0.24, 0.12), "cream": (0.97, 0.93, 0.80),
    "charcoal": (0.16, 0.16, 0.19),
}  # fmt: skip

_COLOUR_PAIRS: Final = tuple(
    (colour, accent)
    for colour, rgb in PALETTE.items()
    for accent, other in PALETTE.items()
    if float(np.linalg.norm(np.subtract(rgb, other))) > 0.6
)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What a texture needs to know: the place on the body, in periods of the pattern, and the edge's sharpness."""

    u: Field
    v: Field
    x: Field
    y: Field
    depth: Field
    sharpness: float

    def mask(self, wave: Field) -> Field:
        """Return where `wave`, which swings between about −1 and 1, is positive, with anti-aliased edges."""
        return np.clip(0.5 + self.sharpness * wave, 0, 1)


_TURN: Final = np.float32(2 * pi)

# Where the accent colour covers the body: 0 … 1.
TEXTURES: Final[dict[str, Callable[[_Pattern], Field]]] = {
    "striped": lambda p: p.mask(np.sin(_TURN * p.u)),
    "chequered": lambda p: p.mask(3 * np.sin(_TURN * p.u) * np.sin(_TURN * p.v)),
    "dotted": lambda p: p.mask(2 - 6 * np.hypot(p.u - np.rint(p.u), p.v - np.rint(p.v))),
    "ringed": lambda p: p.mask(np.sin(_TURN * np.sqrt(p.u * p.u + p.v * p.v))),
    "zigzag": lambda p: p.mask(np.sin(_TURN * (p.u + _triangle_wave(p.v)))),
    "marbled": lambda p: 0.5 + 0.5 * np.sin(3 * p.u + 2.2 * np.sin(2 * p.v + 1.5 * np.sin(2.6 * p.u))),
    "netted": lambda p: p.mask(1 - 5 * np.minimum(np.abs(p.u - np.rint(p.u)), np.abs(p.v - np.rint(p.v)))),
    "trimmed": lambda p: p.mask(1 - 12 * p.depth),
    "dipped": lambda p: p.mask(-5 * p.y - 0.5 + 0.4 * np.sin(_TURN * p.x)),
    "fading": lambda p: np.clip(0.5 + 0.75 * p.y, 0, 1),
}


def object_categories(n_categories: int, seed: int) -> tuple[ObjectCategory, ...]:
    """Draw object categories from the grammar, without replacement.

    The silhouettes take turns in an order of the seed's, and each silhouette meets every texture before any texture
    comes again, so that categories near each other in the list are different things.

    Parameters
    ----------
    n_categories : int
        How many; a shorter list is the beginning of a longer one.
    seed : int
        The same seed gives the same list.

    Returns
    -------
    tuple of ObjectCategory
        Names and ids are unique.

    Raises
    ------
    InputError
        When `n_categories` is below 1, or more than the grammar can name.
    """
    builds, nouns, textures, parts = tuple(BUILDS), tuple(SILHOUETTES), tuple(TEXTURES), tuple(PARTS)
    rest = (len(builds), len(_COLOUR_PAIRS), len(parts))
    n_names = len(nouns) * len(textures) * int(np.prod(rest))
    if not 1 <= n_categories <= n_names:
        raise InputError(f"n_categories is {n_categories}; the object grammar can name 1 to {n_names} categories")
    rng = np.random.default_rng(seed)
    noun_order = rng.permutation(len(nouns))
    texture_order = [rng.permutation(len(textures)) for _ in nouns]
    categories = []
    for number in range(n_categories):
        round_, turn = divmod(number, len(nouns))
        noun = int(noun_order[turn])
        texture = int(texture_order[noun][round_ % len(textures)])
        order = _shuffled(seed, noun, texture, rest)
        build, pair, part = np.unravel_index(order[round_ // len(textures)], rest)
        words = (builds[build], textures[texture], "-and-".join(_COLOUR_PAIRS[pair]), nouns[noun], parts[part])
        own = np.random.default_rng([seed, number])
        categories.append(
            ObjectCategory(
                category_id=f"s{number + 1:08d}",
                name=" ".join(word for word in words if word),
                silhouette=nouns[noun],
                build=builds[build],
                part=parts[part],
                texture=textures[texture],
                colour=_COLOUR_PAIRS[pair][0],
                accent=_COLOUR_PAIRS[pair][1],
                texture_angle=float(own.uniform(0, pi)),
                texture_frequency=float(own.uniform(2.2, 4.5)),
                gloss=float(own.uniform(0.0, 0.8)),
            )
        )
    return tuple(categories)


@lru_cache(maxsize=1024)
def _shuffled(seed: int, noun: int, texture: int, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the combinations of the other words in a random order, in which heavier parts tend to come earlier."""
    waits = np.random.default_rng([seed, noun, texture]).exponential(size=shape) / np.array(tuple(PARTS.values()))
    return np.argsort(waits, axis=None)


# ── One object in its own frame ───────────────────────────────────────────────────────────────────────────────────────


def _grid(half_extent: float, n: int) -> tuple[Field, Field]:
    axis = np.linspace(-half_extent, half_extent, n, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


@cache
def _part(silhouette: str, part: str) -> Shape:
    """Return the part, attached where this silhouette's body ends."""
    body = SILHOUETTES[silhouette]
    x, y = _grid(1.0, 64)
    inside = body(x, y) < 0
    x, y = x[inside], y[inside]

    def reach(sign: int, height: float) -> float:
        row = x[np.abs(y - height) < 0.06]
        return float((sign * row).max(initial=0.05))

    low, high, middle = float(y.min()), float(y.max()), float(np.median(y))
    right, left = reach(1, middle), reach(-1, middle)
    head, foot = float(x[y > high - 0.08].mean()), x[y < low + 0.3]
    foot_x, stance = 0.5 * float(foot.max() + foot.min()), max(0.5 * float(np.ptp(foot)) - 0.12, 0.2)
    half, spike = 0.5 * (right + left), np.float32(9 / pi)

    def spiky(x: Field, y: Field) -> Field:
        # The waves narrow towards the centre, where they would only flicker.
        v = y - middle
        height: Field = 0.17 * _triangle_wave(np.arctan2(x, v) * spike) * np.minimum(2 * (x * x + v * v), 1)
        return body(x, y) - height

    # fmt: off
    shapes = {
        "with handle": _ring(right + 0.1, middle, 0.25, 0.065),
        "with horns": _mirrored(_union(_stroke(0.08, high - 0.12, 0.34, high + 0.12, 0.11, 0.09),
                                       _stroke(0.34, high + 0.12, 0.34, high + 0.42, 0.09, 0.02)), head),
        "with tail": _union(_stroke(0.1 - left, middle - 0.1, -left - 0.35, middle - 0.15, 0.09, 0.08),
                            _stroke(-left - 0.35, middle - 0.15, -left - 0.42, middle + 0.4, 0.08, 0.07),
                            _ellipse(-left - 0.42, middle + 0.45, 0.13)),
        "with wings": _mirrored(_union(_ellipse(half + 0.2, middle + 0.2, 0.42, 0.15, 0.7),
                                       _ellipse(half + 0.2, middle, 0.36, 0.12, 0.1)), 0.5 * (right - left)),
        "with knobs": _union(_ellipse(head, high + 0.08, 0.15), _ellipse(right + 0.06, middle, 0.15),
                             _ellipse(-left - 0.06, middle, 0.15)),
        "with spikes": spiky,
        "on wheels": _mirrored(_cut(_ellipse(stance, low - 0.02, 0.24), _ellipse(stance, low - 0.02, 0.07)), foot_x),
        "on legs": _mirrored(_union(_stroke(stance, low + 0.12, stance + 0.12, low - 0.4, 0.1, 0.08),
                                    _stroke(stance + 0.12, low - 0.4, stance + 0.25, low - 0.42, 0.08)), foot_x),
    }
    # fmt: on
    return shapes[part]


@cache
def _outline(silhouette: str, build: str, part: str) -> NDArray[np.float32]:
    """Return points (n_points, 2) whose convex hull is the object's, to fit it into an image."""
    x, y = _grid(1.9, 96)
    u, v = BUILDS[build](x, y)
    whole = SILHOUETTES[silhouette](u, v)
    if part:
        whole = np.minimum(whole, _part(silhouette, part)(u, v))
    covered = whole < 0.02
    ends = covered & ~(np.roll(covered, 1, axis=1) & np.roll(covered, -1, axis=1))
    return np.stack([x[ends], y[ends]], axis=1)


# ── One photograph ────────────────────────────────────────────────────────────────────────────────────────────────────


def draw(category: ObjectCategory, exemplar: int, size_px: int = 160, seed: int = 0) -> NDArray[np.uint8]:
    """Draw one exemplar of a category.

    Exemplars differ in rotation (±20°), side, size, place, aspect, phase of the texture, hue, light and background.

    Parameters
    ----------
    category : ObjectCategory
        What to draw.
    exemplar : int
        Which exemplar, from 0.
    size_px : int
        Height and width of the image in pixels, at least 16.
    seed : int
        The same category, exemplar, size and seed give the same bytes; another processor or NumPy may round otherwise.

    Returns
    -------
    array of shape (size_px, size_px, 3), uint8
        RGB.

    Raises
    ------
    InputError
        When `size_px` is too small or `exemplar` is negative.
    """
    return _photograph(category, exemplar, size_px, seed)[0]


def _photograph(category: ObjectCategory, exemplar: int, size_px: int, seed: int) -> tuple[NDArray[np.uint8], Field]:
    """Return the image and the object's opacity (size_px, size_px)."""
    if size_px < MIN_SIZE_PX:
        raise InputError(f"size_px is {size_px}; an object needs at least {MIN_SIZE_PX} pixels")
    if exemplar < 0:
        raise InputError(f"exemplar is {exemplar}; exemplars count from 0")
    rng = np.random.default_rng([seed, int(category.category_id[1:]), exemplar])
    x, y, unit_px = _posed(category, rng, size_px)
    x, y = BUILDS[category.build](x, y)
    body = SILHOUETTES[category.silhouette](x, y)
    whole = np.minimum(body, _part(category.silhouette, category.part)(x, y)) if category.part else body
    down, right = np.gradient(whole)
    slope = np.sqrt(down * down + right * right) + np.float32(1e-6)
    alpha = np.clip(0.5 - whole / slope, 0, 1)

    accent = _accent(category, rng, x, y, body, unit_px)
    colours = _jittered(np.array([PALETTE[category.colour], PALETTE[category.accent]]), rng)
    light = _light(rng)
    shade, highlight = _shading(whole, down / slope, right / slope, light)
    paint = colours[0, :, None, None] + accent * (colours[1] - colours[0])[:, None, None]
    if category.silhouette in MARKS:
        paint *= 1 - 0.85 * np.clip(0.5 - unit_px * MARKS[category.silhouette](x, y), 0, 1)
    paint = paint * shade + np.float32(category.gloss) * highlight

    image = _background(rng, size_px) * (1 - 0.4 * _shadow(whole, unit_px, light))
    image += alpha * (paint - image)
    return np.ascontiguousarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)), alpha


def _posed(category: ObjectCategory, rng: np.random.Generator, size_px: int) -> tuple[Field, Field, float]:
    """Return each pixel's place in the object's frame, and the pixels per unit of that frame."""
    angle = rng.uniform(-20, 20) * pi / 180
    aspect = exp(rng.uniform(-0.1, 0.1))
    side = rng.choice((-1, 1))
    turn = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]) @ np.diag([side * aspect, 1 / aspect])
    points = _outline(category.silhouette, category.build, category.part) @ turn.T
    low, high = points.min(axis=0), points.max(axis=0)
    scale = rng.uniform(0.7, 0.86) / (0.5 * float((high - low).max()))
    slack = 0.93 - 0.5 * scale * (high - low)
    centre = rng.uniform(-1, 1, 2) * np.minimum(slack, 0.15) - 0.5 * scale * (high + low)
    back = (np.linalg.inv(turn) / scale).astype(np.float32)
    axis = (np.arange(size_px, dtype=np.float32) + 0.5) * (2 / size_px) - 1
    across, up = axis - np.float32(centre[0]), (-axis - np.float32(centre[1]))[:, None]
    return back[0, 0] * across + back[0, 1] * up, back[1, 0] * across + back[1, 1] * up, 0.5 * size_px * scale


def _accent(
    category: ObjectCategory, rng: np.random.Generator, x: Field, y: Field, body: Field, unit_px: float
) -> Field:
    """Return where the accent colour is: the texture on the body, and the whole of the part."""
    angle = category.texture_angle + rng.uniform(-0.12, 0.12)
    frequency = category.texture_frequency * exp(rng.uniform(-0.1, 0.1))
    c, s = np.float32(frequency * cos(angle)), np.float32(frequency * sin(angle))
    phase = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    # A wave's steepest slope is 2π per period: this makes the pattern's edge about one pixel wide.
    sharpness = max(unit_px / (2 * pi * frequency), 0.5)
    pattern = _Pattern(c * x + s * y + phase[0], c * y - s * x + phase[1], x, y, -body, sharpness)
    texture = TEXTURES[category.texture](pattern)
    if not category.part:
        return texture
    return np.maximum(texture, np.clip(0.5 + unit_px * body, 0, 1))


def _jittered(rgb: NDArray[np.float64], rng: np.random.Generator) -> Field:
    """Return colours (n, 3) turned a little around the grey axis and made a little lighter or darker."""
    angle, lightness = rng.uniform(-0.12, 0.12), exp(rng.uniform(-0.12, 0.12))
    k = sin(angle) / np.sqrt(3)
    cross = k * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    turn = cos(angle) * np.eye(3) + cross + (1 - cos(angle)) / 3
    turned: Field = np.clip(rgb @ turn.T, 0.02, 1) * lightness
    return turned.astype(np.float32)


def _light(rng: np.random.Generator) -> Field:
    """Return the unit vector (down, right, towards the camera) to the light, which comes from above."""
    azimuth, elevation = rng.uniform(-1.1, 1.1), rng.uniform(0.75, 1.05)
    return np.array([-cos(azimuth) * cos(elevation), sin(azimuth) * cos(elevation), sin(elevation)], dtype=np.float32)


def _shading(whole: Field, down: Field, right: Field, light: Field) -> tuple[Field, Field]:
    """Return diffuse light and highlight of a cushion whose outline is the object's."""
    steep = 1.5 * np.clip(1 + whole / np.float32(0.28), 0, 1)
    tilt = _smooth(np.stack([steep * down, steep * right]), max(1, len(whole) // 100))
    norm = 1 / np.sqrt(1 + tilt[0] * tilt[0] + tilt[1] * tilt[1])
    half = light + np.array([0, 0, 1], dtype=np.float32)
    half /= np.linalg.norm(half)
    diffuse = np.maximum((tilt[0] * light[0] + tilt[1] * light[1] + light[2]) * norm, 0)
    glance = np.maximum((tilt[0] * half[0] + tilt[1] * half[1] + half[2]) * norm, 0)
    for _ in range(5):
        glance = glance * glance
    return 0.38 + 0.72 * diffuse, 0.6 * glance


def _smooth(fields: Field, radius_px: int) -> Field:
    """Blur fields (n, height, width) in place, which takes the creases out of the medial axis."""
    for step in (radius_px, 2 * radius_px):
        for f in (fields, fields.transpose(0, 2, 1)):
            f[:, step:-step] = 0.5 * f[:, step:-step] + 0.25 * (f[:, : -2 * step] + f[:, 2 * step :])
    return fields


def _shadow(whole: Field, unit_px: float, light: Field) -> Field:
    """Return the soft shadow that falls on the background, away from the light."""
    pixels = np.arange(len(whole))
    rows, columns = (np.clip(pixels + round(0.2 * unit_px * float(way)), 0, pixels[-1]) for way in light[:2])
    reach = np.clip(1 - whole[rows][:, columns] / np.float32(0.2), 0, 1)
    return reach * reach


def _background(rng: np.random.Generator, size_px: int) -> Field:
    """Return a smooth low-contrast backdrop (3, size_px, size_px) of a hue of its own."""
    base = rng.uniform(0.45, 0.8) + 0.055 * rng.standard_normal((3, 1, 1))
    n_knots = 5
    knots = base + 0.04 * rng.standard_normal((1, n_knots, n_knots)) + 0.02 * rng.standard_normal((3, n_knots, n_knots))
    place = np.linspace(0, n_knots - 1, size_px)[:, None] - np.arange(n_knots)
    weights = (0.5 + 0.5 * np.cos(pi * np.clip(place, -1, 1))).astype(np.float32)
    return weights @ knots.astype(np.float32) @ weights.T
