"""Pixels of image files for both the network and the participant: red, green and blue of 8 bits each.

Files of other kinds are converted, and each conversion is named, so that it can be counted and reported; a file whose
conversion would be ambiguous is refused. Ordinary pictures (8 bits a channel, upright, opaque) are given as they are
stored.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rtgod.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Grey of the display, which shows through transparent parts of an image.
BACKGROUND = "#3c3c3c"
#: Endings of image files that a search of folders leaves out.
OTHER_ENDINGS = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".jpe", ".svg", ".eps", ".psd", ".ppm", ".pgm", ".tga", ".dng"}
)
#: Transpositions of Pillow that undo each value of EXIF's orientation.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
#: Least brightness, of 255, of the brightest pixel of a picture of 16 bits; a darker one was stored with fewer bits.
_DARKEST_WHITE = 16


class Change(StrEnum):
    """A conversion that changes how an image looks, in words that follow "2 of 5 images:"."""

    REDUCED = "16 bits a channel, of which the higher 8 are taken"
    TURNED = "turned, as their EXIF orientation says"
    LAID_ON_GREY = f"transparent parts, which show the display's grey ({BACKGROUND})"
    FIRST_FRAME = "several frames or pages, of which the first is taken"
    FROM_CMYK = "CMYK, converted without a colour profile"
    PROFILE_IGNORED = "a colour profile other than sRGB, which is not applied: their numbers are taken as sRGB's"


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPicture:
    """Pixels of an image file, and the conversions that gave them.

    Attributes
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        Red, green, blue; the first row is the top.
    changes : tuple of Change
    """

    pixels: npt.NDArray[np.uint8]
    changes: tuple[Change, ...] = ()


def read_picture(path: str | os.PathLike[str]) -> DecodedPicture:
    """Read an image file.

    Parameters
    ----------
    path : path-like
        Image file of any format that Pillow reads.

    Raises
    ------
    InputError
        If the file cannot be read to its end, or the value that stands for white is not known.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _decoded(image)
    except InputError as error:
        raise InputError(f"image {path}: {error}") from error
    except Exception as error:  # Pillow's readers meet damage in as many ways as there are formats
        reason = str(error) or type(error).__name__
        raise InputError(f"image {path}: cannot be read ({reason}); replace or remove it") from error


