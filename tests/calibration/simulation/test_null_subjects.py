"""Null subjects: what a subject lacks, no figure of it shows; and what it has, the same figures show.

No image is drawn and no head is scanned: features are drawn numbers, and samples are means of the signal of a few
hundred voxels in noise. Each figure is also taken of a subject that lacks nothing, so that it can fail.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from calibration.decoders.columns import profile_correlation
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.accuracy import identification
from calibration.evaluation.evaluate import index_of
from calibration.evaluation.homology import homology
from calibration.evaluation.predictions import decode_kind, fit_fold
from calibration.evaluation.time_course import time_course
from calibration.metrics.group_means import averaged_by
from calibration.parallel.progress import quiet
from calibration.samples.study import CandidateFeatures, Course, Fold, Samples, Study
from calibration.simulation.head import REGIONS, build_head
from calibration.simulation.response import HIERARCHY
from calibration.simulation.scan import ongoing_activity, signal_change
from calibration.simulation.settings import SubjectSettings
from calibration.simulation.trials import Percept, imagined_amplitudes, responses_to, seen_amplitudes
from calibration.simulation.tuning import subject_tuning
from rtgod.settings import PipelineSettings
from tests.subjects import EASY

LAYERS = [f"cnn{i}" for i in range(1, 9)]
N_CATEGORIES, N_TEST, TR_S = 60, 20, 3.0
#: As easy as in other tests, but with regions of their own shape, ongoing activity and varying trials.
RESPONSE = EASY.model_copy(
    update={
        "effect_percent": 1.5,
        "effective_rank": 8.0,
        "imagery_rank": 8.0,
        "trial_sd": 0.3,
        "lapse_share": 0.05,
        "ongoing": 0.2,
        "imagery_gain": 0.6,
        "hrf_region_sd_s": 0.7,
    }
)
PIPELINE = PipelineSettings()
NULLS = ("no-signal", "shuffled-labels", "shuffled-areas", "no-lag", "no-imagery")


@cache
def head():
    return build_head((32, 32, 25), (6.0, 6.0, 6.0), 0)


def drawn_features(seed):
    """Features per layer of three images of each category, (n_categories, 3, n_units): neighbour layers are alike."""
    rng = np.random.default_rng(seed)
    latent, layers = None, {}
    for layer in LAYERS:
        fresh = rng.standard_normal((N_CATEGORIES, 1, 30)) + 0.5 * rng.standard_normal((N_CATEGORIES, 3, 30))
        latent = fresh if latent is None else 0.75 * latent + np.sqrt(1 - 0.75**2) * fresh
        layers[layer] = (latent @ rng.standard_normal((30, 60))).astype(np.float32)
    return layers


@dataclass(frozen=True)
class Signals:
    """Samples of a subject, and the course of its imagery: (n_trials, n_times, n_voxels), in noise."""

    fold: Fold
    candidates: CandidateFeatures
    course: np.ndarray
    tuning: object


@cache
def signals(null="", seed=0):
    """A subject that sees two images of each of 40 categories, and sees and imagines 20 others, twice each."""
    settings = SubjectSettings(shape=(32, 32, 25), voxel_mm=(6.0, 6.0, 6.0), null=null, response=RESPONSE, seed=seed)
    features, rng = drawn_features(seed), np.random.default_rng([seed, 1])
    voxels = np.argwhere(head().regions > 0).astype(np.int32)
    names = [f"c{category} {image}" for category in range(N_CATEGORIES) for image in range(2)]
    flat = {layer: values[:, :2].reshape(-1, 60) for layer, values in features.items()}
    n_training = 2 * (N_CATEGORIES - N_TEST)
    tuning = subject_tuning({k: v[:n_training] for k, v in flat.items()}, head(), voxels, settings, rng)
    ids = [f"c{category}" for category in range(N_CATEGORIES)]
    amplitudes = seen_amplitudes(tuning, names, flat)
    amplitudes |= imagined_amplitudes(tuning, ids, {k: v[:, 2] for k, v in features.items()})
    candidates = CandidateFeatures.with_names(ids, {k: v.mean(axis=1) for k, v in features.items()}, {})

    def run(percept_names, imagined, number):
        """Signal of every volume, and each trial's first volume; trials are 24 s apart, seeing as well as imagery."""
        order = [percept_names[i] for i in rng.permutation(len(percept_names))]
        percepts = [Percept(12 + 24.0 * k, 9.0, imagined, 1.0, name) for k, name in enumerate(order)]
        responses = responses_to(percepts, amplitudes, settings, rng)
        n_volumes = 8 * len(order) + 12
        change = signal_change(responses, n_volumes, TR_S, voxels, tuning, settings)
        change = change + ongoing_activity(n_volumes, TR_S, tuning, rng)
        noise = 0.7 * rng.standard_normal(change.shape)
        onsets = 4 + 8 * np.arange(len(order))
        return (
            np.stack([(change + noise)[start - 1 : start + 9] for start in onsets]),
            order,
            [f"run {number}"] * len(order),
        )

    def samples(runs):
        X = np.concatenate([course[:, 3:6].mean(axis=1) for course, _, _ in runs]).astype(np.float32)
        shown = [name for _, order, _ in runs for name in order]
        categories = tuple(name.split(" ")[0] for name in shown)
        position = {name: i for i, name in enumerate(names)}
        if shown[0] in position:
            Y = {k: flat[k][[position[name] for name in shown]] for k in LAYERS}
        else:
            Y = {k: candidates.features[k][candidates.positions(categories)] for k in LAYERS}
        return Samples(X, tuple(run for _, _, of in runs for run in of), categories, Y)

    shown, tested = names[:n_training], names[n_training:]
    training = [run(shown[k::4], imagined=False, number=k) for k in range(4)]
    seen = [run(tested[::2], imagined=False, number=4 + k) for k in range(2)]
    imagined = [run(ids[-N_TEST:], imagined=True, number=6 + k) for k in range(2)]
    fold = Fold(samples(training), {}, {"seen": samples(seen), "imagined": samples(imagined)}, {})
    return Signals(fold, candidates, np.concatenate([course for course, _, _ in imagined]).astype(np.float32), tuning)


