from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from calibration.datasets.bids import find_runs
from calibration.evaluation.trial_ranks import RankedTrial, by_kind, paired_difference, rank_trials
from calibration.features.stimuli import Stimuli
from calibration.samples.runs import align_run
from calibration.training.fit import Trained
from rtgod.events.table import read_trials
from tests import naive
from tests.calibration.samples.test_runs import answers_of


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def new_runs(subject, bundle):
    files = [find_runs(subject, "01", name)[0] for name in ("perceptionTest", "imagery")]
    return [align_run(run, bundle.reference, bundle.noise, bundle.settings) for run in files]


def rank(new_runs, bundle, settings=None):
    trained = Trained(bundle.patterns, bundle.voxel_mean, bundle.voxel_sd, bundle.layers, {}, {})
    ids = tuple(candidate.category_id for candidate in bundle.candidates)
    stimuli = Stimuli({}, {}, ids, bundle.candidate_features)
    with ThreadPoolExecutor(1) as pool:
        return rank_trials(
            new_runs, bundle.reference, settings or bundle.settings, bundle.noise, trained, stimuli, pool, quiet
        )


def test_ranks_are_those_of_the_live_session(journal, bundle, new_runs):
    ranked = {trial.key: trial for trial in rank(new_runs, bundle)}
    position = {candidate.category_id: i for i, candidate in enumerate(bundle.candidates)}
    compared = 0
    for run in new_runs:
        _, rankings = answers_of(journal)[run.run.run_id]
        for block, ranking in rankings.items():
            trial = read_trials(run.events)[block]
            if trial.repeat:
                assert (run.run.run_id, block) not in ranked
                continue
            scores = ranking.scores[np.argsort(ranking.order)]
            expected = naive.identification_accuracy(scores, position[trial.category])
            found = ranked[run.run.run_id, block]
            assert found.accuracy == pytest.approx(expected)
            assert found.kind == trial.kind
            assert found.rank == 1 + (scores > scores[position[trial.category]]).sum()
            compared += 1
    assert compared == len(ranked) > 60


def trial(block, accuracy, kind="stimulus"):
    return RankedTrial(("run", block), kind, accuracy, 1)


def test_differences_are_paired_over_the_trials_that_both_have():
    a = [trial(0, 0.9), trial(1, 0.5), trial(2, 0.7), trial(9, 0.0)]
    b = [trial(1, 0.4), trial(2, 0.7), trial(0, 0.6), trial(5, 1.0)]
    mean, error = paired_difference(a, b)
    differences = np.array([0.3, 0.1, 0.0])
    assert mean == pytest.approx(differences.mean())
    assert error == pytest.approx(differences.std(ddof=1) / np.sqrt(3))
    assert np.isnan(paired_difference(a, [])).all()


def test_kinds_have_people_s_names():
    groups = by_kind([trial(0, 1.0), trial(1, 1.0, "imagery"), trial(2, 0.0)])
    assert {name: len(trials) for name, trials in groups.items()} == {"seen": 2, "imagined": 1}
    assert list(by_kind([trial(1, 1.0, "imagery")])) == ["imagined"]
