import numpy as np
import pytest

from calibration.simulation.settings import SubjectSettings, TuningSettings
from calibration.simulation.trials import Percept, responses_to

NAMES = [f"image {i}" for i in range(40)] + [f"category {i}" for i in range(25)]
AMPLITUDES = {name: np.full((2, 3), i, np.float32) for i, name in enumerate(NAMES)}
#: Each image twice running, then each category once.
PERCEPTS = [Percept(9.0 * i, 9.0, False, 1.0, NAMES[i // 2]) for i in range(80)]
PERCEPTS += [Percept(720 + 24.0 * i, 15.0, True, 0.5, name) for i, name in enumerate(NAMES[40:])]


def responses(null="", seed=0, n=1, **response):
    settings = SubjectSettings(null=null, response=TuningSettings(**response))
    return responses_to(PERCEPTS * n, AMPLITUDES, settings, np.random.default_rng(seed))


def answered(made):
    return [NAMES[int(r.amplitudes[0, 0])] for r in made]


def test_without_variation_trials_are_as_planned():
    for percept, made in zip(PERCEPTS, responses(trial_sd=0, lapse_share=0), strict=True):
        assert (made.onset_s, made.duration_s, made.imagined) == (percept.onset_s, percept.duration_s, percept.imagined)
        assert made.strength == percept.strength
        assert made.amplitudes is AMPLITUDES[percept.name]


@pytest.mark.parametrize("trial_sd", [0.2, 0.6])
def test_amplitudes_vary_from_trial_to_trial_as_much_as_set(trial_sd):
    gains = np.array([r.strength for r in responses(n=60, trial_sd=trial_sd, lapse_share=0) if not r.imagined])
    assert np.log(gains).std() == pytest.approx(trial_sd, rel=0.05)
    assert gains.mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("share", "gain"), [(0.1, 0.0), (0.3, 0.2), (1.0, 0.5)])
def test_attention_lapses_as_often_as_set(share, gain):
    made = responses(n=60, trial_sd=0, lapse_share=share, lapse_gain=gain)
    gains = np.array([r.strength / (0.5 if r.imagined else 1.0) for r in made])
    assert set(gains.round(6)) <= {1.0, gain}
    assert (gains == gain).mean() == pytest.approx(share, abs=0.03)


def test_shuffled_labels_exchange_percepts_within_their_kind_and_keep_repeats():
    exchanged = [answered(responses("shuffled-labels", seed)) for seed in range(200)]
    planned = [p.name for p in PERCEPTS]
    assert answered(responses()) == planned
    for names in exchanged:
        assert sorted(names) == sorted(planned)
        assert names[0:80:2] == names[1:80:2]
    hits = np.array([[a == b for a, b in zip(names, planned, strict=True)] for names in exchanged])
    # As often right as by chance: once in a run for each kind.
    assert hits[:, 0:80:2].sum(axis=1).mean() == pytest.approx(1, abs=0.25)
    assert hits[:, 80:].sum(axis=1).mean() == pytest.approx(1, abs=0.25)


def test_variation_is_the_seed_s():
    first, again, other = ([r.strength for r in responses(seed=seed)] for seed in (1, 1, 2))
    assert first == again != other
