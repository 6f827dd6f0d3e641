"""Plan of a simulated subject: which categories it is trained and tested on, and the runs that show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.simulation.objects import object_categories
from calibration.simulation.schedule import (
    IMAGES_PER_RUN,
    TRIALS_PER_RUN,
    SimulatedRun,
    Stimulus,
    imagery_run,
    in_turn,
    perception_run,
)
from calibration.simulation.settings import SubjectSettings
from rtgod.errors import InputError


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Run of a data set.

    Attributes
    ----------
    session, task : str
    number : int
        Counts from 1 within the session.
    schedule : SimulatedRun
    """

    session: str
    task: str
    number: int
    schedule: SimulatedRun

    @property
    def stem(self) -> str:
        """Name of the run's files after the subject's."""
        return f"ses-{self.session}_task-{self.task}_run-{self.number:02d}"


class Plan:
    """Categories of a simulated subject by their use, and its runs.

    Parameters
    ----------
    settings : SubjectSettings

    Attributes
    ----------
    training, test, other : list of ObjectCategory

    Raises
    ------
    InputError
        If the training images do not fill runs.
    """

    def __init__(self, settings: SubjectSettings) -> None:
        self._settings = settings
        stimuli = settings.stimuli
        if stimuli.n_training_categories * stimuli.n_images_per_category % IMAGES_PER_RUN:
            raise InputError(
                f"{stimuli.n_training_categories} training categories × {stimuli.n_images_per_category} images do not "
                f"fill runs of {IMAGES_PER_RUN} images; choose numbers whose product is a multiple of {IMAGES_PER_RUN}"
            )
        n_shown = stimuli.n_training_categories + stimuli.n_test_categories
        categories = object_categories(stimuli.n_categories, settings.seed)
        self.training = categories[: stimuli.n_training_categories]
        self.test = categories[stimuli.n_training_categories : n_shown]
        self.other = categories[n_shown:]

    def runs(self, rng: np.random.Generator) -> list[PlannedRun]:
        """Plan all runs; with 50 training categories each training run shows one image of each.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the order within runs.
        """
        shown = [self._training_stimulus(c, e) for e in range(self._settings.stimuli.n_images_per_category)
                 for c in range(len(self.training))]  # fmt: skip
        training = [shown[start : start + IMAGES_PER_RUN] for start in range(0, len(shown), IMAGES_PER_RUN)]
        test = in_turn(self.test, self._settings.n_test_runs, IMAGES_PER_RUN)
        imagery = in_turn(self.test, self._settings.n_imagery_runs, TRIALS_PER_RUN)
        runs = [
            PlannedRun("perceptionTraining01", "perception", k, perception_run(s, rng))
            for k, s in enumerate(training, 1)
        ]
        for k, items in enumerate(test, 1):
            stimuli = [Stimulus(category, 0, index, index) for index, category in items]
            runs.append(PlannedRun("perceptionTest01", "perception", k, perception_run(stimuli, rng)))
        runs += [
            PlannedRun("imageryTest01", "imagery", k, imagery_run(items, rng)) for k, items in enumerate(imagery, 1)
        ]
        return runs

    def _training_stimulus(self, category: int, exemplar: int) -> Stimulus:
        image_index = category * self._settings.stimuli.n_images_per_category + exemplar + 1
        return Stimulus(self.training[category], exemplar, category + 1, image_index)
