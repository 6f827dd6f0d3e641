"""The user's own pictures, among which the nearest are shown: image files, or a store of their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from calibration.features.extractor import FeatureExtractor
from calibration.features.images import first_few, list_images
from calibration.features.network import Network
from calibration.features.store import FeatureStore, is_store
from calibration.parallel.progress import Report
from rtgod.errors import InputError
from rtgod.messages import Float32Array
from rtgod.text import composed, number_of

#: Pictures whose features are in memory at a time.
PIECE = 4096


class PictureFiles:
    """Pictures, opened before runs are worked through, so that problems are known early.

    Parameters
    ----------
    source : Path
        A folder or table as for `calibration.features.images.list_images`, or a store of features.

    Attributes
    ----------
    names : tuple of str
        Path of each picture below its folder.
    notes : tuple of str
        Notes on files and pictures that are left out.

    Raises
    ------
    InputError
        If there are no pictures, or a store is not finished.
    """

    def __init__(self, source: Path) -> None:
        self._source, self._store = source, None
        if is_store(source):
            self._store = FeatureStore(source)
            self._store.check_finished()
            problems = self._store.problems
            self._ids = [name for name, problem in zip(self._store.image_ids, problems, strict=True) if not problem]
            paths = self._store.image_paths[problems == ""].tolist()
            unreadable = self._store.image_paths[problems != ""].tolist()
            notes = [f"{number_of(len(unreadable), 'picture')} that could not be read: {first_few(unreadable)}"]
            self.notes: tuple[str, ...] = tuple(notes if unreadable else ())
            if not paths:
                raise InputError(f"{source}: none of its pictures could be read; give another --pictures")
        else:
            images = list_images(source)
            self._files = images.files
            paths, self.notes = list(images.paths), images.notes
        self.names = tuple(composed(path) for path in paths)

    @property
    def need_network(self) -> bool:
        """Whether features must be computed."""
        return self._store is None

    def check_network(self, network: Network) -> None:
        """Raise InputError if a store of the pictures was made with another network.

        Parameters
        ----------
        network : Network
            The network that the decoder's features are of.
        """
        if self._store is not None:
            self._store.check_network(network)

    def features(
        self, extractor: FeatureExtractor | None, report: Report
    ) -> Iterator[tuple[slice, Mapping[str, Float32Array]]]:
        """Give the features of some pictures after the other.

        Parameters
        ----------
        extractor : FeatureExtractor or None
            Computes features that no store has.
        report : callable
            Called with (stage, steps done, steps in all).

        Yields
        ------
        rows : slice
            Positions of the pictures in `names`.
        features : mapping of str to ndarray of shape (n_rows, n_units), float32
            Their features, per layer.

        Raises
        ------
        InputError
            If a picture cannot be read, or the store is damaged.
        """
        n = len(self.names)
        for start in range(0, n, PIECE):
            rows = slice(start, min(start + PIECE, n))
            if self._store is not None:
                yield rows, self._store.features_of(self._ids[rows])
            elif extractor is not None:
                yield rows, extractor.extract(self._files[rows], lambda _: None)
            else:
                raise AssertionError("pictures without a store need a network")
            report("pictures", rows.stop, n)
