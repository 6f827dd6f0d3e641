"""Matching: Pearson's r as others compute it, combined as asked, and what is found among many is what is there."""

import builtins

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from threadpoolctl import threadpool_limits

from rtgod.decoding import category_index
from rtgod.decoding.category_index import CategoryIndex, index_categories
from rtgod.decoding.correlation import standardise_rows
from rtgod.decoding.decoder import LayerDecoder
from rtgod.decoding.shortlist import CommonPart
from rtgod.decoding.standardisation import Standardisation
from rtgod.errors import InputError, MissingDependencyError
from rtgod.messages import Features
from rtgod.settings import RankingSettings
from tests import naive, small
from tests.small import normal

N_CANDIDATES = 17


@pytest.fixture
def layers():
    return small.layer_decoders()


@pytest.fixture
def candidates(layers):
    return {
        name: layer.unit_mean + layer.unit_sd * normal(N_CANDIDATES, len(layer.unit_mean), seed=7)
        for name, layer in layers.items()
    }


@pytest.fixture
def features(layers):
    return Features(3, {name: layer.unit_mean + normal(len(layer.unit_mean), seed=9) for name, layer in layers.items()})


def test_correlations_are_pearson_s(layers, candidates, features):
    r = CategoryIndex(candidates, layers).correlations(features)
    assert r.shape == (len(layers), N_CANDIDATES)
    for row, (name, layer) in zip(r, layers.items(), strict=True):
        z = (features.layers[name] - layer.unit_mean) / layer.unit_sd
        zs = (candidates[name] - layer.unit_mean) / layer.unit_sd
        np.testing.assert_allclose(row, [stats.pearsonr(z, one).statistic for one in zs], atol=2e-6)


def test_the_ranking_is_by_mean_fisher_z(layers, candidates, features):
    order, scores = CategoryIndex(candidates, layers).rank(features)
    expected = naive.scores(features.layers, candidates, layers)
    np.testing.assert_allclose(scores, expected[order], atol=1e-5)
    np.testing.assert_array_equal(order, np.argsort(-expected))
    assert (order.dtype, scores.dtype) == (np.int32, np.float32)


def test_only_the_layers_with_candidates_count(layers, candidates, features):
    one = {"conv5": candidates["conv5"]}
    _, scores = CategoryIndex(one, layers).rank(features)
    np.testing.assert_allclose(np.sort(scores), np.sort(naive.scores(features.layers, one, layers)), atol=1e-5)


@given(st.permutations(range(9)))
def test_equal_scores_keep_the_candidates_order(kinds):
    """Nine candidates of three kinds in any order: kinds are ranked, and within a kind positions ascend."""
    layer = LayerDecoder(normal(12, 4), np.zeros(12, np.float32), np.ones(12, np.float32))
    three = normal(3, 12, seed=5)
    order, scores = CategoryIndex({"l": three[np.array(kinds) % 3]}, {"l": layer}).rank(Features(0, {"l": three[1]}))
    groups = [order[k : k + 3] for k in (0, 3, 6)]
    for group, score in zip(groups, (scores[:3], scores[3:6], scores[6:]), strict=True):
        assert len({kinds[i] % 3 for i in group}) == 1
        assert len(set(score.tolist())) == 1
        assert list(group) == sorted(group)
    assert kinds[groups[0][0]] % 3 == 1


def test_a_perfect_match_has_a_finite_score(layers, candidates):
    features = Features(0, {name: rows[4] for name, rows in candidates.items()})
    order, scores = CategoryIndex(candidates, layers).rank(features)
    assert order[0] == 4
    assert 6 < scores[0] < 10
    # Without rounding, r is exactly 1 and -1.
    exact = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [-1, 1, -1, 1]], np.float32)
    layer = LayerDecoder(normal(4, 2), np.zeros(4, np.float32), np.ones(4, np.float32))
    order, scores = CategoryIndex({"l": exact}, {"l": layer}).rank(Features(0, {"l": exact[0]}))
    assert list(order) == [0, 1, 2]
    np.testing.assert_allclose(scores, np.arctanh([0.999999, 0, -0.999999]), rtol=1e-3, atol=1e-6)


