"""Search for images by the names that tables give them: `n01_2`, `house/01.png`, `stimuli/house/01.png`.

BIDS's `stim_file` is a path below `stimuli`, other tables name a file without its ending, and the images lie in a
folder of the user's choice. A name matches a file if the shorter of their paths is the end of the longer:
`house/01.png` and `tool/01.png` are two images, and `01.png` without a folder may be either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from rtgod.text import composed

#: Endings of files that count as images.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


class ImageIndex:
    """Index that finds images by name.

    Parameters
    ----------
    images : iterable of tuple of str and str
        Key of each image, and its path or name.
    """

    def __init__(self, images: Iterable[tuple[str, str]]) -> None:
        self._by_stem: dict[str, list[tuple[str, tuple[str, ...], str]]] = {}
        for key, path in images:
            parts, suffix = _parts_of(path)
            self._by_stem.setdefault(parts[-1], []).append((key, parts, suffix))

    def find(self, name: str) -> list[str]:
        """Return the keys of the images whose paths agree best with a name; empty if none agrees.

        Parameters
        ----------
        name : str
            With or without folders and ending, and with either kind of slash.
        """
        parts, suffix = _parts_of(name)
        agreeing = []
        for key, image_parts, image_suffix in self._by_stem.get(parts[-1], ()):
            n = min(len(parts), len(image_parts))
            if parts[-n:] == image_parts[-n:]:
                agreeing.append(((n, bool(suffix) and suffix == image_suffix), key))
        best = max((rank for rank, _ in agreeing), default=None)
        return list(dict.fromkeys(key for rank, key in agreeing if rank == best))


def is_same_image(name: str, other: str) -> bool:
    """Return whether two names may mean the same image.

    Parameters
    ----------
    name, other : str
        As for `ImageIndex.find`.
    """
    return bool(ImageIndex([("", name)]).find(other))


def short_names(paths: Sequence[str]) -> list[str]:
    """Shorten paths of images to file names without ending; if not unique, to paths without ending, or not at all.

    Parameters
    ----------
    paths : sequence of str
        With "/" after folders, each different; the names are in the same order.
    """
    stems = [PurePosixPath(path).stem for path in paths]
    n_stems = Counter(stems)
    names = [
        stem if n_stems[stem] == 1 else path.removesuffix(PurePosixPath(path).suffix)
        for stem, path in zip(stems, paths, strict=True)
    ]
    n_names = Counter(names)
    return [name if n_names[name] == 1 else path for name, path in zip(names, paths, strict=True)]


def _parts_of(name: str) -> tuple[tuple[str, ...], str]:
    """Split a name into folders and file name, and the ending if it is that of an image."""
    parts = [part for part in composed(name).replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return ("",), ""
    suffix = next((ending for ending in IMAGE_SUFFIXES if parts[-1].lower().endswith(ending)), "")
    if suffix and len(parts[-1]) > len(suffix):
        parts[-1] = parts[-1][: -len(suffix)]
    return tuple(parts), suffix
