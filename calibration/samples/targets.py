"""Features that samples are trained on and compared with: of the images that trials showed, or of their categories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from calibration.datasets.bids import read_names
from calibration.datasets.dataset_files import DatasetFiles
from calibration.features.extractor import FeatureExtractor
from calibration.features.network import Network
from calibration.features.picture_files import PictureFiles
from calibration.features.stimuli import StimulusFiles
from calibration.parallel.progress import Report
from calibration.samples.plain import plain_stimuli
from calibration.samples.runs import CleanedRun
from calibration.samples.study import KINDS, CandidateFeatures
from rtgod.errors import InputError
from rtgod.events.table import Trial
from rtgod.messages import Float32Array

#: Returns features of the images or categories that trials showed or asked to imagine: per layer, (n_trials, n_units).
FeaturesOf = Callable[[Sequence[Trial]], Mapping[str, Float32Array]]


class Targets(NamedTuple):
    """Features to decode, and the candidates that they are compared with.

    Attributes
    ----------
    features_of : callable
        See `FeaturesOf`.
    candidates : CandidateFeatures
    notes : tuple of str
        Notes on images left out, and on conversions of images' pixels.
    """

    features_of: FeaturesOf
    candidates: CandidateFeatures
    notes: tuple[str, ...] = ()


def check_pictures(inputs: DatasetFiles) -> None:
    """Raise `InputError` if pictures are given and there are no features to compare them by.

    Parameters
    ----------
    inputs : DatasetFiles
    """
    if inputs.pictures is not None and inputs.are_plain:
        raise InputError(
            "--pictures: categories themselves are decoded here, and no features that pictures could be compared "
            "by; give --images and --candidates, or leave it out"
        )


class TargetFiles:
    """Images, or stores of their features, that targets are made from; without images, categories are the targets.

    They are opened before runs are worked through, and a network's weights loaded, so that problems are known early.

    Parameters
    ----------
    inputs : DatasetFiles
    network : Network or None
        Network whose features are decoded; without one, categories are decoded, each as a unit.

    Attributes
    ----------
    pictures : PictureFiles or None
        The user's own pictures; None if there are none.

    Raises
    ------
    InputError
        If images are missing, stores do not fit each other, or pictures are given and categories decoded.
    """

    def __init__(self, inputs: DatasetFiles, network: Network | None) -> None:
        self._names = read_names(inputs.names)
        self._files, self._extractor = None, None
        self.pictures = PictureFiles(inputs.pictures) if inputs.pictures is not None else None
        if network is not None and inputs.images is not None and inputs.candidates is not None:
            self._files = StimulusFiles(inputs.images, inputs.candidates)
            need_network = self._files.need_network or (self.pictures is not None and self.pictures.need_network)
            self._extractor = FeatureExtractor(network) if need_network else None
            self._files.check_alike(self._extractor, self.pictures)
        else:
            check_pictures(inputs)

    @property
    def are_plain(self) -> bool:
        """Whether categories themselves are decoded."""
        return self._files is None

    def picture_features(self, report: Report) -> Iterator[tuple[slice, Mapping[str, Float32Array]]]:
        """Give the features of the user's pictures; see `PictureFiles.features`.

        Parameters
        ----------
        report : callable
            Called with (stage, steps done, steps in all).
        """
        if self.pictures is not None:
            yield from self.pictures.features(self._extractor, report)

    def targets(self, runs: Sequence[CleanedRun], report: Report) -> Targets:
        """Make the targets of some runs' samples.

        A trial that asked to imagine a category has the mean features of the category's images.

        Parameters
        ----------
        runs : sequence of CleanedRun
        report : callable
            Called with (stage, steps done, steps in all).

        Raises
        ------
        InputError
            If a trial names no image, an image cannot be read, or there are fewer than two categories to decode.
        """
        if self._files is None:
            stimuli = plain_stimuli(run.trials[block].category for run in runs for block in run.sampled_blocks())
        else:
            shown = {
                run.run.run_id: [run.trials[block] for block in run.sampled_blocks()]
                for run in runs
                if run.sampled_blocks(KINDS["seen"])
            }
            stimuli = self._files.features(shown, self._extractor, report)

        def features_of(trials: Sequence[Trial]) -> dict[str, Float32Array]:
            if self._files is not None and all(trial.kind == KINDS["seen"] for trial in trials):
                return stimuli.of(trials)
            return stimuli.of_categories([trial.category for trial in trials])

        candidates = CandidateFeatures.with_names(stimuli.candidate_ids, stimuli.candidates, self._names)
        return Targets(features_of, candidates, stimuli.notes)
