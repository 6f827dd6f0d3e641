"""Presence: a decoder that is good is no surer of noise than of a guess, and stays sure of responses."""

import numpy as np
import pytest

from calibration.decoders.settings import DecoderSettings
from calibration.parallel.progress import quiet
from calibration.samples.plain import plain_stimuli
from calibration.samples.study import CandidateFeatures, Samples, Windows
from calibration.training.fit import train
from calibration.training.held_out_rankings import learn_from_rankings
from calibration.training.presence import learn_presence
from rtgod.decoding.category_index import index_categories
from rtgod.decoding.decoder import response_of
from rtgod.settings import RankingSettings

N_VOXELS, N_VOLUMES = 120, 3
CATEGORIES = ("a", "b", "c")


class Subject:
    """Every trial has a response in common and one of its category; noise is less after more volumes."""

    def __init__(self, seed, n_categories, common=1.0, of_category=0.6):
        self.rng = np.random.default_rng(seed)
        self.ids = CATEGORIES[:n_categories]
        self.response = common * self.rng.standard_normal(N_VOXELS)
        self.response = self.response + of_category * self.rng.standard_normal((n_categories, N_VOXELS))

    def patterns(self, true, responds=True):
        """Each trial after each of its volumes: (n_trials, N_VOLUMES, N_VOXELS), float32."""
        noise = self.rng.standard_normal((len(true), N_VOLUMES, N_VOXELS))
        mean = noise.cumsum(axis=1) / np.arange(1, N_VOLUMES + 1)[:, np.newaxis]
        mean += 0.5 * self.rng.standard_normal((len(true), 1, N_VOXELS)) + 0.3 * self.rng.standard_normal(N_VOXELS)
        return (mean + responds * self.response[true][:, np.newaxis]).astype(np.float32)

    def samples(self, n_runs=4, n_per_run=6, responds=True):
        true = np.concatenate([self.rng.permutation(np.arange(n_per_run) % len(self.ids)) for _ in range(n_runs)])
        X = np.concatenate([self.patterns(some, responds) for some in np.split(true, n_runs)])
        of = np.repeat(np.arange(len(true), dtype=np.int32), N_VOLUMES)
        n_volumes = np.tile(np.arange(1, N_VOLUMES + 1, dtype=np.int32), len(true))
        runs = tuple(f"run {run}" for run in range(n_runs) for _ in range(n_per_run))
        categories = tuple(self.ids[one] for one in true)
        Y = plain_stimuli(self.ids).of_categories(categories)
        return Samples(X[:, -1], runs, categories, Y, Windows(of, n_volumes, X.reshape(-1, N_VOXELS)))


def said_and_right(subject, responds, n_trials=60):
    """P(first) and whether the first was right, of new trials' last volumes, decoded as the server does."""
    samples = subject.samples()
    trained = train(samples.X, samples.runs, samples.Y, DecoderSettings(name="ridge"), quiet)
    stimuli = plain_stimuli(subject.ids)
    candidates = CandidateFeatures(subject.ids, subject.ids, stimuli.candidates)
    learned = learn_from_rankings(samples, trained, DecoderSettings(name="ridge"), candidates, RankingSettings())
    index = index_categories(RankingSettings(), trained.layers, subject.ids, candidates.features, None, plain=True)
    chances, said, right = learned.confidence.chances, [], []
    true = subject.rng.permutation(np.arange(n_trials) % len(subject.ids))
    for pattern, shown in zip(subject.patterns(true, responds)[:, -1], true, strict=True):
        order, scores = index.rank(trained.decoder().decode(0, pattern))
        response = response_of(learned.presence.weights, pattern)
        is_new = np.zeros(len(order), bool)
        said.append(chances.probabilities(scores, is_new, len(order), N_VOLUMES, response)[0])
        right.append(order[0] == shown)
    return np.mean(said), np.mean(right)


@pytest.mark.parametrize("n_categories", [2, 3])
def test_a_good_decoder_that_meets_noise_is_as_sure_as_a_guess(n_categories):
    found = [said_and_right(Subject(seed, n_categories), responds=False) for seed in range(4)]
    said, right = np.mean(found, axis=0)
    # Later volumes teach a little less here than earlier ones, and are never taken to be worth less.
    assert said == pytest.approx(1 / n_categories, abs=0.13)
    assert right == pytest.approx(1 / n_categories, abs=0.12)


@pytest.mark.parametrize("n_categories", [2, 3])
def test_and_of_responses_it_is_as_sure_as_it_is_right(n_categories):
    found = [said_and_right(Subject(seed, n_categories), responds=True) for seed in range(4)]
    said, right = np.mean(found, axis=0)
    assert right > 0.95
    assert said > 0.85


def test_responses_are_told_from_noise_and_noise_is_not():
    """In runs that hold no response nothing is told: every pattern is as likely one as another."""
    probability = {}
    for responds in (True, False):
        samples = Subject(1, 3).samples(n_runs=6, responds=responds)
        learned = learn_presence(samples)
        last = learned.left_out[samples.windows.last] if learned else np.zeros(1)
        of = learned.presence.probability if learned else lambda *_: 0.9
        probability[responds] = np.mean([of(one, N_VOLUMES) for one in last]), of(0.0, N_VOLUMES)
    assert probability[True][0] > 0.98
    assert probability[True][1] < 0.5
    assert probability[False][0] == pytest.approx(probability[False][1], abs=0.1)


def test_of_one_run_nothing_is_learned():
    assert learn_presence(Subject(0, 3).samples(n_runs=1)) is None
