"""Find the image of each trial: the file, or the row of a feature store, that a name in a table means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from calibration.features.images import find_images, first_few
from calibration.features.store import FeatureStore, is_store
from rtgod.errors import InputError
from rtgod.pictures.image_names import ImageIndex, is_same_image


@dataclass(frozen=True, slots=True)
class ShownImages:
    """Images that trials name, and their files or rows.

    Attributes
    ----------
    keys : mapping of str to list of str
        For each name that has an image: the paths of the files that it may mean, or one identifier in a store.
    missing : tuple of str
        Names that have no image.
    n_others : int
        Number of images that no trial names.
    """

    keys: Mapping[str, list[str]]
    missing: tuple[str, ...]
    n_others: int


Images = FeatureStore | Mapping[str, Sequence[Path]]


def open_images(source: Path) -> Images:
    """Find the images of a folder, or open the store of their features.

    Parameters
    ----------
    source : Path
        A folder, searched with its subfolders, or a store of features.
    """
    return FeatureStore(source) if is_store(source) else find_images(source)


def find_shown(names: Sequence[str], source: Path, images: Images | None = None) -> ShownImages:
    """Find the image of each name.

    Parameters
    ----------
    names : sequence of str
    source : Path
        A folder, or a store of features.
    images : FeatureStore or mapping of str to sequence of Path, optional
        Result of `open_images` for the source.

    Raises
    ------
    InputError
        If the source has no images, two names that mean two images match one file only, or a name matches several
        rows of a store.
    """
    images = open_images(source) if images is None else images
    if isinstance(images, FeatureStore):
        return _found_in_store(names, images)
    paths = [path for files in images.values() for path in files]
    # Folders above the source folder tell nothing about an image.
    index = ImageIndex((str(path), path.relative_to(source).as_posix()) for path in paths)
    return _checked(names, {name: index.find(name) for name in names}, len(paths))


def _found_in_store(names: Sequence[str], store: FeatureStore) -> ShownImages:
    ids = store.image_ids
    id_set = frozenset(ids)
    keys_of = {name: [name] if name in id_set else [] for name in names}
    if not all(keys_of.values()):
        index = ImageIndex(zip(ids, store.image_paths.tolist(), strict=True))
        keys_of = {name: keys or index.find(name) for name, keys in keys_of.items()}
    if several := [name for name, keys in keys_of.items() if len(keys) > 1]:
        raise InputError(
            f"{store.path}: {several[0]} may be any of {first_few(keys_of[several[0]], 3)}; name it in the events by "
            "its path below the images"
        )
    return _checked(names, keys_of, len(ids))


def _checked(names: Sequence[str], keys_of: Mapping[str, list[str]], n_images: int) -> ShownImages:
    by_key: dict[str, list[str]] = {}
    for name in names:
        for key in keys_of[name]:
            by_key.setdefault(key, []).append(name)
    for key, names_of_key in by_key.items():
        for a, b in combinations(names_of_key, 2):
            if not is_same_image(a, b):
                raise InputError(
                    f"the runs show {a} and {b}, and of both there is only {key}; give the folder with --images in "
                    "which each lies in its own folder"
                )
    missing = tuple(name for name in names if not keys_of[name])
    return ShownImages({name: keys for name, keys in keys_of.items() if keys}, missing, n_images - len(by_key))
