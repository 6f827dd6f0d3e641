"""Network features of shown images and of candidates, computed from image files or read from stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path

import numpy as np

from calibration.features.extractor import FeatureExtractor, category_means
from calibration.features.images import ImageList, first_few, list_categories
from calibration.features.picture_files import PictureFiles
from calibration.features.shown_images import ShownImages, find_shown, open_images
from calibration.features.store import FeatureStore, is_store
from calibration.parallel.progress import Report
from rtgod.errors import InputError
from rtgod.events.table import Trial
from rtgod.messages import Float32Array
from rtgod.pictures.pixels import told


@dataclass(frozen=True, slots=True, eq=False)
class Stimuli:
    """Features of the shown images and of the candidates.

    Attributes
    ----------
    rows : mapping of str to int
        Each shown image's row in `shown`.
    shown : mapping of str to ndarray of shape (n_images, n_units), float32
        Features per layer.
    candidate_ids : tuple of str
    candidates : mapping of str to ndarray of shape (n_candidates, n_units), float32
        Mean over each category's images, per layer.
    notes : tuple of str
        Notes on images left out, and on conversions of images' pixels.
    """

    rows: Mapping[str, int]
    shown: Mapping[str, Float32Array]
    candidate_ids: tuple[str, ...]
    candidates: Mapping[str, Float32Array]
    notes: tuple[str, ...] = ()

    def of(self, trials: Sequence[Trial]) -> dict[str, Float32Array]:
        """Return features of each trial's image, or the mean over a block's images: per layer, (n_trials, n_units).

        Parameters
        ----------
        trials : sequence of Trial
            Each names at least one image.
        """
        if not any(trial.stimuli for trial in trials):
            return self.of_images([trial.stimulus for trial in trials])
        blocks = [self.of_images(trial.images) for trial in trials]
        return {layer: np.stack([block[layer].mean(axis=0) for block in blocks]) for layer in self.shown}

    def of_images(self, names: Sequence[str | None]) -> dict[str, Float32Array]:
        """Return features of images by their names: per layer, (n_names, n_units).

        Parameters
        ----------
        names : sequence of str or None
            Keys of `rows`, which may repeat; None counts as an image without features.

        Raises
        ------
        InputError
            If some images have no features.
        """
        if absent := list(dict.fromkeys(str(name) for name in names if name not in self.rows)):
            raise InputError(
                f"no features of images {first_few(absent)}; samples and features are of different studies"
            )
        rows = [self.rows[name] for name in names if name is not None]
        return {layer: values[rows] for layer, values in self.shown.items()}

    def of_categories(self, ids: Sequence[str]) -> dict[str, Float32Array]:
        """Return mean features of categories by their ids: per layer, (n_ids, n_units).

        Parameters
        ----------
        ids : sequence of str
            Members of `candidate_ids`, which may repeat.

        Raises
        ------
        InputError
            If some are not candidates.
        """
        position = {category: row for row, category in enumerate(self.candidate_ids)}
        if absent := list(dict.fromkeys(category for category in ids if category not in position)):
            raise InputError(
                f"no features of categories {first_few(absent)}; they cannot be ranked: add them to the candidates"
            )
        rows = [position[category] for category in ids]
        return {layer: values[rows] for layer, values in self.candidates.items()}


class StimulusFiles:
    """Images that a calibration needs, or stores of their features.

    Parameters
    ----------
    images : Path
        Folder with the shown images, or a store of their features.
    candidates : Path
        Folder with a folder of images for each candidate category, or a store with categories.

    Raises
    ------
    InputError
        If images are missing, or two stores' features differ in more than their images.
    """

    def __init__(self, images: Path, candidates: Path) -> None:
        self._source, self._images = images, open_images(images)
        ranked = FeatureStore(candidates) if is_store(candidates) else list_categories(candidates)
        self._stores = [source for source in (self._images, ranked) if isinstance(source, FeatureStore)]
        for store in self._stores:
            store.check_finished()
            store.check_network(self._stores[0].network)
        # Read at once, so that problems are known before runs are processed.
        self._candidates = ranked.means() if isinstance(ranked, FeatureStore) else ranked

    @property
    def need_network(self) -> bool:
        """Return whether any features must be computed; False if both images and candidates are stores."""
        return len(self._stores) < 2

    def check_alike(self, extractor: FeatureExtractor | None, pictures: PictureFiles | None) -> None:
        """Raise InputError if features of the user's pictures would be of another network.

        Parameters
        ----------
        extractor : FeatureExtractor or None
            Computes the features that no store has.
        pictures : PictureFiles or None
        """
        if pictures is None:
            return
        for store in self._stores:
            if extractor is not None:
                store.check_network(extractor.network)
            pictures.check_network(store.network)
        if extractor is not None and not pictures.need_network:
            pictures.check_network(extractor.network)

    def features(
        self, trials: Mapping[str, Sequence[Trial]], extractor: FeatureExtractor | None, report: Report
    ) -> Stimuli:
        """Return features of all images that trials showed, and of the candidates.

        Parameters
        ----------
        trials : mapping of str to sequence of Trial
            Trials of each run, by the run's name.
        extractor : FeatureExtractor or None
            Computes the features that no store has.
        report : callable
            Called with (stage, steps done, steps in all).

        Raises
        ------
        InputError
            If a trial names no image, its image does not exist or cannot be read, a store is damaged, or a store was
            made with another network than the extractor's.
        """
        names = _shown(trials)
        shown = find_shown(names, self._source, self._images)
        if shown.missing and not isinstance(self._images, FeatureStore):
            raise InputError(
                f"the runs show {first_few(shown.missing)}, of which there is no image file; give the folder of the "
                "shown images with --images"
            )
        files = [] if isinstance(self._images, FeatureStore) else _files_of(names, shown)
        candidate_files = self._candidates.files if isinstance(self._candidates, ImageList) else []
        computed = self._compute([*files, *candidate_files], extractor, report)
        if isinstance(self._images, FeatureStore):
            of_shown = self._images.features_of([shown.keys.get(name, [name])[0] for name in names])
        else:
            of_shown = {layer: values[: len(files)] for layer, values in computed.items()}
        if isinstance(self._candidates, ImageList):
            of_candidates = {layer: values[len(files) :] for layer, values in computed.items()}
            ids, means = category_means(of_candidates, self._candidates.categories)
        else:
            ids, means = self._candidates
        notes = self._notes(extractor, len(files) + len(candidate_files))
        return Stimuli({name: row for row, name in enumerate(names)}, of_shown, tuple(ids), means, notes)

    def _notes(self, extractor: FeatureExtractor | None, n_read: int) -> tuple[str, ...]:
        notes = [f"candidates: {note}" for note in getattr(self._candidates, "notes", ())]
        if extractor is not None:
            notes += told(((path.name, changes) for path, changes in sorted(extractor.changes.items())), n_read)
        for store in self._stores:
            notes += [f"{store.path.name}: {line}" for line in told(store.changes(), store.n_images)]
        return tuple(notes)

    def _compute(
        self, files: Sequence[Path], extractor: FeatureExtractor | None, report: Report
    ) -> dict[str, Float32Array]:
        if extractor is None or not files:
            return {}
        for store in self._stores:
            store.check_network(extractor.network)
        done = 0

        def progress(n: int) -> None:
            nonlocal done
            done += n
            report("network features", done, len(files))

        return extractor.extract(files, progress)


def _shown(trials: Mapping[str, Sequence[Trial]]) -> list[str]:
    """List every shown image, each once."""
    for run_id, of_run in trials.items():
        if any(not trial.images for trial in of_run):
            raise InputError(f"run {run_id}: trials name no image; calibrate on runs in which images were shown")
    return list(dict.fromkeys(name for of_run in trials.values() for trial in of_run for name in trial.images))


def _files_of(names: Sequence[str], shown: ShownImages) -> list[Path]:
    """Return the file of each shown image; several files count as one if they are copies."""
    for name in names:
        first, *others = shown.keys[name]
        if different := [path for path in others if not cmp(first, path, shallow=False)]:
            raise InputError(
                f"the runs show {name}, and there are different images of that name: {first}, {different[0]}; give a "
                "folder with --images in which there is one, or name them in stim_file by their paths below it"
            )
    return [Path(shown.keys[name][0]) for name in names]


def pictures_of(candidates: Path | None) -> dict[str, Path]:
    """Return the first image of each candidate category; empty if candidates are a store or None.

    Parameters
    ----------
    candidates : Path or None
        A folder or table as for `calibration.features.images.list_categories`, or a store.
    """
    if candidates is None or is_store(candidates):
        return {}
    images = list_categories(candidates)
    return dict(reversed(list(zip(images.categories, images.files, strict=True))))
