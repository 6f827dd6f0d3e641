"""Evidence behind what is claimed of the science, in one table: each figure is that of a benchmark of its own.

Homology and imagery's order on data in which neither is; how much of the category before is left in a block's first
ranking; how far chances are from what comes true; causal decoding beside hindsight; how hard the simulated subject is.

    python -m benchmarks.evidence [--only BENCHMARK ...] [--json PATH]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import causal_gap, confidence, crosstalk, null_figures, simulated_subject
from benchmarks.parts import Parts, run_parts

#: Benchmarks, with the figures that are taken from each.
PARTS: Parts = {
    "null_figures": (null_figures.main, ("null_homology_frames", "null_peak_coverage")),
    "crosstalk": (crosstalk.main, ("crosstalk_first_points",)),
    "confidence": (confidence.main, ("ece_worst", "ece_where")),
    "causal_gap": (causal_gap.main, ("hindsight_best", "causal_best", "simple_causal_best")),
    "simulated_subject": (simulated_subject.main, ("sim_top5_of_50", "sim_effective_rank")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks one after another; print the figures taken, and write them as JSON if asked to."""
    return run_parts(PARTS, "python -m benchmarks.evidence", __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
