"""Gains of what decodes better live, in one table: each figure is that of a benchmark of its own.

Layers that are weighted and candidates that are standardised; events' delay that is learned and a decoder that is
chosen, on real runs; volumes until a ranking is sure; and the time that the nearest pictures take. Adaptation to a new
session or person, and features of fewer dimensions, are still to come.

    python -m benchmarks.accuracy [--only BENCHMARK ...] [--json PATH]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import decoder_gain, evidence_over_time, matching_gain, pictures
from benchmarks.parts import Parts, run_parts


def _with_interval(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{end}" for name in names for end in ("", "_low", "_high"))


#: Benchmarks, with the figures that are taken from each.
PARTS: Parts = {
    "matching_gain": (
        matching_gain.main,
        (*_with_interval("weighted_gain", "standardise_top1_gain"), "standardise_worst_loss"),
    ),
    "decoder_gain": (decoder_gain.main, _with_interval("delay_gain", "auto_over_best_single")),
    "evidence_over_time": (evidence_over_time.main, _with_interval("volumes_to_decision")),
    "pictures": (pictures.main, ("picture_ms_p99",)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks one after another; print the figures taken, and write them as JSON if asked to."""
    return run_parts(PARTS, "python -m benchmarks.accuracy", __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
