"""Facts on a scan out of one file's header: nothing that names a person, a study, a place or a time.

Free text is shown only if it reads as what it should be: a version, a model, a coil. Everything else is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from rtgod.sources.dicom.fields import integer_of, maker_of
from rtgod.sources.dicom.siemens_mosaic import CSA_TAGS, read_csa


@dataclass(frozen=True, slots=True)
class PrivateElement:
    """An element of a vendor.

    Attributes
    ----------
    group : int
    creator : str
        Name of its block.
    element : int
        Its place in the block.
    """

    group: int
    creator: str
    element: int

    def tags(self) -> list[int]:
        """List the elements to read, wherever the block begins."""
        blocks = range(0x10, 0x14)
        creators = [(self.group << 16) + block for block in blocks]
        return creators + [(self.group << 16) + (block << 8) + self.element for block in blocks]

    def of(self, dataset: Dataset) -> object:
        """Return its value; None without one.

        Parameters
        ----------
        dataset : Dataset
        """
        try:
            return dataset.private_block(self.group, self.creator)[self.element].value
        except KeyError:
            return None


_GE_SEQUENCE = PrivateElement(0x0019, "GEMS_ACQU_01", 0x9C)
#: Seconds from the start of a run to a slice.
GE_SLICE_S = PrivateElement(0x0021, "GEMS_RELA_01", 0x5E)
_GE_TABLE = PrivateElement(0x0043, "GEMS_PARM_01", 0xB2)
_GE_BANDS = PrivateElement(0x0043, "GEMS_PARM_01", 0xB6)
_PHILIPS_SEQUENCE = PrivateElement(0x2001, "Philips Imaging DD 001", 0x20)
_XA_FRAME = PrivateElement(0x0021, "SIEMENS MR SDI 02", 0xFE)
_XA_COIL = PrivateElement(0x0021, "SIEMENS MR SDI 02", 0x4F)
_XA_TABLE = PrivateElement(0x0021, "SIEMENS MR SDI 02", 0x45)
_PRIVATE = (_GE_SEQUENCE, GE_SLICE_S, _GE_TABLE, _GE_BANDS, _PHILIPS_SEQUENCE)

#: Elements that are read here, as 0xGGGGEEEE.
TAGS: tuple[int, ...] = (
    *(
        int(Tag(keyword))
        for keyword in (
            "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "MagneticFieldStrength", "SequenceName",
            "PulseSequenceName", "ReceiveCoilName", "TablePosition", "EchoTime", "RepetitionTime",
            "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        )
    ),
    *CSA_TAGS,
    *(tag for private in _PRIVATE for tag in private.tags()),
)  # fmt: skip

#: Versions of software as vendors write them: Siemens, GE, Philips, others.
_VERSION = re.compile(r"syngo MR [A-Z]?\w{2,8}\b|\b[A-Z]{2}\d{2}\.\d\w*|\b\d+(?:\.\d+)+\b|\b[A-Z]{1,2}\d{2}\w?\b")
#: Names of models: words of letters and digits.
_MODEL = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[ _][A-Za-z0-9.]{1,12}){0,3}")
#: One word that speaks of echo-planar imaging.
_SEQUENCE = re.compile(r"\*?(?=\w*ep)[a-z0-9_]{2,24}", re.IGNORECASE)
_COIL = re.compile(r"[A-Za-z0-9][\w;:,+ -]{0,40}")
_MOST_ELEMENTS = 128


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """What a header says of the scanner and the protocol.

    Attributes
    ----------
    vendor : str
    model : str
    software : str
    field_t : float
        Field strength, tesla; 0 if it is not said.
    sequence : str
    coil : str
        Receive coil.
    elements : str
        Its elements that were used.
    table_mm : float or None
        Position of the table along the bore.
    n_bands : int
        Slices that are acquired at once, as the file states it; 0 if it does not.
    echo_ms : float
        Echo time; 0 if it is not said, or frames have several.
    tr_s : float
        Repetition time; 0 if it is not said.
    """

    vendor: str
    model: str
    software: str
    field_t: float
    sequence: str
    coil: str
    elements: str
    table_mm: float | None
    n_bands: int
    echo_ms: float
    tr_s: float


def facts_of(header: FileDataset) -> ScanFacts:
    """Read the facts of a file.

    Parameters
    ----------
    header : FileDataset
        With the elements of `TAGS` and those that are read of every file.
    """
    shared, frames = _item(header, "SharedFunctionalGroupsSequence"), _frames(header)
    timing = _item(shared, "MRTimingAndRelatedParametersSequence")
    coil = _item(shared, "MRReceiveCoilSequence") or _item(frames[0] if frames else Dataset(), "MRReceiveCoilSequence")
    vendor_frame = _first(_XA_FRAME.of(frames[0])) if frames else Dataset()
    csa = read_csa(header, ("ImaCoilString", "ImaAbsTablePosition"))
    return ScanFacts(
        vendor=maker_of(header),
        model=_shown(_MODEL, header.get("ManufacturerModelName")),
        software=_version(header.get("SoftwareVersions")),
        field_t=_number(header.get("MagneticFieldStrength")) or 0.0,
        sequence=_sequence(header),
        coil=_shown(_COIL, header.get("ReceiveCoilName") or coil.get("ReceiveCoilName")),
        elements=_elements(csa.get("ImaCoilString", []), vendor_frame, coil),
        table_mm=_table_mm(header, csa.get("ImaAbsTablePosition", []), vendor_frame),
        n_bands=_integer(_at(_GE_BANDS.of(header), 0)),
        echo_ms=_number(header.get("EchoTime")) or 0.0,
        tr_s=(_number(header.get("RepetitionTime") or timing.get("RepetitionTime")) or 0.0) / 1000,
    )


def _item(dataset: Dataset, sequence: str) -> Dataset:
    return _first(dataset.get(sequence))


def _first(items: object) -> Dataset:
    """Return the first item of a sequence; empty without one."""
    try:
        item = next(iter(items), None)  # type: ignore[call-overload]
    except TypeError:
        item = None
    return item if isinstance(item, Dataset) else Dataset()


def _frames(header: FileDataset) -> list[Dataset]:
    return list(header.get("PerFrameFunctionalGroupsSequence") or ())


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int:
    return max(integer_of(value) or 0, 0)


def _at(values: object, place: int) -> object:
    listed = list(values) if isinstance(values, Iterable) else []
    return listed[place] if place < len(listed) else None


def _shown(pattern: re.Pattern[str], value: object) -> str:
    """Return a text if it reads as what it should be; else an empty one."""
    text = str(value or "").strip()
    return text if pattern.fullmatch(text) else ""


def _version(value: object) -> str:
    texts = [value] if isinstance(value, str) else [str(text) for text in value] if isinstance(value, Iterable) else []
    found = [match[0] for text in texts if (match := _VERSION.search(text))]
    return max(found, key=len, default="")


def _sequence(header: FileDataset) -> str:
    said = (
        header.get("SequenceName"), header.get("PulseSequenceName"), _GE_SEQUENCE.of(header),
        _PHILIPS_SEQUENCE.of(header),
    )  # fmt: skip
    return next((text for value in said if (text := _shown(_SEQUENCE, value))), "")


def _elements(csa: list[bytes], frame: Dataset, coil: Dataset) -> str:
    """Return the coil's elements in the vendor's shorthand, or the number of those that were used."""
    shorthand = csa[0].decode("latin-1") if csa else _XA_COIL.of(frame)
    if text := _shown(_COIL, shorthand):
        return text
    elements = list(coil.get("MultiCoilDefinitionSequence") or ())[:_MOST_ELEMENTS]
    n_used = sum(element.get("MultiCoilElementUsed") == "YES" for element in elements)
    return f"{n_used} used" if n_used > 1 else ""


def _table_mm(header: FileDataset, csa: list[bytes], frame: Dataset) -> float | None:
    csa_z = csa[2].decode("latin-1") if len(csa) == 3 else None
    said = (csa_z, _at(_XA_TABLE.of(frame), 2), _at(_GE_TABLE.of(header), 2), header.get("TablePosition"))
    return next((mm for value in said if (mm := _number(value)) is not None), None)
