"""Ranking of candidates by decoded features: one pass over the candidates' features, limited by memory bandwidth.

Where the candidates' features are many, a shortlist is searched first, and only candidates on it are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rtgod.decoding.correlation import (
    correlate,
    correlate_at,
    fisher,
    fisher_slope,
    mean_fisher,
    profiles,
    standardise_rows,
)
from rtgod.decoding.decoder import AnyLayerDecoder
from rtgod.decoding.shortlist import CommonPart, Shortlist
from rtgod.decoding.standardisation import Standardisation
from rtgod.errors import InputError
from rtgod.messages import Array, Features, Float32Array, Float64Array, Int32Array
from rtgod.settings import Combination, Matching, RankingSettings, Search
from rtgod.text import composed

#: Candidates of a shortlist that are scored, and how many of them are ranked. Further ranks would be wrong, as too many
#: candidates that belong there are not on the shortlist. No more than are on a shortlist are always scored exactly.
N_SHORTLISTED, N_RANKED = 3072, 1000
#: Candidates whose sums are added at a time to find what all have in common; their number changes the last digits.
_PIECE = 20_000
#: Combining, sorting and passing on a candidate's score takes about as long as reading this many bytes of features.
_BYTES_A_SCORE = 2048
#: Bytes of the candidates' features that are standardised at a time: few enough for the processor's cache.
_PIECE_BYTES = 2**20


class CategoryIndex:
    """Index that scores candidates by the correlation of their category features with decoded features.

    By default both sides are z-scored with the training features' mean and SD first: otherwise the activations' common
    profile over units dominates every correlation.

    Parameters
    ----------
    candidates : mapping of str to ndarray of shape (n_all, n_units), float32
        Category features per layer.
    layers : mapping of str to LayerDecoder or SparseLayerDecoder
        Decoders of the layers, which give the mean and SD of each unit.
    combine : {"fisher", "concatenated", "weighted"}
        Score of a candidate: the mean of its layers' Fisher z, the Fisher z of one correlation over the units of all
        layers, or the mean of Fisher z weighted by `weights`.
    weights : mapping of str to float or None
        Weight of each layer, not negative; a layer left out has weight 0. Only for "weighted".
    positions : ndarray of shape (n_candidates,), int32, or None
        Rows of `candidates` that are ranked; by default all.
    plain : bool
        Whether each unit stands for one candidate. Then a candidate's score is its own unit, z-scored: a correlation
        over the two units of two categories could only be 1 or −1.
    match : {"zscored", "raw"}
        Whether both sides are z-scored before they are correlated, or correlated as they are; not for `plain`.
    search : {"auto", "exact", "shortlist"}
        Whether every candidate is scored, or those on a shortlist; "auto" for a shortlist if scoring every one
        means more than `exact_up_to_mb`. Up to `N_SHORTLISTED` candidates are always scored exactly.
    exact_up_to_mb : float
        Size of the features, and `_BYTES_A_SCORE` for each candidate, in units of 10⁶ bytes.
    standardisation : Standardisation or None
        Applied to the scores, a value for each row of `candidates`; None leaves scores as they are.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers of `candidates`, in their order.
    n_candidates : int
    n_ranked : int
        Number of candidates in a ranking: all of them, or `N_RANKED` from a shortlist.
    positions : ndarray of shape (n_candidates,), int32
        Rows of `candidates` that are ranked; rankings list candidates by these numbers.

    Raises
    ------
    MissingDependencyError
        If a shortlist is to be searched and FAISS is not installed.
    """

    def __init__(
        self,
        candidates: Mapping[str, Float32Array],
        layers: Mapping[str, AnyLayerDecoder],
        combine: Combination = "fisher",
        weights: Mapping[str, float] | None = None,
        positions: Int32Array | None = None,
        plain: bool = False,
        match: Matching = "zscored",
        search: Search = "auto",
        exact_up_to_mb: float = RankingSettings().exact_up_to_mb,
        standardisation: Standardisation | None = None,
    ) -> None:
        self._plain, self._raw = plain, match == "raw" and not plain
        self._moments = [layers[name] for name in candidates]
        n_all = len(next(iter(candidates.values())))
        self.layers = tuple(candidates)
        self.positions = np.arange(n_all, dtype=np.int32) if positions is None else positions
        self.n_candidates = len(self.positions)
        self._standardisation = standardisation and standardisation.select(self.positions)
        self._ends = np.cumsum([features.shape[1] for features in candidates.values()])
        self._weights = np.array([1.0 if weights is None else weights.get(name, 0.0) for name in candidates])
        # One array with a row for each candidate: every ranking reads it from end to end, limited by memory bandwidth.
        self._rows = np.empty((self.n_candidates, self._ends[-1]), np.float32)
        self._profiles = None
        if combine == "concatenated" and not plain:
            self._profiles = np.empty((self.n_candidates, 2, len(self.layers)))
        step = max(_PIECE_BYTES // self._rows[:1].nbytes, 1) if self.n_candidates else 1
        for start in range(0, self.n_candidates, step):
            piece = slice(start, start + step)
            piece_features = {name: features[self.positions[piece]] for name, features in candidates.items()}
            if plain:
                self._rows[piece] = np.concatenate(list(piece_features.values()), axis=1)
                continue
            units = self._in_units(piece_features)
            self._rows[piece] = np.concatenate([standardise_rows(of_layer) for of_layer in units], axis=1)
            if self._profiles is not None:
                self._profiles[piece] = profiles(units)
        self.n_ranked, self._shortlist, self._common = self.n_candidates, None, None
        is_large = self._rows.nbytes + self.n_candidates * _BYTES_A_SCORE > 1e6 * exact_up_to_mb
        is_short = search == "shortlist" or (search == "auto" and is_large)
        if is_short and self.n_candidates > N_SHORTLISTED:
            self.n_ranked = min(N_RANKED, self.n_candidates)
            if self._raw:
                self._common = CommonPart(self.n_candidates, self._similar, self._ends, _PIECE)
            self._shortlist = Shortlist(self.n_candidates, self._vectors, N_SHORTLISTED)
            # Compile the kernel that only a shortlist needs now, so that the first volume does not wait for it.
            self.top(Features(0, {name: layers[name].unit_mean for name in candidates}), 1)

    def correlations(self, features: Features) -> Float32Array:
        """Compute Pearson's r with each candidate in each layer, shape (n_layers, n_candidates), float32.

        For plain categories, return their scores in the same shape.

        Parameters
        ----------
        features : Features
            Features of every layer in `layers`; those of other layers are ignored.
        """
        return np.ascontiguousarray(correlate(self._rows, self._query(features).units, self._ends).T)

    def scores(self, features: Features) -> Float32Array:
        """Score each candidate, in the order of `positions`; return shape (n_candidates,), float32.

        Parameters
        ----------
        features : Features
            Features of every layer in `layers`; those of other layers are ignored.
        """
        query = self._query(features)
        return self._combined(correlate(self._rows, query.units, self._ends), query)

    def scores_of_many(self, layers: Mapping[str, Array]) -> Float32Array:
        """Score each candidate for many decoded features, to rounding as `scores` does and faster.

        Parameters
        ----------
        layers : mapping of str to ndarray of shape (n_decoded, n_units)
            Features of every layer in `layers`; those of other layers are ignored.

        Returns
        -------
        ndarray of shape (n_decoded, n_candidates), float32
        """
        decoded = {name: np.asarray(layers[name], np.float32) for name in self.layers}
        n = len(next(iter(decoded.values())))
        queries = [self._query(Features(i, {name: values[i] for name, values in decoded.items()})) for i in range(n)]
        units = np.stack([query.units for query in queries])
        bounds = pairwise((0, *self._ends.tolist()))
        by_layer = np.stack([self._rows[:, a:b] @ units[:, a:b].T for a, b in bounds], axis=-1)
        return np.stack([self._combined(by_layer[:, i], query) for i, query in enumerate(queries)])

    def rank(self, features: Features) -> tuple[Int32Array, Float32Array]:
        """Return the first `n_ranked` candidates, and their scores; see `top`.

        Parameters
        ----------
        features : Features
            Features of every layer in `layers`; those of other layers are ignored.
        """
        return self.top(features, self.n_ranked)

    def top(self, features: Features, n: int) -> tuple[Int32Array, Float32Array]:
        """Return the positions of the `n` best candidates in the list of all, best first, and their scores.

        Candidates with equal scores keep their order, so that the ranking is the same everywhere. Scores of candidates
        from a shortlist are exact, too; for an `n` above `n_ranked` every candidate is scored instead.

        Parameters
        ----------
        features : Features
            Features of every layer in `layers`; those of other layers are ignored.
        n : int
            If it exceeds `n_candidates`, all are returned.
        """
        if self._shortlist is None or n > self.n_ranked:
            scores = self.scores(features)
            best = np.argsort(-scores, kind="stable")[:n]
            return self.positions[best], scores[best]
        query = self._query(features)
        rows = self._shortlist.search(self._vector(query))
        scores = self._combined(correlate_at(self._rows, rows, query.units, self._ends), query, rows)
        best = np.argsort(-scores, kind="stable")[:n]
        return self.positions[rows[best]], scores[best]

    @property
    def shortlist_mb(self) -> float:
        """Memory of the shortlist's codes, in MiB; 0 without a shortlist."""
        return self._shortlist.n_bytes / 2**20 if self._shortlist else 0.0

    def _in_units(self, features: Mapping[str, Array]) -> list[Array]:
        """Return each layer's features in the units in which they are matched."""
        if self._raw:
            return [features[name] for name in self.layers]
        return [
            (features[name] - moments.unit_mean) / moments.unit_sd
            for name, moments in zip(self.layers, self._moments, strict=True)
        ]

    def _query(self, features: Features) -> _Query:
        layers = [of_layer[np.newaxis] for of_layer in self._in_units(features.layers)]
        if self._plain:
            return _Query(np.concatenate([of_layer[0] for of_layer in layers]), None)
        units = np.concatenate([standardise_rows(of_layer)[0] for of_layer in layers])
        return _Query(units, None if self._profiles is None else profiles(layers)[0])

    def _combined(self, correlations: Float32Array, query: _Query, rows: Int32Array | None = None) -> Float32Array:
        """Combine the layers' correlations, (n, n_layers), of all candidates or of some rows into scores, as shown."""
        scores = self._in_one(correlations, query, rows)
        return scores if self._standardisation is None else self._standardisation.applied(scores, rows)

    def _in_one(self, correlations: Float32Array, query: _Query, rows: Int32Array | None) -> Float32Array:
        if self._plain:
            return correlations.mean(axis=1)
        if self._profiles is None or query.profile is None:
            return mean_fisher(correlations, self._weights)
        candidate_profiles = self._profiles if rows is None else self._profiles[rows]
        within = (candidate_profiles[:, 0] * correlations * query.profile[0]).sum(axis=1)
        between = (candidate_profiles[:, 1] * query.profile[1]).sum(axis=1)
        return mean_fisher((within + between).astype(np.float32)[:, np.newaxis], np.ones(1))

    def _vectors(self, rows: Int32Array) -> Float32Array:
        """Return candidates as vectors whose dot product with `_vector` of a query is about their score."""
        vectors = self._similar(rows)
        if self._common is not None:
            vectors = self._common.taken_out(vectors)
        return vectors if self._standardisation is None else self._standardisation.coded(vectors, rows)

    def _similar(self, rows: Int32Array) -> Float32Array:
        if self._profiles is None:
            return self._rows[rows]
        return self._concatenated(self._rows[rows], self._profiles[rows])

    def _vector(self, query: _Query) -> Float32Array:
        # A score times `unit` is about `level` and the vector's dot product with a candidate's.
        level, unit = 0.0, float(self._weights.sum())
        if query.profile is not None:
            vector, unit = self._concatenated(query.units[np.newaxis], query.profile[np.newaxis])[0], 1.0
            if self._common is not None:
                shared = self._common.products(vector).sum(keepdims=True)
                unit = float(1 / fisher_slope(shared)[0])
                level = unit * float(fisher(shared)[0])
        else:
            weights = self._weights
            if self._common is not None:  # Fisher's z of a small r is about r; it grows faster where r is large
                shared = self._common.products(query.units)
                level = float((weights * fisher(shared)).sum())
                weights = weights * fisher_slope(shared)
            vector = self._spread(weights) * query.units
        if self._common is not None:
            vector = self._common.of_query(vector)
        return vector if self._standardisation is None else self._standardisation.coded_query(vector, level, unit)

    def _concatenated(self, rows: Float32Array, profile: Float64Array) -> Float32Array:
        """Concatenate units and levels of the layers, so that dot products are correlations over all units."""
        return np.concatenate([rows * self._spread(profile[:, 0]), profile[:, 1].astype(np.float32)], axis=1)

    def _spread(self, layer_values: Float64Array) -> Float32Array:
        """Repeat the value of each layer, (..., n_layers), for each unit of the layer, (..., n_units)."""
        return np.repeat(layer_values, np.diff(self._ends, prepend=0), axis=-1).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """Decoded features: `units` standardised layer by layer, and `profile` of shape (2, n_layers) over layers."""

    units: Float32Array
    profile: Float64Array | None


