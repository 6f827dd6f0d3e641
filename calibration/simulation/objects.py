"""Categories of drawn objects, named by the sentences of a grammar.

A category's name is its sentence: a build (slender, curved, …), a texture, two colours, a silhouette (fish, key,
teapot, …) and a part (handle, wheels, …). `photograph.py` draws it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.simulation.shapes import SILHOUETTES, Field, triangle_wave
from rtgod.errors import InputError


@dataclass(frozen=True, slots=True)
class ObjectCategory:
    """Category of objects: the properties that all of its exemplars share.

    Attributes
    ----------
    category_id : str
        's' and 8 digits, counted from 1; never the form of a WordNet id.
    name : str
        Words that describe the object; unique within a list of categories.
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


# Each build maps the object's frame to its silhouette's frame.
BUILDS: Final[dict[str, Callable[[Field, Field], tuple[Field, Field]]]] = {
    "": lambda x, y: (x, y),
    "slender": lambda x, y: (x / np.float32(0.66), y),
    "stout": lambda x, y: (x, y / np.float32(0.68)),
    "leaning": lambda x, y: (x - np.float32(0.4) * y, y),
    "curved": lambda x, y: (x - np.float32(0.4) * (y * y - 0.3), y),
    "top-heavy": lambda x, y: (x / np.clip(1 + np.float32(0.42) * y, 0.4, 2), y),
}

# Parts with their weights: half of the objects have no part.
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
    for accent, accent_rgb in PALETTE.items()
    if float(np.linalg.norm(np.subtract(rgb, accent_rgb))) > 0.6
)


@dataclass(frozen=True, slots=True)
class TextureCoordinates:
    """Inputs of a texture: the place on the body, in periods of the pattern, and the edge's sharpness."""

    u: Field
    v: Field
    x: Field
    y: Field
    depth: Field
    sharpness: float

    def mask(self, wave: Field) -> Field:
        """Return 1 where `wave` is positive, else 0, with anti-aliased edges.

        Parameters
        ----------
        wave : ndarray of shape (height, width), float32
            An edge is about a pixel wide if the wave is as steep there as a sine from −1 to 1 of the pattern's period.
        """
        return np.clip(0.5 + self.sharpness * wave, 0, 1)


_TURN: Final = np.float32(2 * pi)

# Share of the accent colour on the body, 0 … 1, for each texture.
TEXTURES: Final[dict[str, Callable[[TextureCoordinates], Field]]] = {
    "striped": lambda p: p.mask(np.sin(_TURN * p.u)),
    "chequered": lambda p: p.mask(3 * np.sin(_TURN * p.u) * np.sin(_TURN * p.v)),
    "dotted": lambda p: p.mask(2 - 6 * np.hypot(p.u - np.rint(p.u), p.v - np.rint(p.v))),
    "ringed": lambda p: p.mask(np.sin(_TURN * np.sqrt(p.u * p.u + p.v * p.v))),
    "zigzag": lambda p: p.mask(np.sin(_TURN * (p.u + triangle_wave(p.v)))),
    "marbled": lambda p: 0.5 + 0.5 * np.sin(3 * p.u + 2.2 * np.sin(2 * p.v + 1.5 * np.sin(2.6 * p.u))),
    "netted": lambda p: p.mask(1 - 5 * np.minimum(np.abs(p.u - np.rint(p.u)), np.abs(p.v - np.rint(p.v)))),
    "trimmed": lambda p: p.mask(1 - 12 * p.depth),
    "dipped": lambda p: p.mask(-5 * p.y - 0.5 + 0.4 * np.sin(_TURN * p.x)),
    "fading": lambda p: np.clip(0.5 + 0.75 * p.y, 0, 1),
}


def object_categories(n_categories: int, seed: int) -> tuple[ObjectCategory, ...]:
    """Draw object categories from the grammar, without replacement.

    The silhouettes take turns in an order that the seed sets, and each silhouette meets every texture before any
    texture comes again, so that categories near each other in the list are different things.

    Parameters
    ----------
    n_categories : int
        Number of categories; a shorter list is the beginning of a longer one.
    seed : int
        Seed of the list; the same seed gives the same list.

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
    shape = (len(builds), len(_COLOUR_PAIRS), len(parts))
    n_names = len(nouns) * len(textures) * int(np.prod(shape))
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
        order = _shuffled(seed, noun, texture, shape)
        build, pair, part = np.unravel_index(order[round_ // len(textures)], shape)
        words = (builds[build], textures[texture], "-and-".join(_COLOUR_PAIRS[pair]), nouns[noun], parts[part])
        category_rng = np.random.default_rng([seed, number])
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
                texture_angle=float(category_rng.uniform(0, pi)),
                texture_frequency=float(category_rng.uniform(2.2, 4.5)),
                gloss=float(category_rng.uniform(0.0, 0.8)),
            )
        )
    return tuple(categories)


@lru_cache(maxsize=1024)
def _shuffled(seed: int, noun: int, texture: int, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return all combinations of the other words in a random order; heavier parts tend to come earlier."""
    waits = np.random.default_rng([seed, noun, texture]).exponential(size=shape) / np.array(tuple(PARTS.values()))
    return np.argsort(waits, axis=None)
