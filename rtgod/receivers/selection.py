"""Which files of a scanner belong to a functional run, by rule: what is left out has a reason."""

from __future__ import annotations

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from rtgod.sources.dicom.fields import image_type
from rtgod.sources.dicom.image_kinds import no_magnitude
from rtgod.sources.echoes import Combine, Echo

#: Elements that the rules read: ScanningSequence, EchoPlanarPulseSequence, SeriesDescription, EchoNumbers.
TAGS = (Tag(0x00180020), Tag(0x00189018), Tag(0x0008103E), Tag(0x00180086))
_MR = "1.2.840.10008.5.1.4.1.1.4"
#: Words of ImageType that say what a series is, with what people call it.
_KINDS = {
    "LOCALIZER": "a localizer",
    "DERIVED": "derived images",
    "PROJECTION IMAGE": "a projection",
}
#: ImageType of images that the scanner has corrected for motion.
_CORRECTED = frozenset({"MOCO"})


def why_left_out(header: FileDataset, *, corrected: bool = False, echo: Echo = 0) -> str:
    """Say why a file belongs to no functional run; empty if it does.

    Parameters
    ----------
    header : FileDataset
        With the elements of `TAGS`, and those that formats read.
    corrected : bool
        Whether images that the scanner has corrected for motion are taken, in place of those as acquired.
    echo : int or Combine
        Echo that is taken, from 1, of those with numbers, where 0 takes the first; or all, combined.
    """
    if not str(header.get("SOPClassUID", _MR)).startswith(_MR):
        return "no MR images"
    words = {str(word).upper() for word in image_type(header)}
    for word, kind in _KINDS.items():
        if word in words:
            return kind
    if kind := no_magnitude(header):
        return kind
    if any("PHYSIO" in word for word in words):
        return "a physiological log"
    # The description is compared, and never told.
    if str(header.get("SeriesDescription", "")).lower().rstrip("_").endswith("sbref"):
        return "a single-band reference"
    sequence = header.get("ScanningSequence")
    kinds = {sequence} if isinstance(sequence, str) else set(sequence or ())
    # Philips calls echo-planar images gradient echoes.
    says_planar = kinds and not str(header.get("Manufacturer", "")).upper().startswith("PHILIPS")
    if (says_planar and "EP" not in kinds) or header.get("EchoPlanarPulseSequence") == "NO":
        return "no echo-planar images"
    number = str(header.get("EchoNumbers", "")).strip()
    if not isinstance(echo, Combine) and number.isdecimal() and int(number) != (echo or 1):
        return f"echo {number}, and echo {echo or 1} is taken (--echo)"
    is_corrected = bool(words & _CORRECTED)
    if is_corrected and not corrected:
        return "images that the scanner corrected for motion (--corrected takes them)"
    if corrected and not is_corrected:
        return "images as acquired, and --corrected takes the others"
    return ""