def test_constant_features_match_nothing(layers, candidates):
    index = CategoryIndex(candidates, layers)
    order, scores = index.rank(Features(0, {name: layer.unit_mean for name, layer in layers.items()}))
    np.testing.assert_array_equal(scores, 0)
    np.testing.assert_array_equal(order, np.arange(N_CANDIDATES))


def test_standardised_rows_have_mean_0_and_length_1():
    rows = np.vstack([3 + 2 * normal(4, 50), np.full((1, 50), 0.1, np.float32), 1e4 + normal(1, 50)])
    out = standardise_rows(rows)
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), [1, 1, 1, 1, 0, 1], atol=1e-6)


# ---------------------------------------------------------------- layers combined in other ways


@pytest.fixture
def uneven(layers, candidates, features):
    """Layers whose units are lifted and stretched differently, so that it matters how they are put together."""
    for factor, (name, layer) in enumerate(layers.items(), 1):
        lift = factor * (1 + normal(N_CANDIDATES, 1, seed=factor))
        candidates[name] = candidates[name] + layer.unit_sd * (lift + factor * normal(*candidates[name].shape, seed=3))
        features.layers[name][:] += factor * layer.unit_sd
    return candidates, features


def test_concatenated_layers_have_one_correlation_over_all_units(layers, uneven):
    candidates, features = uneven
    index = CategoryIndex(candidates, layers, "concatenated")
    expected = naive.concatenated_scores(features.layers, candidates, layers)
    np.testing.assert_allclose(index.scores(features), expected, atol=1e-5)
    assert np.corrcoef(expected, naive.scores(features.layers, candidates, layers))[0, 1] < 0.95
    # What each layer says is still told.
    np.testing.assert_array_equal(
        index.correlations(features), CategoryIndex(candidates, layers).correlations(features)
    )


def test_concatenating_one_layer_is_that_layer(layers, candidates, features):
    one = {"conv5": candidates["conv5"]}
    together, alone = (CategoryIndex(one, layers, combine).scores(features) for combine in ("concatenated", "fisher"))
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_constant_features_match_nothing_when_concatenated_either(layers, candidates):
    index = CategoryIndex(candidates, layers, "concatenated")
    means = {name: layer.unit_mean for name, layer in layers.items()}
    np.testing.assert_array_equal(index.scores(Features(0, means)), 0)


def test_weights_say_how_much_each_layer_counts(layers, candidates, features):
    weights = {"fc8": 0.5, "conv1": 0.0, "conv5": 1.5}
    scores = CategoryIndex(candidates, layers, "weighted", weights).scores(features)
    z = {n: naive.scores(features.layers, {n: candidates[n]}, layers) for n in layers}
    np.testing.assert_allclose(scores, (0.5 * z["fc8"] + 1.5 * z["conv5"]) / 2, atol=1e-5)
    equal = CategoryIndex(candidates, layers, "weighted", dict.fromkeys(layers, 1.0)).scores(features)
    assert equal.tobytes() == CategoryIndex(candidates, layers).scores(features).tobytes()


# ---------------------------------------------------------------- raw activations, as in the study


bdpy_with_matrices = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@bdpy_with_matrices
def test_raw_correlations_are_those_of_the_published_analysis(layers, candidates, features):
    from bdpy.stats import corrmat

    r = CategoryIndex(candidates, layers, match="raw").correlations(features)
    for row, name in zip(r, layers, strict=True):
        theirs = corrmat(features.layers[name][np.newaxis].astype(float), candidates[name].astype(float))
        np.testing.assert_allclose(row, theirs[0], atol=2e-6)


