import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calibration.evaluation import semantic_distance
from calibration.evaluation.semantic_distance import Hypernyms, semantic_errors
from rtgod.errors import InputError
from tests import naive

BIRDS = """
entity animal
entity artifact
animal bird
bird duck
bird goose
duck mallard
animal dog
artifact truck
artifact decoy
bird decoy
"""


def read(folder, table):
    path = folder / "is_a.txt"
    path.write_text(table)
    return Hypernyms.read(path)


@pytest.fixture
def birds(tmp_path):
    return read(tmp_path, BIRDS)


@pytest.fixture(scope="session")
def wordnet(shared_data):
    return Hypernyms.read(shared_data / "wordnet" / "wordnet.is_a.txt")


@pytest.fixture(scope="session")
def links(shared_data):
    return [line.split() for line in (shared_data / "wordnet" / "wordnet.is_a.txt").read_text().splitlines()]


# -------------------------------------------------------------------------------------------------------- distance


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("duck", "duck", 0),
        ("duck", "bird", 1),  # a kind of it
        ("duck", "goose", 2),  # two of a kind
        ("mallard", "goose", 3),
        ("duck", "dog", 3),
        ("truck", "decoy", 2),
        ("duck", "decoy", 2),  # by its other parent
        ("bird", "artifact", 3),  # by way of the entity, although the decoy, a kind of both, is nearer
        ("duck", "truck", 5),
        ("dog", "truck", 4),
        ("entity", "mallard", 4),
    ],
)
def test_distance_counts_links(birds, a, b, expected):
    assert birds.distance(a, b) == birds.distance(b, a) == expected


@st.composite
def hierarchies(draw):
    """Links of a few trees and more: every node but the first of each has a parent among the earlier ones."""
    n = draw(st.integers(2, 14))
    pairs = set()
    for child in range(1, n):
        parents = draw(st.sets(st.integers(0, child - 1), min_size=child == 1, max_size=3))
        pairs |= {(str(parent), str(child)) for parent in parents}
    return draw(st.permutations(sorted(pairs)))


@given(pairs=hierarchies())
def test_distances_are_the_shortest_through_a_common_ancestor(tmp_path_factory, pairs):
    hypernyms = read(tmp_path_factory.mktemp("links"), "".join(f"{parent} {child}\n" for parent, child in pairs))
    nodes = list(hypernyms.parents)
    found = hypernyms.distances(nodes[1:], nodes)
    assert found.tolist() == naive.path_distances(pairs, nodes[1:], nodes)


def test_a_category_given_twice_and_a_link_given_twice_change_nothing(tmp_path):
    hypernyms = read(tmp_path, "bird duck\nbird goose\nbird duck\n")
    assert hypernyms.distances(["duck", "duck", "bird"], ["goose", "duck"]).tolist() == [[2, 0], [2, 0], [1, 1]]


def test_no_categories_have_no_distances(birds):
    assert birds.distances([], ["duck"]).shape == (0, 1)
    assert birds.distances(["duck"], []).shape == (1, 0)


def test_trees_are_joined_above_their_tops(tmp_path):
    two = read(tmp_path, "animal dog\ntool saw\n")
    assert two.distance("animal", "tool") == 2
    assert two.distance("dog", "saw") == 4


def test_wordnet_duck_is_nearer_to_goose_than_to_truck(wordnet):
    bird, duck, goose, truck, mammal = "n01503061", "n01846331", "n01855672", "n04490091", "n01861778"
    assert wordnet.distance(duck, goose) == 2
    assert wordnet.distance(duck, goose) < wordnet.distance(duck, truck)
    assert wordnet.distance(duck, bird) < wordnet.distance(duck, mammal) < wordnet.distance(duck, truck)


def test_wordnet_horse_is_not_near_to_greyhound_by_way_of_steeplechaser(wordnet):
    horse, steeplechaser, racer, greyhound, truck = "n02374451", "n02384741", "n02384858", "n02090827", "n04490091"
    assert wordnet.distance(horse, steeplechaser) == wordnet.distance(steeplechaser, racer) == 1
    assert wordnet.distance(racer, greyhound) == 1
    assert 3 < wordnet.distance(horse, greyhound) < wordnet.distance(horse, truck)


def test_wordnet_distances_are_the_shortest_through_a_common_ancestor(wordnet, links):
    rng = np.random.default_rng(0)
    few, many = (rng.choice(list(wordnet.parents), n, replace=False).tolist() for n in (40, 200))
    found = wordnet.distances(few, many)
    assert found.tolist() == naive.path_distances(links, few, many)
    np.testing.assert_array_equal(found, wordnet.distances(many, few).T)


