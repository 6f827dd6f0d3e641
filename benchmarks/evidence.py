"""Evidence behind what is claimed of the science, in one table: each figure is that of a benchmark of its own.

Homology and imagery's order on data in which neither is; how much of the category before is left in a block's first
ranking; how far chances are from what comes true; causal decoding beside hindsight; how hard the simulated subject is.

    python -m benchmarks.evidence [--only BENCHMARK ...] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import causal_gap, confidence, crosstalk, null_figures, simulated_subject
from benchmarks.figures import print_all, write_json

Main = Callable[[Sequence[str]], int]
#: Benchmarks, with the figures that are taken from each.
PARTS: Mapping[str, tuple[Main, tuple[str, ...]]] = {
    "null_figures": (null_figures.main, ("null_homology_frames", "null_peak_coverage")),
    "crosstalk": (crosstalk.main, ("crosstalk_first_points",)),
    "confidence": (confidence.main, ("ece_worst", "ece_where")),
    "causal_gap": (causal_gap.main, ("hindsight_best", "causal_best", "simple_causal_best")),
    "simulated_subject": (simulated_subject.main, ("sim_top5_of_50", "sim_effective_rank")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks one after another; print the figures taken, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    taken: dict[str, float | str] = {}
    for name in options.only:
        run, wanted = PARTS[name]
        began = time.perf_counter()
        figures = _figures(run)
        if figures is None:
            return 2
        taken |= {figure: figures[figure] for figure in wanted}
        taken[f"{name}_minutes"] = (time.perf_counter() - began) / 60
    print()
    print_all(taken)
    if options.json:
        write_json(options.json, taken)
    return 0


def _figures(run: Main) -> dict[str, float | str] | None:
    """Return the figures of a benchmark; None if it could not run, of which it has told."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        if run(["--json", str(path)]):
            return None
        figures: dict[str, float | str] = json.loads(path.read_text(encoding="utf-8"))
        return figures


if __name__ == "__main__":
    sys.exit(main())
