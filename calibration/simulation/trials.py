"""Responses of visual cortex to the trials of a run, with what varies from trial to trial."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.features.extractor import category_means
from calibration.simulation.schedule import SimulatedRun
from calibration.simulation.settings import SubjectSettings
from calibration.simulation.tuning import Tuning
from rtgod.messages import Float32Array, Float64Array


@dataclass(frozen=True, slots=True)
class Percept:
    """Something seen or imagined in a trial.

    Attributes
    ----------
    onset_s, duration_s : float
    imagined : bool
        Imagery is weaker than seeing, and its lower layers respond later.
    strength : float
        1 for an ordinary trial.
    name : hashable
        Image or category; percepts of one name and kind have one amplitude.
    """

    onset_s: float
    duration_s: float
    imagined: bool
    strength: float
    name: Hashable


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Response of visual cortex to one trial.

    Attributes
    ----------
    onset_s, duration_s : float
    imagined : bool
        Imagery is weaker than seeing, and its lower layers respond later.
    strength : float
        1 for an ordinary trial.
    amplitudes : ndarray of shape (n_layers, n_voxels), float32
        Response at the strength of seeing, minus the response to any image; percent signal change.
    """

    onset_s: float
    duration_s: float
    imagined: bool
    strength: float
    amplitudes: Float32Array


def percepts_of(schedule: SimulatedRun) -> list[Percept]:
    """Return what is seen or imagined in each trial: images by their names, imagined categories by their ids.

    Parameters
    ----------
    schedule : SimulatedRun
    """
    return [
        Percept(
            t.onset_s,
            t.duration_s,
            imagined=t.stimulus is None,
            strength=t.strength,
            name=t.stimulus.name if t.stimulus else t.category.category_id,
        )
        for t in schedule.trials
    ]


def seen_amplitudes(
    tuning: Tuning, names: Sequence[str], features: Mapping[str, Float32Array]
) -> dict[Hashable, Float32Array]:
    """Return the amplitudes (n_layers, n_voxels) of seen images, by name.

    Parameters
    ----------
    tuning : Tuning
    names : sequence of str
    features : mapping of str to ndarray of shape (n_images, n_units), float32
        Features of the images per layer.
    """
    amplitudes = tuning.amplitudes(features)
    return {name: amplitudes[:, i] for i, name in enumerate(names)}


def imagined_amplitudes(
    tuning: Tuning, labels: Sequence[str], features: Mapping[str, Float32Array]
) -> dict[Hashable, Float32Array]:
    """Return the amplitudes (n_layers, n_voxels) of imagined categories, by name.

    Imagery is not of a single image, but of the general look: the mean over the images that come to mind.

    Parameters
    ----------
    tuning : Tuning
    labels : sequence of str
        Name of what each image is of.
    features : mapping of str to ndarray of shape (n_images, n_units), float32
        Features of the images per layer.
    """
    names, means = category_means(features, labels)
    amplitudes = tuning.amplitudes(means, imagined=True)
    return {name: amplitudes[:, i] for i, name in enumerate(names)}


def responses_to(
    percepts: Sequence[Percept],
    amplitudes: Mapping[Hashable, Float32Array],
    settings: SubjectSettings,
    rng: np.random.Generator,
) -> list[Response]:
    """Return the responses to the trials of one run: each is stronger or weaker by chance, and attention may lapse.

    Parameters
    ----------
    percepts : sequence of Percept
    amplitudes : mapping of hashable to ndarray of shape (n_layers, n_voxels), float32
        Amplitudes by the percepts' names.
    settings : SubjectSettings
        A subject with shuffled labels responds to other percepts of the same kind in the run.
    rng : numpy.random.Generator
    """
    gains = _gains(len(percepts), settings, rng)
    answered = _exchanged(percepts, rng) if settings.null == "shuffled-labels" else {}
    return [
        Response(p.onset_s, p.duration_s, p.imagined, p.strength * gain, amplitudes[answered.get(p.name, p.name)])
        for p, gain in zip(percepts, gains.tolist(), strict=True)
    ]


def _gains(n_trials: int, settings: SubjectSettings, rng: np.random.Generator) -> Float64Array:
    """Draw the amplitude of each trial relative to an ordinary one: 1 on average over trials without a lapse."""
    response = settings.response_in_force
    gains = rng.lognormal(-0.5 * response.trial_sd**2, response.trial_sd, n_trials)
    return np.asarray(gains * np.where(rng.random(n_trials) < response.lapse_share, response.lapse_gain, 1.0))


def _exchanged(percepts: Sequence[Percept], rng: np.random.Generator) -> dict[Hashable, Hashable]:
    """Map the names of each kind to these names in random order; repeats of a percept stay repeats of one."""
    mapping: dict[Hashable, Hashable] = {}
    for imagined in (False, True):
        names = list(dict.fromkeys(p.name for p in percepts if p.imagined == imagined))
        mapping.update((name, names[i]) for name, i in zip(names, rng.permutation(len(names)), strict=True))
    return mapping
