"""Silhouettes as signed distance functions: negative inside, in a frame of about −1 … 1 with y up.

One field gives outline, shading and shadow. This file holds the shapes that objects are made of.
"""

from collections.abc import Callable
from functools import cache
from math import cos, hypot, pi, sin
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Always float32, for half the time of float64. NumPy's stubs widen it wherever it meets a Python number.
Field = NDArray[np.floating[Any]]
Shape = Callable[[Field, Field], Field]


def ellipse(cx: float, cy: float, rx: float, ry: float | None = None, tilt: float = 0.0) -> Shape:
    """Return an ellipse.

    Parameters
    ----------
    cx, cy : float
        Centre.
    rx : float
        Half of the width before it is turned.
    ry : float, optional
        Half of the height before it is turned, by default `rx`.
    tilt : float, optional
        Angle by which it is turned anticlockwise, in radians.
    """
    ry = rx if ry is None else ry
    c, s = cos(tilt), sin(tilt)

    def distance(x: Field, y: Field) -> Field:
        u, v = x - cx, y - cy
        a, b = (c * u + s * v) / rx, (c * v - s * u) / ry
        return (np.sqrt(a * a + b * b) - 1) * min(rx, ry)

    return distance


def stroke(x0: float, y0: float, x1: float, y1: float, r0: float, r1: float | None = None) -> Shape:
    """Return a round-ended line whose radius may change along it.

    Parameters
    ----------
    x0, y0, x1, y1 : float
        First and second end of the middle line.
    r0 : float
        Radius at the first end.
    r1 : float, optional
        Radius at the second end, by default `r0`.
    """
    dx, dy, widening = x1 - x0, y1 - y0, (r0 if r1 is None else r1) - r0
    norm = max(dx * dx + dy * dy, 1e-9)

    def distance(x: Field, y: Field) -> Field:
        u, v = x - x0, y - y0
        t = np.clip((u * dx + v * dy) / norm, 0, 1)
        u, v = u - t * dx, v - t * dy
        return np.sqrt(u * u + v * v) - (r0 + widening * t)

    return distance


def polygon(*corners: tuple[float, float]) -> Shape:
    """Return a convex polygon.

    Parameters
    ----------
    *corners : (float, float)
        x and y of each corner, anticlockwise.
    """
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


def box(cx: float, cy: float, half_width: float, half_height: float) -> Shape:
    """Return a box with sides along the axes.

    Parameters
    ----------
    cx, cy : float
        Centre.
    half_width, half_height : float
    """
    return lambda x, y: np.maximum(np.abs(x - cx) - half_width, np.abs(y - cy) - half_height)


def turned(*half_widths: float, half_height: float = 0.85) -> Shape:
    """Return a body as from a lathe, rounded off.

    Parameters
    ----------
    *half_widths : float
        At equal steps from the base to the top.
    half_height : float, optional
        Height of the top; the base is as far below 0.
    """
    heights = np.linspace(-half_height, half_height, 61)
    angular = np.interp(heights, np.linspace(-half_height, half_height, len(half_widths)), half_widths)
    padded = np.pad(angular, 6, "reflect", reflect_type="odd")
    widths = np.convolve(padded, np.hanning(15)[1:-1] / 7, mode="valid")

    def distance(x: Field, y: Field) -> Field:
        half_width: Field = np.interp(y, heights, widths).astype(np.float32)
        return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)

    return distance


def polar(radius: Callable[[Field], Field]) -> Shape:
    """Return the star-shaped body whose edge lies at a distance from the origin that depends on the angle.

    Parameters
    ----------
    radius : callable
        Distance as a function of angles −π … π, which are 0 straight up and grow clockwise.
    """
    return lambda x, y: np.sqrt(x * x + y * y) - radius(np.arctan2(x, y))


def union(*shapes: Shape, blend: float = 0.05) -> Shape:
    """Return the union, with its inner corners filled as in clay.

    Parameters
    ----------
    *shapes : Shape
        At least one.
    blend : float, optional
        Distance over which corners are filled; above 0.
    """

    def distance(x: Field, y: Field) -> Field:
        near = shapes[0](x, y)
        for shape in shapes[1:]:
            other = shape(x, y)
            overlap = np.maximum(blend - np.abs(near - other), 0)
            near = np.minimum(near, other) - overlap * overlap * (0.25 / blend)
        return near

    return distance


def ring(cx: float, cy: float, radius: float, half_width: float) -> Shape:
    """Return a ring.

    Parameters
    ----------
    cx, cy : float
        Centre.
    radius : float
        From the centre to the middle of the line.
    half_width : float
        Half of the line's width.
    """
    return lambda x, y: np.abs(np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius) - half_width


