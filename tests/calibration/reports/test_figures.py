"""Figures say what the numbers are, and no two of their labels meet."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from calibration.reports import figures
from calibration.reports.lettering import lettered
from rtgod.messages import Motion

LAYERS = [f"cnn{i}" for i in range(1, 9)]
LONG_LAYERS = ["features.3", "features.6", "features.8", "classifier.1"]
REGIONS = ["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA"]
TIMES_S = np.arange(-9.0, 25.0, 3.0)


def homology(layers=LAYERS, bounds=False):
    accuracy = np.random.default_rng(0).uniform(-0.1, 0.6, (len(REGIONS), len(layers)))
    around = (accuracy - 0.05, accuracy + 0.05) if bounds else ()
    return figures.homology(accuracy, REGIONS, layers, *around)


def time_course(layers=LAYERS, middles_s=None):
    middles_s = np.linspace(12, 8, len(layers)) if middles_s is None else middles_s
    accuracy = 0.3 * np.exp(-(((TIMES_S - np.nan_to_num(middles_s)[:, np.newaxis]) / 4.5) ** 2))
    bounds_s = np.stack([middles_s - 1, middles_s + 2], axis=1)
    return figures.time_course(TIMES_S, accuracy, np.full(accuracy.shape, 0.03), layers, middles_s, bounds_s, -3.0)


def aggregation(seen=(0.71, 0.78, 0.92), imagined=(0.7, 0.78, 0.95)):
    names = ("single volume", "single block", "average of repeats")
    counts = {"seen": (5250, 1750, 50), "imagined": (2500, 500, 50)}
    return figures.aggregation(
        {
            kind: {names[i]: (mean, mean - 0.03, mean + 0.03, counts[kind][i]) for i, mean in enumerate(means)}
            for kind, means in (("seen", seen), ("imagined", imagined))
        }
    )


def against_candidates(share=2.0, n=(2, 10, 100, 1000, 15372)):
    n = np.array(n)
    shares = {k: np.minimum(1, share * k / n) for k in (1, 5)}
    return figures.against_candidates(n, {"seen": shares, "imagined": shares})


def against_runs():
    curve = [(0.6 + 0.01 * n, 0.55 + 0.01 * n, 0.65 + 0.01 * n) for n in (1, 4, 12, 24)]
    return figures.against_runs([1, 4, 12, 24], {"seen": curve, "imagined": curve})


def reliability():
    bins = [(0.02, 0.01, 900), (0.06, 0.08, 300), (0.14, 0.2, 50)]
    return figures.reliability(
        {"first": bins, "first five": [(3 * p, 3 * s, n) for p, s, n in bins], "first ten": bins}
    )


def feature_accuracy(layers=LAYERS):
    of_layers = [(0.2, 0.1, 0.3)] * len(layers)
    measures = {"profile": of_layers, "pattern": of_layers}
    return figures.feature_accuracy(layers, {"seen": measures, "imagined": measures})


NULL = np.random.default_rng(0).normal(13.4, 0.4, 2000)
DRAWN = {
    "homology": homology,
    "homology with bounds": lambda: homology(bounds=True),
    "homology, long names": lambda: homology(LONG_LAYERS),
    "time course": time_course,
    "time course, three layers": lambda: time_course(LONG_LAYERS[:3]),
    "time course, five layers": lambda: time_course(LAYERS[:5]),
    "time course, not determined": lambda: time_course(LAYERS, np.array([9, np.nan, -2, 20, 3, 3, 3, 3])),
    "time course, nothing determined": lambda: time_course(LAYERS, np.full(8, np.nan)),
    "aggregation": aggregation,
    "aggregation, alike": lambda: aggregation(imagined=(0.71, 0.78, 0.92)),
    "aggregation at chance": lambda: aggregation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "against candidates": against_candidates,
    "against candidates, never first": lambda: against_candidates(0.0),
    "against candidates, few": lambda: against_candidates(1.2, (2, 3, 4, 6)),
    "against runs": against_runs,
    "reliability": reliability,
    "semantic": lambda: figures.semantic(11.2, NULL),
    "semantic, at chance": lambda: figures.semantic(13.5, NULL),
    "semantic, one shuffle": lambda: figures.semantic(2.0, np.full(10, 2.0)),
    "feature accuracy": feature_accuracy,
    "feature accuracy, long names": lambda: feature_accuracy(LONG_LAYERS),
}


def texts(figure):
    """Every text that is drawn, with its box in pixels."""
    found = []

    def draw(text, renderer):
        if text.get_visible() and text.get_text().strip():
            found.append((text, text.get_window_extent(renderer)))

    canvas = FigureCanvasAgg(figure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        canvas.draw()
    return found


@pytest.mark.parametrize("name", DRAWN)
def test_every_label_can_be_read(name):
    figure = DRAWN[name]()
    found = texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in found:
        assert text.get_fontsize() >= 5
        assert -1 < box.x0 < box.x1 < width + 1, text
        assert -1 < box.y0 < box.y1 < height + 1, text
    # The box of a slanted text is mostly empty.
    upright = [(text, box) for text, box in found if text.get_rotation() % 90 == 0]
    for (one, a), (other, b) in combinations(upright, 2):
        apart = min(a.x1, b.x1) - max(a.x0, b.x0) <= 1 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 1
        assert apart, (one, other)
    words = " ".join(text.get_text() for text, _ in found)
    assert any(unit in words for unit in ("(r)", "(%)", "probability", "links"))


def labels(figure):
    return [text.get_text() for text, _ in texts(figure)]


def test_homology_prints_every_value_and_frames_what_it_is_told_to():
    accuracy = np.array([[0.5, 0.1, np.nan], [0.2, 0.4, np.nan]])
    figure = figures.homology(
        accuracy, ["V1", "HVC"], ["low", "high", "none"], accuracy - 0.1, accuracy + 0.1, (0, None, None)
    )
    found = labels(figure)
    for text in ("0.50", "0.10", "0.20", "0.40", "0.40 – 0.60", "V1", "HVC", "low", "high", "none"):
        assert text in found
    frames = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    centres = [tuple(np.round(f.get_bbox().get_points().mean(axis=0))) for f in frames]
    assert centres == [(0, 0)]
    assert not [p for p in homology().axes[0].patches if isinstance(p, Rectangle)]


def test_printed_values_stand_out_from_their_cells():
    figure = homology()
    axes = figure.axes[0]
    image = axes.images[0]
    for text in axes.texts:
        column, row = (round(v) for v in text.get_position())
        if text.get_text():
            cell = image.cmap(image.norm(image.get_array()[row, column]))
            assert _contrast(cell, text.get_color()) > 4.0


def _contrast(cell, ink):
    """Contrast ratio of the Web Content Accessibility Guidelines 2."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in cell[:3]]
    brightness = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    return (1.05 / (brightness + 0.05)) if ink == "white" else ((brightness + 0.05) / 0.05)


