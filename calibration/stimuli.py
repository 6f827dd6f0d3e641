"""What was shown and what can be ranked, as network features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.bids import find_candidates, find_images
from calibration.features import FeatureExtractor, category_means
from calibration.preparation import Report
from calibration.samples import RunSamples
from rtgod.errors import InputError
from rtgod.events import Trial
from rtgod.messages import Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Stimuli:
    """Features of the shown images and of the candidates.

    Attributes
    ----------
    rows : mapping of str to int
        Each shown image's row in `shown`.
    shown : mapping of str to ndarray of shape (n_images, n_units), float32
        Per layer.
    candidate_ids : tuple of str
    candidates : mapping of str to ndarray of shape (n_candidates, n_units), float32
        Mean over each category's images, per layer.
    """

    rows: Mapping[str, int]
    shown: Mapping[str, Float32Array]
    candidate_ids: tuple[str, ...]
    candidates: Mapping[str, Float32Array]

    def of(self, trials: Sequence[Trial]) -> dict[str, Float32Array]:
        """Features of the image that each trial showed: per layer, (n_trials, n_units)."""
        rows = [self.rows[trial.stimulus] for trial in trials if trial.stimulus]
        return {layer: values[rows] for layer, values in self.shown.items()}


class StimulusFiles:
    """The image files that a calibration needs.

    Parameters
    ----------
    images : Path
        Folder with the shown images.
    candidates : Path
        Folder with a folder of images for each candidate category.

    Raises
    ------
    InputError
        If there are none.
    """

    def __init__(self, images: Path, candidates: Path) -> None:
        self._images = find_images(images)
        self._candidates = find_candidates(candidates)

    def features(self, samples: Sequence[RunSamples], extractor: FeatureExtractor, report: Report) -> Stimuli:
        """Compute the features of all images that the samples' trials showed, and of the candidates.

        Raises
        ------
        InputError
            If a trial names no image, there is no such image, or it cannot be read.
        """
        shown = self._shown(samples)
        files = [*shown.values(), *(path for _, path in self._candidates)]
        done = 0

        def progress(n: int) -> None:
            nonlocal done
            done += n
            report("network features", done, len(files))

        everything = extractor.extract(files, progress)
        rest = {layer: values[len(shown) :] for layer, values in everything.items()}
        ids, means = category_means(rest, [category for category, _ in self._candidates])
        return Stimuli(
            rows={name: row for row, name in enumerate(shown)},
            shown={layer: values[: len(shown)] for layer, values in everything.items()},
            candidate_ids=tuple(ids),
            candidates=means,
        )

    def _shown(self, samples: Sequence[RunSamples]) -> dict[str, Path]:
        """The file of every image that was shown, each once."""
        shown: dict[str, Path] = {}
        for run in samples:
            for trial in run.trials:
                if trial.stimulus is None:
                    raise InputError(
                        f"run {run.run.run_id}: trials name no image; calibrate on runs in which images were shown"
                    )
                if trial.stimulus not in self._images:
                    raise InputError(
                        f"run {run.run.run_id} shows {trial.stimulus}, of which there is no image file; "
                        "give the folder of the shown images with --images"
                    )
                shown[trial.stimulus] = self._images[trial.stimulus]
        return shown
