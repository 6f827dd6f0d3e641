"""What a run is whitened by, while it is left out, knows nothing of it."""

import numpy as np
import pytest

from calibration.decoders.settings import DecoderSettings
from calibration.samples.study import CATEGORIES, Samples, Windows
from calibration.samples.whitening import TrainingSamples, Whitening
from calibration.training.fit import train
from rtgod.settings import NoiseSettings

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
    unwhitened = Samples(X, tuple(names), tuple(categories), {CATEGORIES: Y}, windows)
    return TrainingSamples(unwhitened, Whitening.of(noise, SETTINGS)), direction


def test_the_noise_of_a_left_out_run_is_not_known():
    """Its own direction is shrunk as long as its noise is known, and passes unchanged when it is not."""
    training, direction = planted(np.random.default_rng(0))
    without = training.whitening.shape_without
    known, unknown = (np.linalg.norm(without(runs).whiten(direction.astype(np.float32))) for runs in ((), (ODD,)))
    assert known < 0.7
    assert unknown == pytest.approx(1, abs=0.1)
    others = {run: values for run, values in training.whitening.noise.items() if run != ODD}
    same = Whitening.of(others, SETTINGS).shape
    for part in ("sd", "components", "shrinkage"):
        np.testing.assert_allclose(getattr(without((ODD,)), part), getattr(same, part), rtol=1e-5)
    assert without(("no such run",)) is without((ODD,), fewest=N_RUNS) is training.whitening.shape


def test_whatever_a_left_out_run_s_noise_is_its_whitening_is_the_same():
    quiet, loud = (planted(np.random.default_rng(0), odd_sd)[0] for odd_sd in (0.0, 50.0))
    others = np.array(quiet.unwhitened.runs) != ODD
    np.testing.assert_array_equal(quiet.whitened((ODD,)).X[others], loud.whitened((ODD,)).X[others])
    assert not np.allclose(quiet.whitened().X[others], loud.whitened().X[others])


def test_accuracy_is_by_decoders_that_do_not_know_the_run_s_noise():
    """A decoder of the other runs is the same bytes, however odd the noise of the run that is left out."""
    decoded = []
    for odd_sd in (0.0, 50.0):
        training, _ = planted(np.random.default_rng(0), odd_sd)
        rows = np.array(training.unwhitened.runs) == ODD
        # The same samples of the odd run in both cases, so that only what is learned can differ.
        same = planted(np.random.default_rng(0), 0.0)[0].unwhitened
        training = TrainingSamples(same, training.whitening)
        samples = training.whitened()
        trained = train(
            samples.X, samples.runs, samples.Y, DecoderSettings(name="ridge"), lambda *_: None,
            without=lambda runs, of=training: of.whitened_complete(runs).X,
        )  # fmt: skip
        decoded.append((trained.held_out[CATEGORIES][rows], training.whitened().X[rows], trained))
    (held, known, one), (odd_held, odd_known, other) = decoded
    assert one.penalties == other.penalties
    np.testing.assert_array_equal(held, odd_held)
    assert not np.allclose(known, odd_known)


def test_without_noise_nothing_is_whitened():
    training, _ = planted(np.random.default_rng(0))
    for unknown in (
        TrainingSamples(training.unwhitened, Whitening.of({}, SETTINGS)),
        TrainingSamples(training.unwhitened, Whitening.of(training.whitening.noise, NoiseSettings(n_components=0))),
    ):
        assert unknown.whitening.shape is None
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
        training = TrainingSamples(unwhitened, training.whitening)
        samples = training.whitened()
        trained = train(
            samples.X, samples.runs, samples.Y, DecoderSettings(name="ridge"), lambda *_: None,
            without=lambda runs, of=training: of.whitened_complete(runs).X,
        )  # fmt: skip
        firsts.append((trained.held_out[CATEGORIES].argmax(axis=1) == Y.argmax(axis=1)).mean())
    assert np.mean(firsts) == pytest.approx(1 / N_CATEGORIES, abs=0.03)