def index_categories(
    settings: RankingSettings,
    layers: Mapping[str, AnyLayerDecoder],
    candidate_ids: Sequence[str],
    candidates: Mapping[str, Float32Array],
    weights: Mapping[str, float] | None,
    plain: bool = False,
    standardisation: Standardisation | None = None,
) -> CategoryIndex:
    """Make the index that the settings ask for.

    Parameters
    ----------
    settings : RankingSettings
    layers : mapping of str to LayerDecoder or SparseLayerDecoder
    candidate_ids : sequence of str
    candidates : mapping of str to ndarray of shape (n_all, n_units), float32
        Category features per layer, a row for each of `candidate_ids`.
    weights : mapping of str to float or None
        Weights of the layers, learned in calibration.
    plain : bool
        Whether each unit stands for one candidate; see `CategoryIndex`.
    standardisation : Standardisation or None
        Learned in calibration, a value for each of `candidate_ids`; used if the settings ask for it.

    Raises
    ------
    InputError
        If the settings name an unknown layer or candidate, or ask for weights not learned, or as `check_matching`.
    MissingDependencyError
        If FAISS is needed and not installed; see `CategoryIndex`.
    """
    check_matching(settings, plain)
    names = settings.layers or tuple(layers)
    if unknown := sorted(set(names) - set(layers)):
        raise InputError(
            f"settings [ranking] layers: {', '.join(unknown)} not among those of the decoder: {', '.join(layers)}"
        )
    if settings.combine != "weighted":
        weights = None
    elif weights is None or not any(weights.get(name) for name in names):
        raise InputError(
            f'settings [ranking] combine = "weighted", and no weights were learned for {", ".join(names)}; '
            'calibrate with that setting, or choose "fisher"'
        )
    positions = positions_of(settings.candidates, candidate_ids) if settings.candidates else None
    matched = {name: candidates[name] for name in names}
    return CategoryIndex(
        matched,
        layers,
        settings.combine,
        weights,
        positions,
        plain,
        settings.match,
        settings.search,
        settings.exact_up_to_mb,
        standardisation if settings.standardise else None,
    )