def cut(shape: Shape, hole: Shape) -> Shape:
    """Return `shape` without `hole`.

    Parameters
    ----------
    shape, hole : Shape
    """
    return lambda x, y: np.maximum(shape(x, y), -hole(x, y))


def mirrored(shape: Shape, cx: float = 0.0) -> Shape:
    """Return the right half of a shape and its mirror image about a vertical line.

    Parameters
    ----------
    shape : Shape
    cx : float, optional
        Where the line is, and where x = 0 of the shape comes to lie.
    """
    return lambda x, y: shape(np.abs(x - cx), y)


def triangle_wave(phase: Field) -> Field:
    """Return the wave of period 1 between 0 (at whole phases) and 1.

    Parameters
    ----------
    phase : ndarray of any shape, float32
    """
    offset: Field = phase - np.rint(phase)
    return 2 * np.abs(offset)


# Bodies from the lathe, closed curves, then composed things.
# fmt: off
SILHOUETTES: Final[dict[str, Shape]] = {
    "vase": turned(0.3, 0.45, 0.62, 0.6, 0.35, 0.2, 0.22, 0.42),
    "bottle": turned(0.36, 0.38, 0.38, 0.38, 0.36, 0.14, 0.13, 0.13, 0.17),
    "goblet": turned(0.42, 0.12, 0.08, 0.1, 0.42, 0.55, 0.56, 0.52),
    "bell": turned(0.8, 0.68, 0.52, 0.48, 0.46, 0.4, 0.14, 0.1),
    "hourglass": turned(0.62, 0.58, 0.4, 0.07, 0.4, 0.58, 0.62),
    "pear": turned(0.3, 0.6, 0.66, 0.55, 0.36, 0.28, 0.2, 0.04),
    "bowling pin": turned(0.2, 0.32, 0.38, 0.32, 0.18, 0.13, 0.2, 0.12, half_height=0.9),
    "fir tree": turned(0.12, 0.12, 0.75, 0.3, 0.58, 0.2, 0.42, 0.0, half_height=0.9),
    "cup": turned(0.4, 0.48, 0.52, 0.56, 0.6, half_height=0.6),
    "lamp": turned(0.4, 0.1, 0.06, 0.06, 0.72, 0.58, 0.46, 0.34),
    "spinning top": turned(0.0, 0.14, 0.5, 0.82, 0.45, 0.1, 0.08, 0.1),
    "mushroom": union(stroke(0, -0.66, 0, 0.3, 0.24, 0.18), cut(ellipse(0, 0.12, 0.82, 0.68), box(0, -1, 2, 1))),
    "star": polar(lambda a: 0.42 + 0.48 * (1 - triangle_wave(a * (5 / (2 * pi)))) ** 1.3),
    "flower": polar(lambda a: 0.62 + 0.22 * np.cos(6 * a)),
    "gear": cut(polar(lambda a: 0.7 + 0.13 * np.clip(3 * np.cos(10 * a), -1, 1)), ellipse(0, 0, 0.26)),
    "ring": ring(0, 0, 0.62, 0.2),
    "crescent": cut(ellipse(0, 0, 0.85), ellipse(0.54, 0.08, 0.7)),
    "cross": union(box(0, 0, 0.26, 0.85), box(0, 0, 0.85, 0.26)),
    "heart": mirrored(stroke(0.36, 0.32, -0.02, -0.72, 0.46, 0.04)),
    "leaf": union(mirrored(ellipse(-0.45, 0.1, 0.92)), stroke(0, -0.6, 0.08, -0.95, 0.05)),
    "key": union(ring(0, 0.5, 0.29, 0.11), box(0, -0.3, 0.09, 0.6), box(0.2, -0.8, 0.2, 0.08),
                  box(0.17, -0.52, 0.17, 0.08)),
    "house": union(box(0, -0.35, 0.6, 0.45), polygon((-0.85, 0.08), (0.85, 0.08), (0, 0.85)),
                    box(0.42, 0.55, 0.1, 0.25), blend=0.02),
    "tree": union(stroke(0, -0.85, 0, 0, 0.16, 0.1), ellipse(0, 0.45, 0.45), ellipse(-0.4, 0.2, 0.34),
                   ellipse(0.42, 0.16, 0.36)),
    "fish": union(ellipse(0.18, 0, 0.68, 0.42), stroke(-0.42, 0, -0.82, 0.3, 0.08, 0.13),
                   stroke(-0.42, 0, -0.82, -0.3, 0.08, 0.13), stroke(0.1, 0.3, -0.12, 0.56, 0.14, 0.05)),
    "dog": union(stroke(-0.45, 0.0, 0.35, 0.02, 0.24, 0.26), stroke(-0.52, -0.1, -0.56, -0.72, 0.13, 0.1),
                  stroke(0.4, -0.1, 0.42, -0.72, 0.13, 0.1), stroke(0.4, 0.1, 0.58, 0.5, 0.2, 0.22),
                  stroke(0.6, 0.46, 0.9, 0.38, 0.16, 0.1), stroke(0.46, 0.62, 0.36, 0.38, 0.1, 0.12),
                  stroke(-0.6, 0.1, -0.9, 0.45, 0.08, 0.05)),
    "cat": union(ellipse(0, -0.4, 0.42, 0.5), ellipse(0, 0.32, 0.42, 0.36), stroke(0.35, -0.75, 0.75, -0.4, 0.08),
                  mirrored(stroke(0.26, 0.5, 0.34, 0.8, 0.14, 0.03)), mirrored(ellipse(0.24, -0.82, 0.15, 0.1))),
    "duck": union(ellipse(-0.1, -0.25, 0.65, 0.42), ellipse(0.42, 0.42, 0.28), stroke(0.36, 0.3, 0.3, -0.1, 0.18),
                   stroke(0.62, 0.38, 0.88, 0.34, 0.09, 0.05), stroke(-0.6, -0.1, -0.88, 0.14, 0.16, 0.04)),
    "rabbit": union(ellipse(0, -0.45, 0.4, 0.42), ellipse(0, 0.12, 0.3),
                     mirrored(stroke(0.12, 0.3, 0.22, 0.8, 0.09, 0.11)), mirrored(ellipse(0.24, -0.8, 0.15, 0.1))),
    "butterfly": union(stroke(0, -0.6, 0, 0.5, 0.08), mirrored(ellipse(0.46, 0.3, 0.46, 0.32, 0.6)),
                        mirrored(ellipse(0.38, -0.36, 0.36, 0.26, -0.7)), mirrored(stroke(0, 0.4, 0.2, 0.8, 0.03))),
    "teapot": union(ellipse(0, -0.15, 0.55, 0.48), stroke(0.4, -0.2, 0.88, 0.3, 0.16, 0.07), ellipse(0, 0.42, 0.1),
                     ring(-0.58, -0.1, 0.25, 0.07)),
    "boat": union(polygon((-0.55, -0.75), (0.5, -0.75), (0.9, -0.28), (-0.85, -0.28)), box(0, 0.1, 0.05, 0.75),
                   polygon((0.1, -0.16), (0.75, -0.16), (0.1, 0.8)),
                   polygon((-0.1, -0.16), (-0.1, 0.6), (-0.55, -0.16)), blend=0.01),
    "car": union(stroke(-0.68, -0.15, 0.68, -0.18, 0.22), stroke(-0.28, 0.14, 0.2, 0.14, 0.24),
                  mirrored(ellipse(0.45, -0.42, 0.22))),
    "umbrella": union(cut(cut(ellipse(0, 0.05, 0.88, 0.75), box(0, -0.98, 2, 1)),
                            mirrored(union(ellipse(0.22, 0, 0.24, 0.14), ellipse(0.66, 0, 0.24, 0.14)))),
                       box(0, -0.3, 0.05, 0.45), stroke(0, -0.75, 0.2, -0.78, 0.06)),
    "cactus": union(stroke(0, -0.75, 0, 0.65, 0.2), stroke(0.1, -0.2, 0.5, -0.1, 0.11),
                     stroke(0.52, -0.1, 0.52, 0.35, 0.12), stroke(-0.1, -0.4, -0.48, -0.3, 0.11),
                     stroke(-0.5, -0.3, -0.5, 0.1, 0.12)),
    "hammer": union(stroke(0, -0.85, 0, 0.5, 0.11, 0.08), box(0.0, 0.55, 0.35, 0.2),
                     stroke(-0.3, 0.6, -0.7, 0.45, 0.18, 0.04)),
    "chair": union(box(-0.42, 0.0, 0.1, 0.85), box(0.05, -0.12, 0.5, 0.11), box(0.45, -0.5, 0.09, 0.35)),
    "snowman": union(ellipse(0, -0.45, 0.45), ellipse(0, 0.15, 0.33), ellipse(0, 0.6, 0.24),
                      box(0, 0.82, 0.26, 0.04)),
    "guitar": cut(union(ellipse(0, -0.52, 0.42, 0.36), ellipse(0, -0.08, 0.32, 0.28), box(0, 0.45, 0.07, 0.45),
                          box(0, 0.85, 0.13, 0.12)), ellipse(0, -0.2, 0.12)),
    "boot": union(stroke(-0.25, 0.65, -0.25, -0.4, 0.3, 0.28), stroke(-0.2, -0.5, 0.5, -0.55, 0.26, 0.2),
                   box(0.1, -0.76, 0.62, 0.07)),
    "anchor": union(box(0, 0.05, 0.08, 0.7), stroke(-0.35, 0.42, 0.35, 0.42, 0.08), ring(0, 0.75, 0.15, 0.06),
                     cut(ring(0, -0.15, 0.6, 0.09), box(0, 0.65, 2, 1)),
                     mirrored(stroke(0.6, -0.42, 0.62, -0.1, 0.14, 0.02))),
}
# fmt: on