def accuracies(null, seed=0):
    """Identification accuracy by kind and aggregation."""
    made = signals(null, seed)
    fitted = fit_fold(made.fold, PIPELINE.noise, DecoderSettings(name="ridge"))
    index = index_of(made.candidates, fitted, PIPELINE.ranking)
    return {
        (kind, one.aggregation): one
        for kind, samples in made.fold.tests.items()
        for one in identification(kind, decode_kind(samples, fitted, index, made.candidates), new=True)
    }


def by_area(null, seed):
    """Feature accuracy of what was seen, repeats averaged: (n_areas, n_layers)."""
    made, rows = signals(null, seed), []
    labels = head().regions[head().regions > 0]
    for area in range(1, 1 + len(REGIONS)):
        fold = made.fold.select_voxels(np.flatnonzero(labels == area).astype(np.int32))
        predicted, test = (
            fit_fold(fold, PIPELINE.noise, DecoderSettings(name="ridge")).decode(fold.tests["seen"].X),
            fold.tests["seen"],
        )
        means = ([averaged_by(test.categories, values[k])[1] for values in (predicted, test.Y)] for k in LAYERS)
        rows.append([profile_correlation(*pair).mean() for pair in means])
    return np.array(rows)


def order_of_areas(null, seed=0):
    """How well areas and layers fit as planted: correlation of the two tables without rows' and columns' means."""
    place, layer = np.array([HIERARCHY[name] for name in REGIONS])[:, np.newaxis], np.linspace(0, 1, 8)
    tables = np.exp(-(((place - layer) / 0.3) ** 2)), by_area(null, seed)
    without = [t - t.mean(axis=0) - t.mean(axis=1, keepdims=True) + t.mean() for t in tables]
    return np.corrcoef(*(t.ravel() for t in without))[0, 1]


def shift_s(null, seed=0):
    """How much later the lowest layer is than the highest in imagery, by the middle of its accuracy over time."""
    made = signals(null, seed)
    fitted = fit_fold(made.fold, PIPELINE.noise, DecoderSettings(name="ridge"))
    truth, middles = made.fold.tests["imagined"], []
    decoded = [fitted.decode(made.course[:, volume]) for volume in range(made.course.shape[1])]
    for layer in LAYERS:
        means = [[averaged_by(truth.categories, v[layer])[1] for v in (at, truth.Y)] for at in decoded]
        accuracy = np.array([profile_correlation(*pair).mean() for pair in means])
        above = np.maximum(accuracy - accuracy.max() / 2, 0)
        middles.append(TR_S * np.arange(len(above)) @ above / above.sum())
    return -np.polyfit(np.linspace(0, 1, 8), middles, 1)[0]


def compared_areas(null, seed=0):
    """The evaluation's comparison of areas: of each kind, which one is framed for each layer, and their centres."""
    made, labels = signals(null, seed), head().regions[head().regions > 0]
    regions = {name: np.flatnonzero(labels == i).astype(np.int32) for i, name in enumerate(REGIONS, 1)}
    study = Study((made.fold,), {"VC": np.arange(len(labels), dtype=np.int32)} | regions, made.candidates)
    with ThreadPoolExecutor(1) as here:
        return homology(study, PIPELINE.noise, DecoderSettings(name="ridge"), here, quiet)


def shift_of_layers(null, seed=0):
    """The evaluation's change of time from the lowest to the highest layer in imagery, with its interval."""
    made = signals(null, seed)
    fitted = fit_fold(made.fold, PIPELINE.noise, DecoderSettings(name="ridge"))
    truth, n_times = made.fold.tests["imagined"], made.course.shape[1]
    decoded = [fitted.decode(made.course[:, volume]) for volume in range(n_times)]
    by_layer = {layer: np.stack([at[layer] for at in decoded], axis=1) for layer in LAYERS}
    course = Course((np.arange(n_times) - 0.5) * TR_S, 9.0, made.course, truth.categories, truth.Y)
    return time_course(course, by_layer, [""] * len(LAYERS)).shift


