"""Arrays of a safetensors file: copied into memory, or mapped, so that the system reads them as they are used."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open

from rtgod.messages import Array


def read_arrays(path: Path, is_mapped: Callable[[str], bool]) -> dict[str, Array]:
    """Read the arrays of a safetensors file.

    Parameters
    ----------
    path : Path
        The file, which must stay as it is while a mapped array is in use.
    is_mapped : callable
        Whether the array of a name is mapped, read-only, if it is float32; all others are copied.

    Returns
    -------
    dict of str to ndarray
        By their names, in the order of the file.

    Raises
    ------
    SafetensorError
        If the file is no safetensors file.
    OSError
        If it cannot be read.
    """
    with safe_open(path, framework="numpy") as stored:
        names = list(stored.keys())
        mapped = _mapped(path) if any(map(is_mapped, names)) else {}
        return {name: mapped[name] if is_mapped(name) and name in mapped else stored.get_tensor(name) for name in names}


def _mapped(path: Path) -> dict[str, Array]:
    """Map the float32 arrays of a file whose header was checked."""
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    first = 8 + int.from_bytes(content[:8], "little")
    arrays: dict[str, Array] = {}
    for name, entry in json.loads(content[8:first]).items():
        if entry.get("dtype") == "F32":
            shape, (start, end) = entry["shape"], entry["data_offsets"]
            arrays[name] = np.frombuffer(content, "<f4", (end - start) // 4, first + start).reshape(shape)
    return arrays