def test_time_courses_are_marked_at_their_middles_or_are_said_to_have_none():
    middles_s = np.array([12.0, np.nan, 8.0])
    figure = time_course(LONG_LAYERS[:3], middles_s)
    together, order = figure.axes[:2]
    for axes in (together, order):
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "v"]
        np.testing.assert_array_equal(marks, middles_s)
    bars = [list(line.get_xdata()) for line in order.lines if len(line.get_xdata()) == 2]
    np.testing.assert_array_equal(bars, [[11, 14], [np.nan] * 2, [7, 10]])
    assert [(text.get_text(), text.get_position()[1]) for text in order.texts] == [("not determined", 1)]
    assert [axes.get_title() for axes in figure.axes[2:]] == LONG_LAYERS[:3]
    lightness = [np.dot([0.3, 0.6, 0.1], line.get_color()[:3]) for line in order.lines if line.get_marker() == "v"]
    assert lightness == sorted(lightness)


def test_numbers_of_samples_are_stated():
    assert "single volume\n5,250 seen\n2,500 imagined" in labels(aggregation())
    assert "first (n = 1,250)" in labels(reliability())
    assert "shuffles, of 2,000" in labels(figures.semantic(11.2, NULL))


@pytest.mark.parametrize("drawn", [aggregation, against_candidates, against_runs, feature_accuracy])
def test_kinds_have_a_legend_and_a_line_of_chance(drawn):
    legend = drawn().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["chance", "seen", "imagined"]


def test_chance_falls_with_the_number_of_candidates():
    for axes, k in zip(against_candidates().axes, (1, 5), strict=True):
        assert axes.get_title() == f"top {k}"
        chance = axes.lines[0]
        np.testing.assert_allclose(chance.get_ydata(), 100 * np.minimum(k / chance.get_xdata(), 1))


def test_few_candidates_have_numbers_on_their_axis():
    assert {"2", "3", "4", "5", "6", "20", "40", "100"} <= set(labels(against_candidates(1.2, (2, 3, 4, 6))))
    assert {"2", "5", "10", "20", "50", "100"} <= set(labels(against_candidates(1.2, (2, 5, 10, 40))))


