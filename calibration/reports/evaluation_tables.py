"""Tables of an evaluation's numbers, by the names of their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields

from calibration.evaluation.accuracy import (
    MOST_IN_MATRIX,
    FeatureAccuracy,
    Identification,
    accuracies_of,
    against_candidates,
    aggregated,
    confusion_of,
    ranks_of,
)
from calibration.evaluation.evaluate import Evaluation
from calibration.evaluation.predictions import DecodedCondition
from calibration.metrics.lags import Lag
from calibration.reports import deciding
from calibration.reports.reliability import bins_of, told_chances
from calibration.samples.left_out import COLUMNS

#: Places in a ranking whose share of hits is drawn against the number of candidates.
_TOP = (1, 5)
#: Names of the files beside the page; a file without content is not written.
TABLES = (
    "identification.tsv", "features.tsv", "blocks.tsv", "regions.tsv", "candidates.tsv", "left_out.tsv",
    "confusion.tsv", "runs.tsv", "time_course.tsv", "lags.tsv", "areas.tsv", "reliability.tsv", "semantic.tsv",
    "decisions.tsv",
)  # fmt: skip


def top_places(evaluation: Evaluation) -> list[int]:
    """Return the places that fewer candidates than all can have.

    Parameters
    ----------
    evaluation : Evaluation
    """
    return [k for k in _TOP if k < len(evaluation.candidates.ids)]


def tables_of(evaluation: Evaluation) -> dict[str, tuple[Sequence[str], list[Sequence[object]]]]:
    """Make all tables of numbers, by the name of their file: header and rows.

    Parameters
    ----------
    evaluation : Evaluation
    """
    tables: dict[str, tuple[Sequence[str], list[Sequence[object]]]] = {
        "identification.tsv": (_names(Identification), [astuple(result) for result in evaluation.identification]),
        "features.tsv": (_names(FeatureAccuracy), [astuple(result) for result in evaluation.features]),
        "blocks.tsv": (
            ("kind", "category_id", "category", "first", "rank", "identification_accuracy", "n_volumes"),
            [row for kind, decoded in evaluation.decoded.items() for row in _block_rows(evaluation, kind, decoded)],
        ),
        "regions.tsv": (
            ("kind", "region", "layer", "feature_accuracy"),
            [
                (kind, region, layer, float(accuracy[i, j]))
                for kind, accuracy in evaluation.by_region.items()
                for i, region in enumerate(evaluation.regions)
                for j, layer in enumerate(evaluation.layers)
            ],
        ),
        "candidates.tsv": (
            ("kind", "evidence", "n_candidates", "first", "share"),
            [
                (kind, evidence, int(n), k, float(share))
                for kind, decoded in evaluation.decoded.items()
                for evidence, ranked in aggregated(decoded).items()
                for k in top_places(evaluation)
                for n, share in zip(*against_candidates(ranked, k), strict=True)
            ],
        ),
    }
    if evaluation.homology.kinds:
        tables["areas.tsv"] = _area_table(evaluation)
    if evaluation.tallies:
        tables["left_out.tsv"] = (COLUMNS, [counts.row() for counts in evaluation.tallies])
    if len(evaluation.candidates.ids) <= MOST_IN_MATRIX:
        tables["confusion.tsv"] = (
            ("kind", "category_id", *evaluation.candidates.ids),
            [
                (kind, category, *row)
                for kind, decoded in evaluation.decoded.items()
                for category, row in zip(
                    evaluation.candidates.ids,
                    confusion_of(decoded.blocks.scores, decoded.blocks.true.tolist()).tolist(),
                    strict=True,
                )
            ],
        )
    if evaluation.n_runs:
        tables["runs.tsv"] = (
            ("kind", "n_runs", "accuracy", "low", "high"),
            [
                (kind, n, *values)
                for kind, by_size in evaluation.by_runs.items()
                for n, values in zip(evaluation.n_runs, by_size, strict=True)
            ],
        )
    if course := evaluation.course:
        tables["time_course.tsv"] = (
            ("layer", "time_s", "feature_accuracy", "half_width"),
            [
                (layer, float(t), float(course.accuracy[i, j]), float(course.half_width[i, j]))
                for i, layer in enumerate(evaluation.layers)
                for j, t in enumerate(course.times_s)
            ],
        )
        tables["lags.tsv"] = (
            ("layer", "lag_s", "low_s", "high_s", "p_value"),
            [
                *((k, *_lag(lag)) for k, lag in zip(evaluation.layers, course.lags, strict=True)),
                ("last minus first", *_lag(course.shift)),
            ],
        )
    if evaluation.confidence:
        tables["reliability.tsv"] = (
            ("kind", "true_category", "predicted", "observed", "n_rankings"),
            [
                (kind, title, *row)
                for kind, confidences in evaluation.confidence.items()
                for i, title in told_chances(len(evaluation.candidates.ids))
                for row in bins_of(confidences, i)
            ],
        )
        tables["decisions.tsv"] = (deciding.COLUMNS, list(deciding.table_of(deciding.decided(evaluation.confidence))))
    if evaluation.semantic:
        tables["semantic.tsv"] = (
            ("kind", "n_errors", "distance", "shuffled_distance", "p_value", "p_least", "n_missing"),
            [
                (kind, e.n_errors, e.observed, e.shuffled, e.p_value, e.p_least, len(e.missing))
                for kind, e in evaluation.semantic.items()
            ],
        )
    return tables


def _area_table(evaluation: Evaluation) -> tuple[Sequence[str], list[Sequence[object]]]:
    found = evaluation.homology
    header = ("kind", "area", "layer", "n_voxels", "feature_accuracy", "low", "high", "is_framed")
    return header, [
        (
            kind,
            area,
            layer,
            found.n_voxels,
            float(of.accuracy[i, j]),
            float(of.low[i, j]),
            float(of.high[i, j]),
            of.best_area[j] == i,
        )
        for kind, of in found.kinds.items()
        for i, area in enumerate(found.areas)
        for j, layer in enumerate(evaluation.layers)
    ]


def _lag(lag: Lag) -> tuple[float, float, float, float]:
    return lag.lag_s, lag.low_s, lag.high_s, lag.p_value


def _names(results: type[Identification] | type[FeatureAccuracy]) -> list[str]:
    return [field.name for field in fields(results)]


def _block_rows(evaluation: Evaluation, kind: str, decoded: DecodedCondition) -> list[Sequence[object]]:
    ids, names, ranked = evaluation.candidates.ids, evaluation.candidates.names, decoded.blocks
    first_choices, ranks, accuracies = ranked.scores.argmax(axis=1), ranks_of(ranked), accuracies_of(ranked)
    return [
        (kind, ids[true], names[true], names[best], int(rank), float(accuracy), int(n_volumes))
        for true, best, rank, accuracy, n_volumes in zip(
            ranked.true, first_choices, ranks, accuracies, ranked.n_volumes, strict=True
        )
    ]
