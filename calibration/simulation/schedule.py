"""Schedule of the simulated subject's seeing and imagery: the timing and tables of Horikawa & Kamitani (2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from calibration.simulation.objects import ObjectCategory

TR_S = 3.0
REST_S, END_S = 33, 6
IMAGES_PER_RUN, REPEATS_PER_RUN, BLOCK_S = 50, 5, 9
TRIALS_PER_RUN, CUE_S, IMAGERY_S, RATING_S, PAUSE_S = 25, 3, 15, 3, 3
#: Shares of the ratings 2 to 5 given by subject 1 of the data set.
_RATING_SHARES = (0.02, 0.12, 0.47, 0.39)

PERCEPTION_COLUMNS = (
    "onset", "duration", "trial_no", "event_type", "stimulus_id", "stimulus_name", "category_index", "image_index",
    "response_time",
)  # fmt: skip
IMAGERY_COLUMNS = (
    "onset", "duration", "trial_no", "event_type", "category_id", "category_name", "category_index", "response_time",
    "evaluation",
)  # fmt: skip
EventRow = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stimulus:
    """Image that is shown.

    Attributes
    ----------
    category : ObjectCategory
    exemplar : int
    category_index, image_index : int
        Numbers from 1 within the training or the test set.
    """

    category: ObjectCategory
    exemplar: int
    category_index: int
    image_index: int

    @property
    def name(self) -> str:
        """Category and exemplar, as in the event tables."""
        return f"{self.category.category_id}_{self.exemplar}"


@dataclass(frozen=True, slots=True)
class SimulatedTrial:
    """Trial of the schedule: seeing an image, or imagining a category (`stimulus` is then None)."""

    onset_s: float
    duration_s: float
    category: ObjectCategory
    stimulus: Stimulus | None
    strength: float


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """Schedule of one run.

    Attributes
    ----------
    n_volumes : int
    trials : tuple of SimulatedTrial
    columns : tuple of str
        Column names of the event table.
    rows : tuple of tuple of str
        Rows of the event table.
    """

    n_volumes: int
    trials: tuple[SimulatedTrial, ...]
    columns: EventRow
    rows: tuple[EventRow, ...]


def perception_run(stimuli: Sequence[Stimulus], rng: np.random.Generator) -> SimulatedRun:
    """Schedule 50 images in random order, five of them twice in a row for the one-back task: 178 volumes.

    Parameters
    ----------
    stimuli : sequence of Stimulus
    rng : numpy.random.Generator
        Draws the order, the repeats and the key presses.
    """
    order = rng.permutation(len(stimuli))
    repeated = set(rng.choice(len(stimuli), REPEATS_PER_RUN, replace=False).tolist())
    shown = [stimuli[i] for position, i in enumerate(order) for _ in range(2 if position in repeated else 1)]
    rows: list[EventRow] = [_rest(0, REST_S, 1, len(PERCEPTION_COLUMNS))]
    trials = []
    for number, stimulus in enumerate(shown):
        onset = REST_S + number * BLOCK_S
        repeat = number > 0 and shown[number - 1] == stimulus
        pressed = f"{onset + rng.gamma(9.0, 0.08):.6f}" if repeat and rng.random() < 0.95 else "n/a"
        category_number = int(stimulus.category.category_id[1:])
        rows.append(
            (
                str(onset), str(BLOCK_S), str(number + 2), "stimulus", f"{category_number}.{stimulus.exemplar:06d}",
                stimulus.name, str(stimulus.category_index), str(stimulus.image_index), pressed,
            )
        )  # fmt: skip
        trials.append(SimulatedTrial(onset, BLOCK_S, stimulus.category, stimulus, 1.0))
    end = REST_S + len(shown) * BLOCK_S
    rows.append(_rest(end, END_S, len(shown) + 2, len(PERCEPTION_COLUMNS)))
    return SimulatedRun(round((end + END_S) / TR_S), tuple(trials), PERCEPTION_COLUMNS, tuple(rows))


def imagery_run(categories: Sequence[tuple[int, ObjectCategory]], rng: np.random.Generator) -> SimulatedRun:
    """Schedule cue and imagery of 25 categories, each with a vividness rating that sets its strength: 213 volumes.

    Parameters
    ----------
    categories : sequence of (category_index, ObjectCategory)
    rng : numpy.random.Generator
        Draws the order, the ratings and the times of key presses.
    """
    order = [categories[i] for i in rng.permutation(len(categories))]
    rows: list[EventRow] = [_rest(0, REST_S, 1, len(IMAGERY_COLUMNS))]
    trials = []
    onset = REST_S
    for number, (category_index, category) in enumerate(order):
        rating = int(rng.choice((2, 3, 4, 5), p=_RATING_SHARES))
        category_number = int(category.category_id[1:])
        pressed = onset + CUE_S + IMAGERY_S + min(rng.gamma(4.0, 0.3), RATING_S)
        labels = (str(category_number), category.category_id, str(category_index), f"{pressed:.6f}", f"{rating:.1f}")
        start = onset
        for event, duration in (
            ("cue", CUE_S),
            ("imagery", IMAGERY_S),
            ("evaluation", RATING_S),
            ("inter_rest", PAUSE_S),
        ):
            rows.append((str(start), str(duration), str(number + 2), event, *labels))
            start += duration
        trials.append(SimulatedTrial(onset + CUE_S, IMAGERY_S, category, None, rating / 4))
        onset = start
    rows.append(_rest(onset, END_S, len(order) + 2, len(IMAGERY_COLUMNS)))
    return SimulatedRun(round((onset + END_S) / TR_S), tuple(trials), IMAGERY_COLUMNS, tuple(rows))


def in_turn(items: Sequence[ObjectCategory], n_runs: int, per_run: int) -> list[list[tuple[int, ObjectCategory]]]:
    """Deal categories, with their index from 1, to runs; none comes again before all have had their turn.

    Parameters
    ----------
    items : sequence of ObjectCategory
    n_runs : int
    per_run : int
        Number of categories that each run gets.
    """
    endless = cycle(list(enumerate(items, start=1)))
    return [list(islice(endless, per_run)) for _ in range(n_runs)]


def _rest(onset: int, duration: int, number: int, n_columns: int) -> EventRow:
    return (str(onset), str(duration), str(number), "rest", *["n/a"] * (n_columns - 4))