@bdpy_with_matrices
def test_raw_scores_are_combined_in_every_way(layers, uneven):
    from bdpy.stats import corrmat

    candidates, features = uneven
    expected = naive.raw_scores(features.layers, candidates)
    np.testing.assert_allclose(CategoryIndex(candidates, layers, match="raw").scores(features), expected, atol=1e-4)
    together = np.concatenate([features.layers[n] for n in layers]), np.concatenate([*candidates.values()], axis=1)
    concatenated = CategoryIndex(candidates, layers, "concatenated", match="raw").scores(features)
    np.testing.assert_allclose(np.tanh(concatenated), corrmat(together[0][np.newaxis], together[1])[0], atol=2e-6)
    weights = {"fc8": 0.5, "conv1": 0.0, "conv5": 1.5}
    z = {n: naive.raw_scores(features.layers, {n: candidates[n]}) for n in layers}
    weighted = CategoryIndex(candidates, layers, "weighted", weights, match="raw").scores(features)
    np.testing.assert_allclose(weighted, (0.5 * z["fc8"] + 1.5 * z["conv5"]) / 2, atol=1e-4)
    assert np.corrcoef(expected, CategoryIndex(candidates, layers).scores(features))[0, 1] < 0.99


def test_features_without_mean_and_of_one_spread_are_matched_alike_raw_and_z_scored(candidates, features):
    plain = {}
    for name, rows in candidates.items():
        n = rows.shape[1]
        plain[name] = LayerDecoder(normal(n, 2), np.zeros(n, np.float32), np.full(n, 2, np.float32))
    raw, z = (CategoryIndex(candidates, plain, match=match).scores(features) for match in ("raw", "zscored"))
    np.testing.assert_allclose(raw, z, atol=1e-6)


@pytest.mark.parametrize("match", ["zscored", "raw"])
def test_where_nothing_is_decoded_the_true_category_beats_half_of_the_others(match):
    """Raw correlations with a common profile are all high, and identify nothing by themselves."""
    rng = np.random.default_rng(0)
    profile = rng.exponential(5, 200)
    layer = LayerDecoder(normal(200, 1), profile.astype(np.float32), np.ones(200, np.float32))
    candidates = {"l": (profile + rng.standard_normal((40, 200))).astype(np.float32)}
    index = CategoryIndex(candidates, {"l": layer}, match=match)
    accuracies = {"noise": [], "signal": []}
    for trial in range(400):
        true, noise = trial % 40, profile + rng.standard_normal(200)
        for name, signal in (("noise", 0), ("signal", candidates["l"][true] - profile)):
            r = index.correlations(Features(trial, {"l": (noise + signal).astype(np.float32)}))[0]
            assert match == "zscored" or r.min() > 0.9
            accuracies[name].append(naive.identification_accuracy(r, true))
    assert np.mean(accuracies["noise"]) == pytest.approx(0.5, abs=0.05)
    assert np.mean(accuracies["signal"]) > 0.95


def test_raw_matching_is_refused_where_categories_themselves_are_decoded():
    settings = RankingSettings(match="raw")
    layer = LayerDecoder(np.zeros((2, 1), np.float32), np.zeros(2, np.float32), np.ones(2, np.float32))
    arguments = {"category": layer}, ("a", "b"), {"category": np.eye(2, dtype=np.float32)}, None
    with pytest.raises(InputError, match=r'match = "raw": the categories themselves are decoded .* choose "zscored"'):
        index_categories(settings, *arguments, plain=True)
    features = Features(0, {"category": np.array([1, 3], np.float32)})
    assert index_categories(RankingSettings(), *arguments, plain=True).scores(features).tolist() == [1, 3]


def test_settings_choose_the_matching_and_those_of_older_bundles_z_score(layers, candidates, features):
    older = RankingSettings.model_validate({"combine": "fisher", "n_top": 5})
    ids = tuple(map(str, range(N_CANDIDATES)))
    for settings, match in ((older, "zscored"), (RankingSettings(match="raw"), "raw")):
        scores = index_categories(settings, layers, ids, candidates, None).scores(features)
        assert scores.tobytes() == CategoryIndex(candidates, layers, match=match).scores(features).tobytes()


