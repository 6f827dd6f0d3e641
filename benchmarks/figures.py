"""Common parts of all benchmarks: the folder of the real data, and the writing of figures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def shared_data() -> Path:
    """Return the folder of the real data: `RTGOD_SHARED_DATA`, or `shared/data` beside the project."""
    return Path(os.environ.get("RTGOD_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def print_all(figures: Mapping[str, float | int | str]) -> None:
    """Print figures, and words beside them, in a column."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value if isinstance(value, str) else f'{value:.5g}'}")


def write_json(path: Path, figures: Mapping[str, float | int | str]) -> None:
    """Write figures, and words beside them, as one flat JSON object."""
    path.write_text(json.dumps(dict(figures), indent=1) + "\n", encoding="utf-8")