def test_wordnet_has_every_category_of_the_published_study(wordnet, shared_data):
    names = (shared_data / "god-lists").glob("stimulus_ImageNet*.tsv")
    categories = sorted({line.split("_")[0] for path in names for line in path.read_text().splitlines()})
    distances = wordnet.distances(categories, categories)
    assert len(categories) == 200
    assert distances.min() == 0
    assert (distances == 0).sum() == 200
    assert distances.max() < 40


# ------------------------------------------------------------------------------------------------------- bad tables


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a b\nc\n", "line 2: 'c' is not two categories"),
        ("a b\n\na b c\n", "line 3: 'a b c' is not two categories"),
        ("a a\n", "line 1: 'a a'"),
        ("", "empty"),
        ("\n \n", "empty"),
        ("a b\nc d\nd c\n", "c > d > c is a circle of kinds"),
        ("a b\nc d\nd e\ne c\n", "c > d > e > c is a circle of kinds"),
    ],
)
def test_a_bad_table_is_refused_and_the_place_named(tmp_path, table, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read(tmp_path, table)


def test_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing\.txt: cannot be read"):
        Hypernyms.read(tmp_path / "missing.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        Hypernyms.read(tmp_path / "bytes")


def test_categories_that_the_table_lacks_are_named(birds):
    assert "unicorn" not in birds
    assert "duck" in birds
    with pytest.raises(InputError, match="does not have: unicorn"):
        birds.distance("duck", "unicorn")
    with pytest.raises(InputError, match="does not have: x0, x1, x2, x3, x4 and 2 more"):
        birds.distances(["duck"], [f"x{i}" for i in range(7)])


# ----------------------------------------------------------------------------------------------------------- errors


def test_errors_are_measured_and_right_answers_are_not(birds):
    errors = semantic_errors(["goose", "duck", "truck", "dog"], ["duck", "duck", "duck", "dog"], birds)
    assert errors.n_errors == 2
    assert errors.observed == pytest.approx((2 + 5) / 2)
    assert errors.missing == ()
    # One label alone: no shuffle changes anything.
    assert errors.shuffled == errors.observed
    assert (errors.p_value, errors.p_least) == (1.0, 1.0)


def test_categories_count_alike_however_many_errors_they_have(birds):
    errors = semantic_errors(["goose"] * 8 + ["truck"], ["duck"] * 8 + ["decoy"], birds)
    assert errors.observed == pytest.approx((2 + birds.distance("truck", "decoy")) / 2)


def test_the_null_is_that_of_shuffled_labels_of_categories(birds):
    chosen, true = ["goose", "goose", "truck", "dog"], ["duck", "duck", "decoy", "goose"]
    errors = semantic_errors(chosen, true, birds)
    means = set()
    for labels in (("duck", "decoy", "goose"), ("decoy", "goose", "duck"), ("goose", "duck", "decoy"),
                   ("decoy", "duck", "goose"), ("goose", "decoy", "duck"), ("duck", "goose", "decoy")):  # fmt: skip
        new = dict(zip(("duck", "decoy", "goose"), labels, strict=True))
        of_category = {}
        for c, t in zip(chosen, true, strict=True):
            if c != new[t]:
                of_category.setdefault(t, []).append(birds.distance(c, new[t]))
        means.add(round(np.mean([np.mean(links) for links in of_category.values()]), 9))
    assert set(np.round(errors.null, 9)) == means
    assert errors.shuffled == pytest.approx(errors.null.mean())


def test_a_shuffle_without_errors_has_no_mean(birds):
    """Two categories mistaken for each other: exchanged, both are right."""
    errors = semantic_errors(["duck", "goose"], ["goose", "duck"], birds)
    assert set(errors.null) == {2.0}
    assert 0 < len(errors.null) < semantic_distance.N_PERMUTATIONS
    assert errors.p_value == 1.0


def test_neighbours_are_told_from_chance(wordnet):
    categories, near = _categories_and_neighbours(wordnet)
    errors = semantic_errors(near, categories, wordnet)
    assert errors.n_errors == len(categories)
    assert errors.observed < errors.shuffled - 4
    assert errors.p_value == pytest.approx(1 / (1 + semantic_distance.N_PERMUTATIONS))


def test_p_is_uniform_where_errors_mean_nothing(tmp_path, monkeypatch):
    """Also where the blocks of a category err alike."""
    monkeypatch.setattr(semantic_distance, "N_PERMUTATIONS", 199)
    rng = np.random.default_rng(0)
    tree = read(tmp_path, "".join(f"{rng.integers(child)} {child}\n" for child in range(1, 80)))
    p = []
    for seed in range(200):
        true, chosen = (np.repeat(rng.choice(80, 12, replace=False), 3).astype(str).tolist() for _ in range(2))
        p.append(semantic_errors(chosen, true, tree, seed=seed).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("n_frequent", [3, 60])
def test_one_answer_to_all_is_no_nearer_than_chance(tmp_path, n_frequent):
    """Also where it is a near relative of a frequent category: the errors would be near without any knowledge."""
    tree = read(tmp_path, "root a\nroot b\na a1\na a2\n" + "".join(f"b b{i}\n" for i in range(12)))
    true = ["a1"] * n_frequent + [f"b{i}" for i in range(12) for _ in range(3)]
    errors = semantic_errors(["a2"] * len(true), true, tree)
    assert (errors.p_value, errors.n_errors) == (1.0, len(true))
    assert errors.observed == pytest.approx(errors.shuffled)


def test_shuffled_answers_of_unequal_categories_are_significant_by_chance(tmp_path, monkeypatch):
    monkeypatch.setattr(semantic_distance, "N_PERMUTATIONS", 199)
    rng = np.random.default_rng(1)
    tree = read(tmp_path, "".join(f"{rng.integers(child)} {child}\n" for child in range(1, 60)))
    p = []
    for seed in range(200):
        categories, answers = (rng.choice(60, 10, replace=False).astype(str) for _ in range(2))
        counts = rng.permutation([1, 1, 1, 2, 2, 3, 5, 10, 20, 40])
        # Each category's blocks have answers of their own, some of them often, whatever the category is.
        chosen = [answer for n in counts for answer in rng.choice(answers, n, p=rng.dirichlet(np.full(10, 0.3)))]
        p.append(semantic_errors(chosen, np.repeat(categories, counts).tolist(), tree, seed=seed).p_value)
    assert np.mean(np.array(p) <= 0.05) < 0.09
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_p_is_not_too_small_where_runs_test_each_other(tmp_path, monkeypatch):
    """Each run is decoded by ridge regression on the others, of patterns without any signal."""
    monkeypatch.setattr(semantic_distance, "N_PERMUTATIONS", 199)
    tree = read(tmp_path, "".join(f"{(child - 1) // 2} {child}\n" for child in range(1, 31)))
    leaves, p = [str(leaf) for leaf in range(15, 31)], {False: [], True: []}
    links = tree.distances(leaves, leaves)
    similar = np.linalg.eigh(np.exp(-links.astype(float)))
    features = similar[1] * np.sqrt(np.maximum(similar[0], 0))  # near categories have similar features
    true, runs = np.tile(np.arange(16), 6), np.repeat(np.arange(6), 16)
    for seed in range(200):
        X = np.random.default_rng(seed).normal(size=(len(true), 60))
        chosen = np.empty(len(true), int)
        for run in range(6):
            kept = runs != run
            dual = np.linalg.solve(X[kept] @ X[kept].T + 60 * np.eye(kept.sum()), features[true[kept]])
            chosen[~kept] = np.corrcoef(X[~kept] @ X[kept].T @ dual, features)[:16, 16:].argmax(axis=1)
        for folded, values in p.items():
            arguments = [leaves[i] for i in chosen], [leaves[i] for i in true], tree
            values.append(semantic_errors(*arguments, folded=folded, seed=seed).p_value)
    assert np.mean(np.array(p[True]) <= 0.05) < 0.08
    assert np.mean(np.array(p[True]) <= 0.05) <= np.mean(np.array(p[False]) <= 0.05)


def test_what_the_table_lacks_is_reported_and_left_out(birds):
    errors = semantic_errors(["goose", "unicorn", "goose"], ["duck", "duck", "centaur"], birds)
    assert errors.missing == ("centaur", "unicorn")
    assert (errors.n_errors, errors.observed) == (1, 2.0)


def test_no_errors_have_no_distance(birds):
    errors = semantic_errors(["duck", "dog"], ["duck", "dog"], birds)
    assert (errors.n_errors, len(errors.null)) == (0, 0)
    assert np.isnan([errors.observed, errors.shuffled, errors.p_value]).all()


def _categories_and_neighbours(wordnet: Hypernyms):
    """Thirty categories, and for each the nearest other one of a thousand."""
    names = [str(n) for n in np.random.default_rng(1).choice(list(wordnet.parents), 1000, replace=False)]
    distances = wordnet.distances(names[:30], names).astype(float)
    distances[np.arange(30), np.arange(30)] = np.inf
    return names[:30], [names[i] for i in distances.argmin(axis=1)]