# ---------------------------------------------------------------- some candidates, many candidates


def test_a_subset_is_ranked_as_it_is_among_all(layers, candidates, features):
    some = np.array([2, 3, 11], np.int32)
    index = CategoryIndex(candidates, layers, positions=some)
    everything = CategoryIndex(candidates, layers)
    order, scores = everything.rank(features)
    among = np.isin(order, some)
    np.testing.assert_array_equal(index.rank(features)[0], order[among])
    np.testing.assert_array_equal(index.rank(features)[1], scores[among])
    np.testing.assert_array_equal(index.scores(features), everything.scores(features)[some])


def test_the_first_few_are_the_beginning_of_the_ranking(layers, candidates, features):
    index = CategoryIndex(candidates, layers)
    for first, all_of_it in zip(index.top(features, 4), index.rank(features), strict=True):
        np.testing.assert_array_equal(first, all_of_it[:4])


N_MANY = 20_000


@pytest.fixture
def few_are_many():
    """Shortlists as for a million candidates, at a size that is built in a second."""
    pytest.importorskip("faiss")


def many(n_queries=20, profile=1):
    """Images of 500 categories in two layers, and queries that are about as like theirs as decoded features are.

    The units' means differ `profile` times as much as 1, where each unit's deviation is 2.
    """
    layers = {
        name: LayerDecoder(normal(n, 1), profile * normal(n), np.full(n, 2, np.float32))
        for name, n in (("a", 30), ("b", 47))
    }
    rng = np.random.default_rng(5)
    candidates, queries = {}, [{} for _ in range(n_queries)]
    for name, layer in layers.items():
        n_units = layer.unit_mean.size
        means = rng.standard_normal((500, n_units))
        images = np.repeat(means, N_MANY // 500, axis=0) + rng.standard_normal((N_MANY, n_units))
        candidates[name] = (layer.unit_mean + layer.unit_sd * images).astype(np.float32)
        for query, mean in zip(queries, means, strict=False):
            query[name] = (layer.unit_mean + layer.unit_sd * (mean + 3 * rng.standard_normal(n_units))).astype(
                np.float32
            )
    return layers, candidates, [Features(i, query) for i, query in enumerate(queries)]


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("match", ["zscored", "raw"])
@pytest.mark.parametrize("combine", ["fisher", "concatenated", "weighted"])
def test_a_shortlist_finds_the_best_of_many_with_their_exact_scores(combine, match):
    layers, candidates, queries = many(profile=np.float32(20 if match == "raw" else 1))
    index = CategoryIndex(candidates, layers, combine, {"a": 0.9, "b": 0.1}, match=match, search="shortlist")
    assert (index.n_candidates, index.n_ranked) == (N_MANY, category_index.N_RANKED)
    found = 0
    for features in queries:
        every_score = index.scores(features)
        order, scores = index.rank(features)
        assert (order.shape, order.dtype, scores.dtype) == ((index.n_ranked,), np.int32, np.float32)
        assert scores.tobytes() == every_score[order].tobytes()
        assert (np.diff(scores) <= 0).all()
        assert np.unique(order).size == order.size
        found += np.isin(np.argsort(-every_score, kind="stable")[:10], index.top(features, 10)[0]).sum()
        # More than a shortlist is good for is sought among all.
        np.testing.assert_array_equal(index.top(features, N_MANY)[0], np.argsort(-every_score, kind="stable"))
    # Raw, correlations with a common profile differ by a few thousandths.
    assert found / (10 * len(queries)) >= (0.99 if match == "zscored" else 0.96)


@pytest.mark.usefixtures("few_are_many")
def test_taking_out_what_candidates_share_changes_no_order():
    layers, candidates, queries = many(5, profile=np.float32(20))
    for combine in ("fisher", "concatenated"):
        index = CategoryIndex(candidates, layers, combine, match="raw", search="shortlist")
        vectors = index._vectors(np.arange(N_MANY, dtype=np.int32))
        for features in queries:
            best = np.argsort(-index.scores(features), kind="stable")[:10]
            about = vectors.astype(float) @ index._vector(index._query(features)).astype(float)
            assert np.isin(best, np.argsort(-about)[:100]).all()


def test_without_their_common_part_rows_differ_as_before():
    """Dot products with a query change by one number for all rows, whatever the segments and the pieces."""
    rng = np.random.default_rng(4)
    profile, rows, query = rng.normal(0, 10, 11), rng.normal(size=(40, 11)), rng.normal(size=11).astype(np.float32)
    rows = (profile + rows).astype(np.float32)
    for ends, piece in (([4, 11], 7), ([4, 9], 40), ([11], 100)):  # columns after the last end are a segment, too
        common = CommonPart(40, lambda positions: rows[positions], np.array(ends), piece)
        coded = common.taken_out(rows)
        about = coded.astype(float) @ common.of_query(query).astype(float)
        dots = rows.astype(float) @ query.astype(float)
        np.testing.assert_allclose(about - about.mean(), dots - dots.mean(), atol=1e-4)
        assert common.products(query).sum() == pytest.approx(dots.mean(), abs=1e-4)
        assert coded.var() < rows.var() / 20


def test_rows_without_a_common_part_are_as_they_were():
    rows = np.array([[1, 2, 0], [-1, -2, 0]], np.float32)
    common = CommonPart(2, lambda positions: rows[positions], np.array([3]), 10)
    np.testing.assert_array_equal(common.taken_out(rows)[:, -3:], rows)


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("match", ["zscored", "raw"])
def test_threads_change_no_byte_of_a_shortlist_s_ranking(match):
    import faiss

    layers, candidates, queries = many(5, profile=np.float32(20 if match == "raw" else 1))
    numba_threads, faiss_threads = numba.get_num_threads(), faiss.omp_get_max_threads()
    results = []
    try:
        for n_threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(n_threads)
            faiss.omp_set_num_threads(n_threads)
            with threadpool_limits(n_threads, user_api="blas"):
                index = CategoryIndex(candidates, layers, match=match, search="shortlist")
                results.append([part.tobytes() for features in queries for part in index.rank(features)])
                vectors = index._vectors(np.arange(5000, dtype=np.int32)), index._vector(index._query(queries[0]))
                results[-1] += [vector.tobytes() for vector in vectors]
    finally:
        numba.set_num_threads(numba_threads)
        faiss.omp_set_num_threads(faiss_threads)
    assert results[0] == results[1]


@pytest.mark.usefixtures("few_are_many")
def test_equal_candidates_of_a_shortlist_keep_their_order():
    layers, candidates, _ = many(1)
    for features in candidates.values():
        features[[700, 9000, 15_000]] = features[3]
    index = CategoryIndex(candidates, layers, positions=np.arange(N_MANY, dtype=np.int32), search="shortlist")
    order, _ = index.rank(Features(0, {name: features[3] for name, features in candidates.items()}))
    assert list(order[:4]) == [3, 700, 9000, 15_000]


def test_without_faiss_few_candidates_are_ranked_and_many_say_what_is_missing(
    monkeypatch, layers, candidates, features
):
    importing = builtins.__import__

    def without_faiss(name, *arguments, **keywords):
        if name == "faiss":
            raise ImportError("no faiss")
        return importing(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    assert CategoryIndex(candidates, layers).rank(features)[0].size == N_CANDIDATES
    monkeypatch.setattr(category_index, "N_SHORTLISTED", N_CANDIDATES - 1)
    with pytest.raises(MissingDependencyError, match=r"pip install .rtgod\[large\]"):
        CategoryIndex(candidates, layers, search="shortlist")


@pytest.mark.usefixtures("few_are_many")
def test_candidates_are_searched_exactly_up_to_a_number_of_bytes_or_as_the_settings_say():
    layers, candidates, queries = many(1)
    size_mb = (sum(features.nbytes for features in candidates.values()) + 2048 * N_MANY) / 1e6

    def ranked(n=N_MANY, **ranking):
        some = {name: features[:n] for name, features in candidates.items()}
        settings = RankingSettings(**ranking)
        return index_categories(settings, layers, [str(i) for i in range(n)], some, None).rank(queries[0])[0].size

    assert ranked() == N_MANY
    assert ranked(exact_up_to_mb=size_mb) == N_MANY
    assert ranked(exact_up_to_mb=0.99 * size_mb) == category_index.N_RANKED
    assert ranked(search="exact", exact_up_to_mb=0.01) == N_MANY
    assert ranked(search="shortlist") == category_index.N_RANKED
    # A shortlist that holds all would only leave out ranks.
    for search in ("auto", "shortlist"):
        assert ranked(category_index.N_SHORTLISTED, search=search, exact_up_to_mb=0.01) == category_index.N_SHORTLISTED
    # Only those that are ranked count.
    few = tuple(map(str, range(category_index.N_SHORTLISTED + 1)))
    assert ranked(candidates=few, exact_up_to_mb=0.9 * size_mb) == len(few)


def test_candidates_standardised_piece_by_piece_have_the_same_bytes(monkeypatch, layers, candidates, features):
    for combine, match in (("fisher", "zscored"), ("concatenated", "zscored"), ("concatenated", "raw")):
        whole = CategoryIndex(candidates, layers, combine, match=match)
        with monkeypatch.context() as patch:
            patch.setattr(category_index, "_PIECE_BYTES", 3 * whole._rows[:1].nbytes + 1)
            pieces = CategoryIndex(candidates, layers, combine, match=match)
        assert pieces._rows.tobytes() == whole._rows.tobytes()
        assert pieces.scores(features).tobytes() == whole.scores(features).tobytes()


def test_of_plain_categories_each_has_its_own_unit():
    """A correlation over two units could only be 1 or −1, and the display would have nothing to show."""
    for n in (2, 5):
        mean, sd = np.full(n, 1 / n, np.float32), np.linspace(0.3, 0.5, n).astype(np.float32)
        layer = LayerDecoder(np.zeros((n, 1), np.float32), mean, sd)
        units = np.linspace(0.1, 0.8, n).astype(np.float32)
        z = (units - mean) / sd
        for combine in ("fisher", "concatenated"):
            index = CategoryIndex({"category": np.eye(n, dtype=np.float32)}, {"category": layer}, combine, plain=True)
            np.testing.assert_allclose(index.scores(Features(0, {"category": units})), z, rtol=1e-6)
            np.testing.assert_allclose(index.correlations(Features(0, {"category": units})), [z], rtol=1e-6)
        some = np.array([0, n - 1], np.int32)
        index = CategoryIndex(
            {"category": np.eye(n, dtype=np.float32)}, {"category": layer}, positions=some, plain=True
        )
        order, scores = index.rank(Features(0, {"category": units}))
        assert order.tolist() == [n - 1, 0]
        np.testing.assert_allclose(scores, z[[n - 1, 0]], rtol=1e-6)


# ---------------------------------------------------------------- candidates on one level


def standardisation_of(n, seed=6):
    """Offsets and scales that change the ranking, about a level as of scores."""
    rng = np.random.default_rng(seed)
    return Standardisation(rng.normal(0, 0.02, n).astype(np.float32), np.exp(rng.normal(0, 0.3, n)).astype(np.float32))


def test_a_standardised_score_is_the_score_less_its_offset_times_its_scale(layers, candidates, features):
    standardisation = standardisation_of(N_CANDIDATES)
    plain = CategoryIndex(candidates, layers).scores(features)
    for positions in (None, np.array([2, 3, 11], np.int32)):
        index = CategoryIndex(candidates, layers, positions=positions, standardisation=standardisation)
        rows = np.arange(N_CANDIDATES) if positions is None else positions
        expected = [(plain[row] - standardisation.offset[row]) * standardisation.scale[row] for row in rows]
        scores = index.scores(features)
        np.testing.assert_array_equal(scores, np.array(expected, np.float32))
        order, ranked = index.rank(features)
        np.testing.assert_array_equal(order, rows[np.argsort(-scores, kind="stable")])
        assert ranked.tobytes() == np.sort(scores)[::-1].tobytes()
    assert (
        np.argsort(-plain)
        != np.argsort(-np.array(CategoryIndex(candidates, layers, standardisation=standardisation).scores(features)))
    ).any()


def test_offset_0_and_scale_1_are_as_none_and_settings_may_leave_it_out(layers, candidates, features):
    plain = CategoryIndex(candidates, layers).scores(features)
    neutral = Standardisation(np.zeros(N_CANDIDATES, np.float32), np.ones(N_CANDIDATES, np.float32))
    scores = CategoryIndex(candidates, layers, standardisation=neutral).scores(features)
    assert (scores.dtype, scores.tobytes()) == (np.float32, plain.tobytes())
    ids = tuple(map(str, range(N_CANDIDATES)))
    for standardise in (True, False):
        settings = RankingSettings(standardise=standardise)
        index = index_categories(
            settings, layers, ids, candidates, None, standardisation=standardisation_of(N_CANDIDATES)
        )
        assert (index.scores(features).tobytes() == plain.tobytes()) is not standardise


@pytest.mark.parametrize("combine", ["fisher", "concatenated"])
def test_many_at_once_are_scored_as_one_by_one(layers, candidates, features, combine):
    index = CategoryIndex(candidates, layers, combine, standardisation=standardisation_of(N_CANDIDATES))
    other = Features(4, {name: 0.5 * values + 1 for name, values in features.layers.items()})
    together = index.scores_of_many({name: np.stack([features.layers[name], other.layers[name]]) for name in layers})
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, [index.scores(features), index.scores(other)], atol=1e-5)


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("match", ["zscored", "raw"])
@pytest.mark.parametrize("combine", ["fisher", "concatenated", "weighted"])
def test_a_shortlist_finds_the_best_standardised_candidates(combine, match):
    layers, candidates, queries = many(profile=np.float32(20 if match == "raw" else 1))
    weights = {"a": 0.9, "b": 0.1}
    plain = CategoryIndex(candidates, layers, combine, weights, match=match).scores(queries[0])
    divisor = np.exp(np.random.default_rng(8).normal(0, 0.15, N_MANY)).astype(np.float32)
    noise = np.random.default_rng(9).normal(0, 0.2 * plain.std(), N_MANY).astype(np.float32)
    standardisation = Standardisation(plain.mean() * (1 - divisor) + noise, 1 / divisor)
    index = CategoryIndex(candidates, layers, combine, weights, match=match, standardisation=standardisation)
    found = 0
    for features in queries:
        every_score = index.scores(features)
        order, scores = index.rank(features)
        assert scores.tobytes() == every_score[order].tobytes()
        found += np.isin(np.argsort(-every_score, kind="stable")[:10], order[:10]).sum()
    assert found / (10 * len(queries)) >= (0.98 if match == "zscored" else 0.95)


@pytest.mark.parametrize(
    ("offset", "scale"), [([0.0, 1.0], [1.0]), ([0.0], [0.0]), ([np.nan], [1.0]), ([0.0], [np.inf])]
)
def test_a_standardisation_that_cannot_be_applied_is_refused(offset, scale):
    with pytest.raises(ValueError, match="candidates' offsets"):
        Standardisation(np.array(offset, np.float32), np.array(scale, np.float32))