# ---------------------------------------------------------------- what is there is found


def test_a_subject_that_lacks_nothing_is_decoded_in_all_figures():
    for (kind, _), one in accuracies("").items():
        assert one.low > 0.6, kind
        assert one.p_value < 0.01
    assert order_of_areas("") > 0.6
    assert shift_s("") > 1.5


@pytest.mark.parametrize("null", NULLS)
def test_what_is_not_lacking_is_found_all_the_same(null):
    found = accuracies(null)
    if null in ("shuffled-areas", "no-lag", "no-imagery"):
        assert found["seen", "single block"].low > 0.6
    if null in ("shuffled-areas", "no-lag"):
        assert found["imagined", "single block"].low > 0.6
    if null in ("no-lag", "no-imagery"):
        assert order_of_areas(null) > 0.6


# ---------------------------------------------------------------- what is lacking is not


@pytest.mark.parametrize(("null", "kinds"), [
    ("no-signal", ("seen", "imagined")),
    ("shuffled-labels", ("seen", "imagined")),
    ("no-imagery", ("imagined",)),
])  # fmt: skip
def test_identification_is_at_chance_and_its_intervals_say_so(null, kinds):
    """Over five subjects the mean is 0.5, and few of the 90 % intervals miss it."""
    found = [one for seed in range(5) for (kind, _), one in accuracies(null, seed).items() if kind in kinds]
    assert len(found) == 10 * len(kinds)
    mean, error = np.mean([o.accuracy for o in found]), np.std([o.accuracy for o in found]) / np.sqrt(5 * len(kinds))
    assert abs(mean - 0.5) < max(2.5 * error, 0.02)
    missed = [not o.low <= 0.5 <= o.high for o in found]
    assert np.mean(missed) < 0.3
    assert np.mean([o.p_value < 0.05 for o in found]) < 0.25


@pytest.mark.parametrize("null", ["shuffled-areas", "no-signal", "shuffled-labels"])
def test_areas_have_no_order(null):
    found = [order_of_areas(null, seed) for seed in range(5)]
    planted = [order_of_areas("", seed) for seed in range(3)]
    assert abs(np.mean(found)) < 0.35
    assert min(planted) > max(found)


def test_no_area_is_framed():
    """More data sets of shuffled voxels are in `benchmarks.null_figures`."""
    for null in ("shuffled-areas", "shuffled-labels"):
        found = compared_areas(null, 1)
        assert not any(area is not None for of in found.kinds.values() for area in of.best_area), null
        assert found.kinds["seen"].order.p_value > 0.01, null


def test_areas_of_a_subject_are_framed_and_in_their_order():
    seen = compared_areas("").kinds["seen"]
    assert any(area is not None for area in seen.best_area)
    assert seen.order.p_value <= 0.05


def test_without_lag_the_interval_holds_zero_and_with_it_does_not():
    assert shift_of_layers("").high_s < 0
    for null in ("no-lag", "no-imagery", "no-signal"):
        found = [shift_of_layers(null, seed) for seed in range(3)]
        assert sum(one.is_found for one in found) <= 1, null


def test_layers_without_lag_have_one_time():
    found = [shift_s("no-lag", seed) for seed in range(5)]
    assert abs(np.mean(found)) < 2.5 * np.std(found, ddof=1) / np.sqrt(5) + 0.05
    assert abs(np.mean(found)) < 0.5
    assert min(shift_s("", seed) for seed in range(3)) > max(np.abs(found))


def test_regions_that_differ_in_their_response_are_no_lag_of_layers_in_the_null_subject():
    """A region that peaks late would look like a layer that lags, which is why this subject has one course."""
    assert len(np.unique(signals("no-lag").tuning.hrf, axis=0)) == 1
    assert len(np.unique(signals("").tuning.hrf, axis=0)) == len(REGIONS)


@pytest.mark.parametrize("null", ["no-signal", "no-imagery"])
def test_what_evokes_nothing_leaves_only_noise(null):
    for kind in ("seen", "imagined"):
        mean = np.abs(signals(null).fold.tests[kind].X.mean(axis=0)).mean()
        assert (mean < 0.2) == (null == "no-signal" or kind == "imagined")


def test_nothing_but_what_is_lacking_changes():
    settings = SubjectSettings(response=RESPONSE)
    for null in NULLS:
        lacking = replace_null(settings, null)
        changed = {k for k, v in lacking.response_in_force if getattr(settings.response, k) != v}
        assert changed == {
            "no-signal": {"effect_percent", "evoked_percent"},
            "no-lag": {"imagery_lag_s", "hrf_region_sd_s"},
            "no-imagery": {"imagery_gain"},
        }.get(null, set())
        assert lacking.response == settings.response  # as it was given, for its file


def replace_null(settings, null):
    return settings.model_copy(update={"null": null})
