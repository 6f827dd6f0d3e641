"""Photographs of drawn objects: posed, lit, and put before a background of their own.

An image depends on its category, exemplar, size and seed only; NumPy may round differently on another processor.
"""

from functools import cache
from math import cos, exp, pi, sin
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.simulation.objects import BUILDS, PALETTE, TEXTURES, ObjectCategory, TextureCoordinates
from calibration.simulation.shapes import MARKS, SILHOUETTES, Field, attached_part, grid
from rtgod.errors import InputError

MIN_SIZE_PX: Final = 16


def draw(category: ObjectCategory, exemplar: int, size_px: int = 160, seed: int = 0) -> NDArray[np.uint8]:
    """Draw one exemplar of a category.

    Exemplars differ in rotation (±20°), side, size, place, aspect, phase of the texture, hue, light and background.

    Parameters
    ----------
    category : ObjectCategory
    exemplar : int
        Number of the exemplar, from 0.
    size_px : int
        Height and width of the image in pixels, at least 16.
    seed : int
        Equal category, exemplar, size and seed give equal bytes; another processor or NumPy may round differently.

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
    whole = np.minimum(body, attached_part(category.silhouette, category.part)(x, y)) if category.part else body
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
    """Return the share of the accent colour at each pixel: the texture on the body, and all of the part."""
    angle = category.texture_angle + rng.uniform(-0.12, 0.12)
    frequency = category.texture_frequency * exp(rng.uniform(-0.1, 0.1))
    c, s = np.float32(frequency * cos(angle)), np.float32(frequency * sin(angle))
    phase = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    # A wave's steepest slope is 2π per period: this sharpness makes the pattern's edge about one pixel wide.
    sharpness = max(unit_px / (2 * pi * frequency), 0.5)
    pattern = TextureCoordinates(c * x + s * y + phase[0], c * y - s * x + phase[1], x, y, -body, sharpness)
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
    """Return diffuse light and highlight of a cushion that has the object's outline."""
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
    """Blur fields (n, height, width) in place, which removes the creases along the medial axis."""
    for step in (radius_px, 2 * radius_px):
        for f in (fields, fields.transpose(0, 2, 1)):
            f[:, step:-step] = 0.5 * f[:, step:-step] + 0.25 * (f[:, : -2 * step] + f[:, 2 * step :])
    return fields


def _shadow(whole: Field, unit_px: float, light: Field) -> Field:
    """Return the soft shadow on the background, away from the light."""
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


@cache
def _outline(silhouette: str, build: str, part: str) -> NDArray[np.float32]:
    """Return points (n_points, 2) whose convex hull is the object's, to fit it into an image."""
    x, y = grid(1.9, 96)
    u, v = BUILDS[build](x, y)
    whole = SILHOUETTES[silhouette](u, v)
    if part:
        whole = np.minimum(whole, attached_part(silhouette, part)(u, v))
    covered = whole < 0.02
    ends = covered & ~(np.roll(covered, 1, axis=1) & np.roll(covered, -1, axis=1))
    return np.stack([x[ends], y[ends]], axis=1)
