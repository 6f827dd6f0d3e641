"""Sections of an evaluation's page on areas and layers, and on the time course of imagery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.evaluation.evaluate import Evaluation
from calibration.evaluation.homology import FEWEST_VOXELS, Homology
from calibration.metrics.area_comparison import ERROR_RATE, AreaComparison
from calibration.metrics.lags import LONGEST_S, Lag
from calibration.metrics.permutation import FEW_CATEGORIES, SIGNIFICANT
from calibration.reports import figures
from calibration.reports.html_page import PageTable, Section
from rtgod.messages import Float64Array
from rtgod.text import number_of

NOT_DETERMINED = "not determined"


def areas_and_layers(evaluation: Evaluation) -> list[Section]:
    """Make the section on areas and layers; none with fewer than two areas or layers.

    Parameters
    ----------
    evaluation : Evaluation
    """
    if len(evaluation.areas) < 2 or len(evaluation.layers) < 2:
        return []
    found, layers = evaluation.homology, evaluation.layers
    drawn = [
        (
            figures.homology(of.accuracy, found.areas, layers, of.low, of.high, of.best_area),
            f"{kind.capitalize()}: feature accuracy by area and layer at {found.n_voxels} voxels each, repeats "
            f"averaged, with 90 % intervals. Framed: {framed_in_words(found, of, layers)}",
        )
        for kind, of in found.kinds.items()
    ]
    tables = [
        PageTable(
            ("area", "best layer", "also possible", "centre", "90 % interval"),
            [_area_row(found, of, layers, area) for area in range(len(found.areas))],
            f"{kind.capitalize()}: each area's best layer, the layers that it does not beat, and the centre of its "
            f"layers (1 for {layers[0]}, {len(layers)} for {layers[-1]})",
        )
        for kind, of in found.kinds.items()
    ]
    tables += [
        PageTable(
            ("region", *layers),
            [(region, *(f"{r:.3f}" for r in row)) for region, row in zip(evaluation.regions, accuracy, strict=True)],
            f"{kind.capitalize()}: feature accuracy from all voxels of a region; more voxels give more, so that areas "
            "of different sizes do not compare",
        )
        for kind, accuracy in evaluation.by_region.items()
    ]
    orders = [order_in_words(kind, of, found.areas) for kind, of in found.kinds.items()]
    text = "\n\n".join(" ".join(part) for part in (_how_compared(found, layers), orders) if part)
    return [Section("Areas and layers", text, drawn, tables)]


def framed_in_words(found: Homology, of: AreaComparison, layers: Sequence[str]) -> str:
    """Say which area is framed for which layer, as a sentence.

    Parameters
    ----------
    found : Homology
    of : AreaComparison
        Comparison for one kind of trials.
    layers : sequence of str
    """
    framed = [
        f"{found.areas[area]} for {layer}" for area, layer in zip(of.best_area, layers, strict=True) if area is not None
    ]
    return f"{', '.join(framed)}." if framed else "nothing; which area is best is not determined for any layer."


def order_in_words(kind: str, of: AreaComparison, areas: Sequence[str]) -> str:
    """Say whether the areas' layers rise in the order of the areas, as a sentence.

    Parameters
    ----------
    kind : str
    of : AreaComparison
    areas : sequence of str
    """
    order = of.order
    if np.isnan(order.correlation):
        return f"{kind.capitalize()}: the order of the areas is {NOT_DETERMINED}; fewer than three are above chance."
    least = "" if order.least <= SIGNIFICANT else f", and none below {order.least:.3g} was possible"
    text = (
        f"{kind.capitalize()}: the centres of {order.n_areas} areas, in the order {', '.join(areas)}, have a rank "
        f"correlation of {order.correlation:+.2f} with that order (p = {order.p_value:.4f}{least}; with exchanged "
        "areas 0 on average)."
    )
    return text if order.p_value <= SIGNIFICANT else f"{text} So an order is {NOT_DETERMINED}."


def time_course(evaluation: Evaluation) -> list[Section]:
    """Make the section on the time course of imagery; none without single volumes of imagery.

    Parameters
    ----------
    evaluation : Evaluation
    """
    course = evaluation.course
    if course is None:
        return []
    cue_s = None if course.cue_lead_s is None else -course.cue_lead_s
    middles_s, bounds_s = middles_of(course.lags, course.middle_s)
    figure = figures.time_course(
        course.times_s, course.accuracy, course.half_width, evaluation.layers, middles_s, bounds_s, cue_s
    )
    table = PageTable(
        ("layer", "area", "middle of the response, s", "90 % interval"),
        [
            (layer, area, *_middle_in_words(lag, course.middle_s))
            for layer, area, lag in zip(evaluation.layers, course.areas, course.lags, strict=True)
        ],
        "When each layer's response comes, from the onset of imagery",
    )
    text = (
        f"Single volumes were decoded around the {course.duration_s:g} s of imagery, each layer from the area that "
        "predicts it best of what was seen, and those of a category averaged at each time. The response of a layer is "
        "compared with the one expected of a trial of this length, whose middle comes "
        f"{course.middle_s:.1f} s after the onset: the interval holds every lag behind it, up to {LONGEST_S:g} s, that "
        "a test over categories does not reject, and a layer whose interval has an open end is "
        f"{NOT_DETERMINED}. Areas, and how much each layer counts, come from what was seen alone.\n\n"
        f"{shift_in_words(course.shift)}"
    )
    return [Section("Time course of imagery", text, [(figure, "Feature accuracy over time.")], [table])]


def shift_in_words(shift: Lag) -> str:
    """Say which layers come first, and by how much, or that it is not determined.

    Parameters
    ----------
    shift : Lag
    """
    if not shift.is_found:
        interval = f"90 % interval {_bounds_in_words(shift, 0)}"
        estimate = f"; the best estimate is {shift.lag_s:+.1f} s" if shift.is_determined else ""
        return (
            f"Which layers come first is {NOT_DETERMINED}: the change of the middle from the lowest to the highest "
            f"layer may be zero ({interval}{estimate})."
        )
    first = "high" if shift.high_s < 0 else "low"
    how_much = f"{shift.lag_s:+.1f} s (90 % interval {_bounds_in_words(shift, 0)})"
    if not shift.is_determined:
        how_much = f"an amount that is {NOT_DETERMINED} (90 % interval {_bounds_in_words(shift, 0)})"
    return (
        f"From the lowest to the highest layer the middle moves by {how_much}, along a straight line over layers: "
        f"{first} layers come first."
    )


def middles_of(lags: Sequence[Lag], middle_s: float) -> tuple[Float64Array, Float64Array]:
    """Return the middles of the layers' responses, (n_layers,), and their bounds, (n_layers, 2); NaN if undetermined.

    Parameters
    ----------
    lags : sequence of Lag
    middle_s : float
        Middle of the expected response, in seconds.
    """
    bounds = np.array([[lag.low_s, lag.high_s] if lag.is_determined else [np.nan, np.nan] for lag in lags])
    middles = np.array([lag.lag_s if lag.is_determined else np.nan for lag in lags])
    return middle_s + middles, middle_s + bounds


def _how_compared(found: Homology, layers: Sequence[str]) -> list[str]:
    text = [
        "Decoders were trained anew on voxels of each area alone, with the noise of these voxels. In visual cortex, "
        "low areas are expected to be best for low layers, and high areas for high layers."
    ]
    if found.kinds:
        n_tests = len(layers) * len(found.kinds)
        text.append(
            f"A larger area has more to decode from, so that areas are compared at equal numbers of voxels: "
            f"{found.n_voxels} each, half of the smallest area, drawn {found.n_parts} times. A cell is framed where "
            "its area beats chance and each of the other areas, by t tests of the difference, paired over "
            "categories, with the variance over draws of voxels added; the level is "
            f"{ERROR_RATE:g} over all {n_tests} layers and kinds (Bonferroni). With fewer than {FEW_CATEGORIES} "
            "categories nothing is framed. Intervals are over categories and voxels, too."
        )
    else:
        text.append("Fewer than two areas have enough voxels, so that no areas are compared.")
    if found.left_out:
        small = [f"{area} ({number_of(n, 'voxel')})" for area, n in found.left_out.items()]
        text.append(f"Left out, with fewer than {FEWEST_VOXELS} voxels: {', '.join(small)}.")
    return text


def _area_row(found: Homology, of: AreaComparison, layers: Sequence[str], area: int) -> tuple[str, ...]:
    best = of.best_layer[area]
    if best is None:
        return found.areas[area], NOT_DETERMINED, "–", NOT_DETERMINED, "–"
    others = ", ".join(layers[layer] for layer in of.also_best[area] if layer != best)
    interval = f"{of.centre_low[area]:.1f} to {of.centre_high[area]:.1f}"
    return found.areas[area], layers[best], others or "–", f"{of.centre[area]:.1f}", interval


def _middle_in_words(lag: Lag, middle_s: float) -> tuple[str, str]:
    middle = f"{middle_s + lag.lag_s:.1f}" if lag.is_determined else NOT_DETERMINED
    return middle, _bounds_in_words(lag, middle_s)


def _bounds_in_words(lag: Lag, middle_s: float) -> str:
    sign = "+" if middle_s == 0 else ""
    low, high = (f"{middle_s + bound:{sign}.1f}" for bound in (lag.low_s, lag.high_s))
    if lag.is_determined:
        return f"{low} to {high} s"
    if np.isfinite(lag.low_s):
        return f"above {low} s"
    return f"below {high} s" if np.isfinite(lag.high_s) else "open at both ends"