def test_a_mean_without_bounds_is_drawn_without():
    nan = float("nan")
    figure = figures.aggregation({"seen": {"single block": (0.8, nan, nan, 1)}})
    assert "80.0" in labels(figure)
    texts(figures.feature_accuracy(["low"], {"seen": {"profile": [(0.2, nan, nan)]}}))


def test_more_kinds_than_colours_are_all_drawn():
    figure = figures.against_runs([1, 2], {f"kind {i}": [(0.6, 0.5, 0.7)] * 2 for i in range(6)})
    assert len(figure.axes[0].get_legend().get_texts()) == 7


def still(n_volumes=12, moves=()):
    """A run's motion, still but for some volumes."""
    of_volume = [0.9 if index in moves else 0.1 for index in range(n_volumes)]
    return [(i, Motion((0.1 * i, 0, 0), (0, 0.1, 0), fd, 0.01, 3, converged=True)) for i, fd in enumerate(of_volume)]


@pytest.mark.parametrize("n_runs", [1, 2, 4])
def test_motion_has_displacement_censoring_and_trials(n_runs):
    courses = [(f"sub-01_task-{i}", 2.0, still(moves=[5])) for i in range(n_runs)]
    marks = {courses[0][0]: figures.RunMarks([(2.0, 6.0), (10.0, 14.0)], censored=[5], lost=[8])}
    figure = figures.motion(courses, None, marks, 0.5)
    words = labels(figure)
    assert any("2 trials (shaded), 1 censored, 1 lost" in text for text in words)
    assert "limit, 0.5 mm" in words
    moved = figure.axes[2 * n_runs]
    lines = {line.get_label(): line for line in moved.lines}
    np.testing.assert_array_equal(lines["framewise displacement"].get_ydata(), [0.1] * 5 + [0.9] + [0.1] * 6)
    assert lines["censored"].get_xydata().tolist() == [[10.0, 0.9]]
    assert lines["lost"].get_xdata().tolist() == [16.0]
    shaded = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in moved.patches]
    assert shaded == [(2.0, 6.0), (10.0, 14.0)]


@pytest.mark.parametrize("n", [2, 8, 30])
def test_a_confusion_matrix_has_every_count_and_names_that_differ(n):
    counts = np.arange(n * n).reshape(n, n) % 4
    figure = figures.confusion(counts, [f"curved dipped sky-blue-and-pink object {i}" for i in range(n)])
    found = texts(figure)
    cells = [text for text, _ in found if text in figure.axes[0].texts]
    assert sorted(int(text.get_text()) for text in cells) == sorted(counts[counts > 0].tolist())
    names = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert len(set(names)) == n
    rows = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert [row.rsplit(" ", 1)[1] for row in rows] == [f"({total})" for total in counts.sum(axis=1)]
    width, height = figure.get_size_inches() * figure.dpi
    assert all(-1 < box.x0 < box.x1 < width + 1 and -1 < box.y0 < box.y1 < height + 1 for _, box in found)


def test_no_legend_lies_on_data():
    for drawn in (feature_accuracy, against_candidates, against_runs, aggregation):
        figure = drawn()
        texts(figure)
        box = figure.axes[0].get_legend().get_window_extent()
        assert box.y0 >= figure.axes[0].get_window_extent().y1 - 1


def test_names_beneath_pictures_are_as_large_as_the_page_s_text_and_apart(tmp_path):
    names = [
        "curved netted teal-and-orange vase with handle",
        "消防車のはしごの写真と長い名前の例です",
        "cat",
        "a " * 60,
    ]
    file = tmp_path / "picture.png"
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(file)
    rows = [(name, file, 1, [(other, file, other == name) for other in names]) for name in names]
    figure = figures.examples(rows, labels=["best", "", "", "worst"])
    with lettered(figure):
        figure.draw_without_rendering()
    captions = [axes.xaxis.label for axes in figure.axes]
    # A page shows an inch as 120 of its pixels, of which a letter of its text has 16, and nothing wider than 856.
    assert figure.get_figwidth() * 120 <= 856
    assert all(caption.get_fontsize() / 72 * 120 >= 16 for caption in captions)
    boxes = [caption.get_window_extent() for caption in captions] + [axes.get_window_extent() for axes in figure.axes]
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert not any(box.overlaps(other) for other in boxes[:place])
    assert captions[4 * 5 - 1].get_text().endswith("…")
