import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.simulation import objects, photograph
from calibration.simulation.objects import object_categories
from calibration.simulation.photograph import draw
from rtgod.errors import InputError

MANY = object_categories(5000, seed=3)
SOME = MANY[:82]


def appearance(image):
    """What stays of an image when place is forgotten: its colour histogram, under the square root."""
    colours = np.histogramdd(image.reshape(-1, 3), bins=6, range=[(0, 256)] * 3)[0].ravel()
    return np.sqrt(colours / colours.sum())


def opacity(category, exemplar, size_px=64):
    return photograph._photograph(category, exemplar, size_px, 0)[1]


def test_names_and_ids_are_unique():
    assert len({c.name for c in MANY}) == len({c.category_id for c in MANY}) == 5000
    assert [c.category_id for c in MANY[:2]] == ["s00000001", "s00000002"]
    assert all(len(c.category_id) == 9 for c in MANY)


def test_the_name_says_what_is_drawn():
    for c in SOME:
        for word in (c.build, c.texture, c.colour, c.accent, c.silhouette, c.part):
            assert word in c.name


@given(n=st.integers(1, 120), seed=st.integers(0, 3))
@settings(max_examples=10)
def test_a_shorter_list_begins_a_longer_one(n, seed):
    assert object_categories(n, seed) == object_categories(120, seed)[:n]


def test_seeds_give_other_categories():
    assert {c.name for c in object_categories(100, 0)} != {c.name for c in object_categories(100, 1)}


def test_neighbours_are_different_things():
    n_silhouettes = len(objects.SILHOUETTES)
    assert {c.silhouette for c in MANY[:n_silhouettes]} == set(objects.SILHOUETTES)
    assert all(a.silhouette != b.silhouette for a, b in pairwise(MANY))
    n_distinct = n_silhouettes * len(objects.TEXTURES)
    assert len({(c.silhouette, c.texture) for c in MANY[:n_distinct]}) == n_distinct


@pytest.mark.parametrize("n_categories", [0, -1, 10**8])
def test_refuses_what_the_grammar_cannot_name(n_categories):
    with pytest.raises(InputError, match="n_categories"):
        object_categories(n_categories, 0)


def test_refuses_impossible_drawings():
    with pytest.raises(InputError, match="size_px"):
        draw(SOME[0], 0, size_px=15)
    with pytest.raises(InputError, match="exemplar"):
        draw(SOME[0], -1)


@given(number=st.integers(0, 4999), exemplar=st.integers(0, 10**6), size_px=st.integers(16, 96), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_an_image_is_a_function_of_its_arguments(number, exemplar, size_px, seed):
    image = draw(MANY[number], exemplar, size_px, seed)
    assert image.shape == (size_px, size_px, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.tobytes() == draw(dataclasses.replace(MANY[number]), exemplar, size_px, seed).tobytes()


def test_exemplars_and_seeds_differ():
    images = [draw(SOME[0], e, 32, seed) for e in range(4) for seed in range(2)]
    assert len({image.tobytes() for image in images}) == 8


@pytest.mark.parametrize("part", objects.PARTS)
def test_an_object_fills_the_image_but_not_its_border(part):
    for number, c in enumerate(SOME[:: 2 if part else 1]):
        alpha = opacity(dataclasses.replace(c, part=part), exemplar=number)
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert border.max() == 0, c.name
        assert 0.04 < alpha.mean() < 0.7, c.name


def test_drawing_stays_in_single_precision():
    # A double among the fields would halve the speed, and nothing else would tell.
    assert {opacity(c, 0, 32).dtype for c in SOME} == {np.dtype(np.float32)}
    x = np.linspace(-1, 1, 9, dtype=np.float32)
    pattern = objects.TextureCoordinates(x, x, x, x, x, 2.0)
    assert {t(pattern).dtype for t in objects.TEXTURES.values()} == {np.dtype(np.float32)}


def test_edges_are_anti_aliased():
    alpha = opacity(SOME[0], 0, 160)
    partial = (alpha > 0) & (alpha < 1)
    assert 0.005 < partial.mean() < 0.1


def test_scale_does_not_change_the_object():
    small, large = draw(SOME[1], 0, 48).astype(float), draw(SOME[1], 0, 192).astype(float)
    shrunk = large.reshape(48, 4, 48, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - shrunk).mean() < 10


def test_categories_are_farther_apart_than_exemplars():
    features = np.array([[appearance(draw(c, e, 48)) for e in range(5)] for c in SOME[:40]])
    means = features.mean(axis=1)
    within = np.linalg.norm(features - means[:, None], axis=2).mean()
    between = np.linalg.norm(means[:, None] - means[None], axis=2)[~np.eye(40, dtype=bool)].mean()
    assert between > 1.1 * within
    # Each exemplar against the means of the others: its own category should be near the top.
    held_out = features[:, 0]
    others = features[:, 1:].mean(axis=1)
    distance = np.linalg.norm(held_out[:, None] - others[None], axis=2)
    rank = (distance < np.diag(distance)[:, None]).sum(axis=1)
    assert rank.mean() < 0.25 * 40