_EYES: Final = mirrored(ellipse(0.15, 0.36, 0.06))
# Dark details that turn a silhouette into an object.
MARKS: Final[dict[str, Shape]] = {
    "fish": ellipse(0.5, 0.12, 0.07),
    "dog": union(ellipse(0.62, 0.56, 0.05), ellipse(0.97, 0.42, 0.06)),
    "cat": union(_EYES, ellipse(0, 0.22, 0.05, 0.035)),
    "duck": ellipse(0.5, 0.5, 0.055),
    "rabbit": union(mirrored(ellipse(0.12, 0.18, 0.045)), ellipse(0, 0.04, 0.04)),
    "snowman": union(mirrored(ellipse(0.09, 0.64, 0.04)), ellipse(0, 0.2, 0.045), ellipse(0, 0.02, 0.045)),
    "house": union(box(0, -0.55, 0.13, 0.26), mirrored(box(0.36, -0.2, 0.11, 0.11))),
    "car": mirrored(ellipse(0.45, -0.42, 0.13)),
    "butterfly": stroke(0, -0.55, 0, 0.48, 0.045),
    "boot": box(0.1, -0.76, 0.64, 0.05),
}


def grid(half_extent: float, n: int) -> tuple[Field, Field]:
    """Return x and y of an n × n grid, each of shape (n, n), float32.

    Parameters
    ----------
    half_extent : float
        Both axes go from −`half_extent` to `half_extent`, ends included.
    n : int
    """
    axis = np.linspace(-half_extent, half_extent, n, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


@cache
def attached_part(silhouette: str, part: str) -> Shape:
    """Return the part, attached at the end of this silhouette's body.

    Parameters
    ----------
    silhouette : str
        Key of `SILHOUETTES`.
    part : str
        Key of `calibration.simulation.objects.PARTS`; not empty.
    """
    body = SILHOUETTES[silhouette]
    x, y = grid(1.0, 64)
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
        # The waves shrink towards the centre, where they would only flicker.
        v = y - middle
        height: Field = 0.17 * triangle_wave(np.arctan2(x, v) * spike) * np.minimum(2 * (x * x + v * v), 1)
        return body(x, y) - height

    # fmt: off
    shapes = {
        "with handle": ring(right + 0.1, middle, 0.25, 0.065),
        "with horns": mirrored(union(stroke(0.08, high - 0.12, 0.34, high + 0.12, 0.11, 0.09),
                                       stroke(0.34, high + 0.12, 0.34, high + 0.42, 0.09, 0.02)), head),
        "with tail": union(stroke(0.1 - left, middle - 0.1, -left - 0.35, middle - 0.15, 0.09, 0.08),
                            stroke(-left - 0.35, middle - 0.15, -left - 0.42, middle + 0.4, 0.08, 0.07),
                            ellipse(-left - 0.42, middle + 0.45, 0.13)),
        "with wings": mirrored(union(ellipse(half + 0.2, middle + 0.2, 0.42, 0.15, 0.7),
                                       ellipse(half + 0.2, middle, 0.36, 0.12, 0.1)), 0.5 * (right - left)),
        "with knobs": union(ellipse(head, high + 0.08, 0.15), ellipse(right + 0.06, middle, 0.15),
                             ellipse(-left - 0.06, middle, 0.15)),
        "with spikes": spiky,
        "on wheels": mirrored(cut(ellipse(stance, low - 0.02, 0.24), ellipse(stance, low - 0.02, 0.07)), foot_x),
        "on legs": mirrored(union(stroke(stance, low + 0.12, stance + 0.12, low - 0.4, 0.1, 0.08),
                                    stroke(stance + 0.12, low - 0.4, stance + 0.25, low - 0.42, 0.08)), foot_x),
    }
    # fmt: on
    return shapes[part]
