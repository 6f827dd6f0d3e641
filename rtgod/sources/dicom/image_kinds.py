"""Which images are magnitudes: those of phase, real and imaginary parts are told by rule, live and replayed alike.

ImageType says so for Siemens and Philips, ComplexImageComponent (0008,9208) in enhanced files and newer ones, and a
private element for GE, whose ImageType is the same for all four (0043,102F, GEMS_PARM_01: 0 magnitude, 1 phase, 2 real,
3 imaginary).
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from rtgod.sources.dicom.fields import image_type, integer_of, text_of

_PHASE, _REAL, _IMAGINARY = "phase images", "real images", "imaginary images"
#: Words of ImageType and of FrameType.
_WORDS = {
    "P": _PHASE, "PHASE": _PHASE, "PHASE MAP": _PHASE,
    "R": _REAL, "REAL": _REAL,
    "I": _IMAGINARY, "IMAGINARY": _IMAGINARY,
}  # fmt: skip
#: Values of ComplexImageComponent; MIXED files say it of each frame.
_COMPONENTS = {"": "", "MAGNITUDE": "", "MIXED": "", "PHASE": _PHASE, "REAL": _REAL, "IMAGINARY": _IMAGINARY}
_GE_GROUP, _GE_CREATOR, _GE_ELEMENT = 0x0043, "GEMS_PARM_01", 0x2F
_GE_KINDS = {1: _PHASE, 2: _REAL, 3: _IMAGINARY}
#: Blocks that a maker's private elements may lie in.
_BLOCKS = range(0x10, 0x14)
#: Elements that are read besides ImageType, as 0xGGGGEEEE.
TAGS: tuple[int, ...] = (
    Tag("ComplexImageComponent"),
    *((_GE_GROUP << 16) + block for block in _BLOCKS),
    *((_GE_GROUP << 16) + (block << 8) + _GE_ELEMENT for block in _BLOCKS),
)


def no_magnitude(header: Dataset) -> str:
    """Say what a file's images are, if it says that they are no magnitudes; empty otherwise.

    Parameters
    ----------
    header : Dataset
        With ImageType and the elements of `TAGS`.
    """
    return kind_of(image_type(header), text_of(header, "ComplexImageComponent")) or _GE_KINDS.get(_of_ge(header), "")


def kind_of(words: Iterable[str], component: str) -> str:
    """Say what images are that are no magnitudes; empty for magnitudes.

    Parameters
    ----------
    words : iterable of str
        Those of ImageType or FrameType.
    component : str
        ComplexImageComponent; empty without one.
    """
    named = (_WORDS[word] for one in words if (word := str(one).upper()) in _WORDS)
    return _COMPONENTS.get(component.upper(), "no magnitude images") or next(named, "")


def _of_ge(header: Dataset) -> int:
    """Return GE's number of the kind of image; 0, as of magnitudes, without one."""
    try:
        value = header.private_block(_GE_GROUP, _GE_CREATOR)[_GE_ELEMENT].value
    except KeyError:
        return 0
    return integer_of(int.from_bytes(value, "little") if isinstance(value, bytes) else value) or 0
