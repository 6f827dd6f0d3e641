"""Privacy of what is told: patients are told apart by digests that never leave memory, and texts name no file."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

PATIENT_ID = Tag(0x00100020)

#: Why images of another patient are left out.
OTHER = (
    "another patient's, by PatientID, than the run before, so not sent under the same --subject (for another person, "
    "stop and start again with their label; for one with two numbers, give --several-patients)"
)


class Patients:
    """Patients of one call of `rtgod watch` or `rtgod receive`: that of the first run, and all others.

    Digests are made with a random key, so that not even a list of all numbers leads from one to a person.

    Parameters
    ----------
    are_several : bool
        Whether images of any patient are taken.
    """

    def __init__(self, *, are_several: bool) -> None:
        self._are_several, self._key, self._first = are_several, secrets.token_bytes(32), b""

    def of(self, header: FileDataset) -> bytes:
        """Return a digest of a file's PatientID; empty if it has none, as after anonymisation.

        Parameters
        ----------
        header : FileDataset
        """
        number = patient_id(header)
        return hashlib.blake2b(number, key=self._key, digest_size=16).digest() if number else b""

    def begin(self, patient: bytes) -> None:
        """Take the patient of the run that begins for the one who is scanned, unless one is known.

        Parameters
        ----------
        patient : bytes
            From `of`.
        """
        self._first = self._first or patient

    def is_other(self, patient: bytes) -> bool:
        """Return whether images are left out, as they are not of the patient who is scanned.

        Parameters
        ----------
        patient : bytes
            From `of`.
        """
        return not self._are_several and are_two(patient, self._first)


def are_two(patient: bytes, other: bytes) -> bool:
    """Return whether two digests are of two patients; images without a number may be of anybody.

    Parameters
    ----------
    patient, other : bytes
        From `Patients.of`.
    """
    return bool(patient and other and patient != other)


def patient_id(header: FileDataset) -> bytes:
    """Return a file's PatientID as it lies there, without padding, whatever its characters; empty without one.

    Parameters
    ----------
    header : FileDataset
    """
    element = header.get_item(PATIENT_ID)
    value = b"" if element is None else element.value
    return (value if isinstance(value, bytes) else str(value or "").encode()).strip(b" \0")


def without_paths(text: str, origin: Path) -> str:
    """Take out whatever names a file or a folder.

    Parameters
    ----------
    text : str
    origin : Path
        The file that it is about.
    """
    text = text.removeprefix(f"{origin}: ").replace(str(origin), "an image").replace(origin.name, "an image")
    text = text.replace(f"{origin.parent}: ", "") if len(origin.parts) > 1 else text
    return re.sub(r"\S*[/\\]\S+", "an image", text).rstrip(".")