def is_image(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins like an image; its pixels are not read.

    Parameters
    ----------
    path : path-like
    """
    from PIL import Image

    try:
        with Image.open(path):
            return True
    except Exception:  # noqa: BLE001 # as in `read_picture`
        return False


def left_out(n_files: Mapping[str, int]) -> list[str]:
    """Write a line about image files that a search of folders leaves out; return an empty list without such files.

    Parameters
    ----------
    n_files : mapping of str to int
        Number of files with each ending of `OTHER_ENDINGS`.
    """
    if not (n := sum(n_files.values())):
        return []
    return [f"files: {n} of a kind that is not looked for ({', '.join(sorted(n_files))}), left out: save as PNG"]


def told(changes: Iterable[tuple[str, Iterable[str]]], n_images: int) -> list[str]:
    """Write lines that count the conversions of images and name some of the images.

    Parameters
    ----------
    changes : iterable of (str, iterable of str)
        Name of each image, and its changes.
    n_images : int
        Number of all images.

    Returns
    -------
    list of str
        A line for each kind of change, in the order of `Change`.
    """
    by_change: dict[str, list[str]] = {}
    for name, kinds in changes:
        for kind in kinds:
            by_change.setdefault(kind, []).append(name)
    return [
        f"{len(names)} of {n_images} images: {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for kind in (*Change, *sorted(set(by_change) - set(Change)))
        if (names := by_change.get(kind))
    ]


def _decoded(image: Image) -> DecodedPicture:
    changes: list[Change] = []
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
        changes.append(Change.FIRST_FRAME)
    n_bits = _bits(image)
    orientation = _orientation(image)
    image.load()
    if image.mode in ("I", "F"):
        kind = "floating-point numbers" if image.mode == "F" else "whole numbers of more than 16 bits, or with a sign"
        raise InputError(f"its pixels are {kind}, and how bright is white? Save it with 8 bits a channel")
    if n_bits > 8:
        changes.append(Change.REDUCED)
        image = _reduced(image, n_bits)
    if orientation in _UPRIGHT:
        changes.append(Change.TURNED)
        # Pillow turns a TIFF by itself when it loads it, and then drops the orientation tag.
        if _orientation(image) == orientation:
            image = image.transpose(_transposition(_UPRIGHT[orientation]))
    if image.mode in ("CMYK", "YCCK"):
        changes.append(Change.FROM_CMYK)
    elif _has_foreign_profile(image):
        changes.append(Change.PROFILE_IGNORED)
    if image.has_transparency_data:
        image, is_laid = _laid_on_grey(image)
        changes += [Change.LAID_ON_GREY] if is_laid else []
    pixels = np.asarray(image.convert("RGB"))
    if n_bits > 8 and 0 < (brightest := int(pixels.max())) < _DARKEST_WHITE:
        raise _too_dark(n_bits, brightest / 255)
    order = list(Change)
    return DecodedPicture(pixels, tuple(sorted(changes, key=order.index)))


def _bits(image: Image) -> int:
    """Return the bits of a channel of an image that is not loaded yet; 8 or less count as 8."""
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined] # a TIFF has them
        return max(8, *tags.get(_TIFF_BITS, (1,)))
    if image.mode.startswith("I;16"):
        return 16
    # The decoder's arguments tell; of coloured images Pillow keeps only the higher byte of each channel.
    arguments = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    return 16 if ";16" in arguments else 8


def _reduced(image: Image, n_bits: int) -> Image:
    """Reduce an image to 8 bits a channel; Pillow has reduced coloured ones already."""
    from PIL import Image as PillowImage

    if "transparency" in image.info:
        raise InputError(
            "one colour of 16 bits a channel is transparent, and Pillow cannot tell which pixels have it; "
            "save it with 8 bits a channel"
        )
    if not image.mode.startswith("I;16"):
        return image
    grey: npt.NDArray[np.integer[Any]] = np.asarray(image).astype(np.uint16)
    if (brightest := int(grey.max())) and brightest >> (n_bits - 8) == 0:
        raise _too_dark(n_bits, brightest / (2**n_bits - 1))
    grey = grey >> (n_bits - 8)
    if image.format == "TIFF" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        grey = 255 - grey  # 0 is white; Pillow inverts only images of 8 bits
    reduced = PillowImage.fromarray(grey.astype(np.uint8))
    reduced.info = dict(image.info)
    return reduced


def _too_dark(n_bits: int, share: float) -> InputError:
    return InputError(
        f"{n_bits} bits a channel, and its brightest pixel is {100 * share:.2g} % of white: these are numbers of fewer "
        "bits, and how bright is white? Save it with 8 bits a channel"
    )


def _orientation(image: Image) -> int:
    """Return the EXIF orientation of an image; 1, upright, if it has none or it cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 # damaged EXIF data; the picture beside them is whole
        return 1


def _transposition(name: str) -> Any:
    from PIL import Image

    return Image.Transpose[name]


def _has_foreign_profile(image: Image) -> bool:
    """Return whether the image has a colour profile other than sRGB."""
    if not (profile := image.info.get("icc_profile")):
        return False
    try:
        from PIL import ImageCms

        described = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except Exception:  # noqa: BLE001 # Pillow without colour management, or a damaged profile
        return True
    return "srgb" not in described.casefold()


def _laid_on_grey(image: Image) -> tuple[Image, bool]:
    """Lay an image on the display's grey; return the opaque image, and whether any pixel was transparent."""
    from PIL import Image as PillowImage

    layered = image.convert("RGBA")
    if np.asarray(layered)[..., 3].min() == 255:
        return layered, False
    return PillowImage.alpha_composite(PillowImage.new("RGBA", layered.size, BACKGROUND), layered), True
