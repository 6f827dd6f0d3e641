"""What a run is whitened by, while it is left out, knows nothing of it."""

import numpy as np
import pytest

from calibration.decoders.settings import DecoderSettings
from calibration.metrics.group_means import averaged_by
from calibration.samples.study import CATEGORIES, CandidateFeatures, Samples, Windows
from calibration.samples.whitening import TrainingSamples
from calibration.training.fit import train
from calibration.training.held_out_rankings import _predict_left_out, learn_from_rankings
from rtgod.settings import NoiseSettings, RankingSettings

N_VOXELS, N_CATEGORIES, N_RUNS, PER_RUN = 30, 6, 5, 12
SETTINGS = NoiseSettings(n_components=3)
#: The run whose noise is unlike that of the others.
ODD = "run 2"


def planted(rng, odd_sd=20.0):
    """Samples of runs; one run's noise goes along a direction of its own, with `odd_sd` times the others' size."""
    runs = [f"run {k}" for k in range(N_RUNS)]
    direction = np.zeros(N_VOXELS)
    direction[:5] = 1 / np.sqrt(5)
    patterns = rng.normal(size=(N_CATEGORIES, N_VOXELS))
    X, noise, names, categories = [], {}, [], []
    for run in runs:
        own = odd_sd if run == ODD else 0.0
        noise[run] = (rng.normal(size=(80, N_VOXELS)) + own * rng.normal(size=(80, 1)) * direction).astype(np.float32)
        shown = np.tile(np.arange(N_CATEGORIES), PER_RUN // N_CATEGORIES)
        X.append(
            patterns[shown] + rng.normal(size=(PER_RUN, N_VOXELS)) + own * rng.normal(size=(PER_RUN, 1)) * direction
        )
        names += [run] * PER_RUN
        categories += [f"c{k}" for k in shown]
    X = np.concatenate(X).astype(np.float32)
    Y = np.array([[float(c == f"c{k}") for k in range(N_CATEGORIES)] for c in categories], np.float32)
    rows = np.arange(len(X), dtype=np.int32)
    windows = Windows(rows, np.ones(len(X), np.int32), X)
    return TrainingSamples(
        Samples(X, tuple(names), tuple(categories), {CATEGORIES: Y}, windows), noise, SETTINGS
    ), direction


def test_the_noise_of_a_left_out_run_is_not_known():
    """Its own direction is shrunk as long as its noise is known, and passes unchanged when it is not."""
    training, direction = planted(np.random.default_rng(0))
    known, unknown = (np.linalg.norm(training.shape(w).whiten(direction.astype(np.float32))) for w in ((), (ODD,)))
    assert known < 0.7
    assert unknown == pytest.approx(1, abs=0.1)
    same = TrainingSamples(
        training.unwhitened, {run: values for run, values in training.noise.items() if run != ODD}, SETTINGS
    ).shape()
    for part in ("sd", "components", "shrinkage"):
        np.testing.assert_array_equal(getattr(training.shape((ODD,)), part), getattr(same, part))


def test_whatever_a_left_out_run_s_noise_is_its_whitening_is_the_same():
    quiet, loud = (planted(np.random.default_rng(0), odd_sd)[0] for odd_sd in (0.0, 50.0))
    others = np.array(quiet.unwhitened.runs) != ODD
    np.testing.assert_array_equal(quiet.whitened((ODD,)).X[others], loud.whitened((ODD,)).X[others])
    assert not np.allclose(quiet.whitened().X[others], loud.whitened().X[others])


def test_accuracy_and_chances_are_by_decoders_that_do_not_know_the_run_s_noise():
    """A decoder of the other runs is the same bytes, however odd the noise of the run that is left out."""
    decoded = []
    for odd_sd in (0.0, 50.0):
        training, _ = planted(np.random.default_rng(0), odd_sd)
        rows = np.array(training.unwhitened.runs) == ODD
        # The same samples of the odd run in both cases, so that only what is learned can differ.
        same = planted(np.random.default_rng(0), 0.0)[0].unwhitened
        training = TrainingSamples(same, training.noise, SETTINGS)
        samples = training.whitened()
        trained = train(
            samples.X, samples.runs, samples.Y, DecoderSettings(), lambda *_: None,
            without=lambda runs, of=training: of.whitened_complete(runs).X,
        )  # fmt: skip
        penalties = dict.fromkeys(trained.penalties, 10.0)
        fixed = type(trained)(
            trained.patterns, trained.voxel_mean, trained.voxel_sd, trained.layers, penalties, trained.held_out
        )
        windows = _predict_left_out(
            samples, samples.windows, fixed, DecoderSettings(), samples.runs, without=training.whitened
        )
        known = _predict_left_out(samples, samples.windows, fixed, DecoderSettings(), samples.runs)
        decoded.append(
            (trained.held_out[CATEGORIES][rows], windows[CATEGORIES][rows], known[CATEGORIES][rows], trained)
        )
    (held, windows, known, one), (odd_held, odd_windows, odd_known, other) = decoded
    if one.penalties == other.penalties:
        np.testing.assert_array_equal(held, odd_held)
    np.testing.assert_array_equal(windows, odd_windows)
    assert not np.allclose(known, odd_known)


def test_without_noise_nothing_is_whitened():
    training, _ = planted(np.random.default_rng(0))
    for unknown in (
        TrainingSamples(training.unwhitened, {}, SETTINGS),
        TrainingSamples(training.unwhitened, training.noise, NoiseSettings(n_components=0)),
    ):
        assert unknown.shape() is None
        np.testing.assert_array_equal(unknown.whitened((ODD,)).X, training.unwhitened.X)


@pytest.mark.parametrize("odd_sd", [0.0, 20.0])
def test_labels_that_are_shuffled_are_decoded_at_chance(odd_sd):
    """Null: noise has no labels, so what is learned of it gives nothing away, whoever knows it."""
    firsts = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        training, _ = planted(rng, odd_sd)
        labels = rng.permutation(training.unwhitened.categories)
        Y = np.array([[float(c == f"c{k}") for k in range(N_CATEGORIES)] for c in labels], np.float32)
        unwhitened = Samples(
            training.unwhitened.X, training.unwhitened.runs, tuple(labels), {CATEGORIES: Y}, training.unwhitened.windows
        )
        training = TrainingSamples(unwhitened, training.noise, SETTINGS)
        samples = training.whitened()
        trained = train(
            samples.X, samples.runs, samples.Y, DecoderSettings(), lambda *_: None,
            without=lambda runs, of=training: of.whitened_complete(runs).X,
        )  # fmt: skip
        firsts.append((trained.held_out[CATEGORIES].argmax(axis=1) == Y.argmax(axis=1)).mean())
    assert np.mean(firsts) == pytest.approx(1 / N_CATEGORIES, abs=0.03)


def test_rankings_of_left_out_runs_are_made_without_their_noise():
    training, _ = planted(np.random.default_rng(0))
    samples = training.whitened()
    trained = train(samples.X, samples.runs, samples.Y, DecoderSettings(), lambda *_: None)
    ids = tuple(f"c{k}" for k in range(N_CATEGORIES))
    candidates = CandidateFeatures(ids, ids, {CATEGORIES: np.eye(N_CATEGORIES, dtype=np.float32)})
    assert averaged_by(samples.categories, samples.Y[CATEGORIES])[1].shape == (N_CATEGORIES, N_CATEGORIES)
    asked = []
    learn_from_rankings(
        samples, trained, DecoderSettings(), candidates, RankingSettings(),
        lambda runs: asked.append(frozenset(runs)) or training.whitened(runs),
    )  # fmt: skip
    assert set(asked) == {frozenset({f"run {k}"}) for k in range(N_RUNS)}