def check_matching(settings: RankingSettings, plain: bool) -> None:
    """Raise `InputError` if the settings ask for raw matching and each unit stands for one candidate (`plain`).

    Parameters
    ----------
    settings : RankingSettings
    plain : bool
    """
    if plain and settings.match == "raw":
        raise InputError(
            'settings [ranking] match = "raw": the categories themselves are decoded here, and no features are '
            'correlated; leave it out, or choose "zscored"'
        )


def positions_of(chosen: Sequence[str], candidate_ids: Sequence[str]) -> Int32Array:
    """Return the positions of chosen candidates in the list of all, ascending; raise `InputError` if one is unknown.

    Parameters
    ----------
    chosen : sequence of str
        In any order and any Unicode form; repeated ones count once.
    candidate_ids : sequence of str
        All candidates, in Unicode's form NFC.
    """
    chosen = [composed(name) for name in chosen]
    if unknown := sorted(set(chosen) - set(candidate_ids)):
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise InputError(
            f"settings [ranking] candidates: {', '.join(unknown[:10])}{more} not among the {len(candidate_ids)} "
            "candidates of the decoder; their ids are the names of the folders that it was calibrated with"
        )
    wanted = set(chosen)
    return np.array([i for i, category in enumerate(candidate_ids) if category in wanted], np.int32)
