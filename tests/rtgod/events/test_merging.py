"""Which tables are of blocks that have a row for each picture: those of localizers, and no others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.events.merging import always_alone, choose_gap, merge
from rtgod.events.trials import Trial

CATEGORIES = ["face", "house", "tool", "body"]


def pictures(n_blocks=8, n_pictures=10, on_s=0.5, off_s=0.5, rest_s=10.0, categories=CATEGORIES):
    """Blocks of pictures, as a localizer has them."""
    trials, at_s = [], 6.0
    for block in range(n_blocks):
        for picture in range(n_pictures):
            category = categories[block % len(categories)]
            trials.append(Trial(at_s, on_s, "stimulus", category, f"{category}/{block}_{picture}.png"))
            at_s += on_s + off_s
        at_s += rest_s
    return trials


def in_turn(categories, duration_s, apart_s):
    """One trial after the other."""
    return [Trial(6 + apart_s * k, duration_s, "stimulus", category) for k, category in enumerate(categories)]


@pytest.mark.parametrize(
    "design",
    [
        {},
        {"on_s": 0.9, "off_s": 0.1, "n_pictures": 16},
        {"on_s": 0.3, "off_s": 0.7, "n_pictures": 20},
        {"on_s": 2.0, "off_s": 0.5},
        {"on_s": 0.0, "off_s": 1.0},
        {"on_s": 0.5, "off_s": 0.0, "n_pictures": 8, "rest_s": 0.0},  # one block after the other
        {"n_pictures": 4, "on_s": 1.0, "rest_s": 6.0},
        {"categories": ["face"]},
    ],
)
def test_blocks_of_pictures_are_blocks(design):
    trials = pictures(**design)
    blocks, merging = merge(trials, choose_gap(trials), is_chosen=True)
    assert (len(blocks), merging.n_trials, merging.n_rows) == (8, 8, len(trials))
    n, on_s, off_s = design.get("n_pictures", 10), design.get("on_s", 0.5), design.get("off_s", 0.5)
    assert [block.duration_s for block in blocks] == pytest.approx([n * on_s + (n - 1) * off_s] * 8)
    assert [block.category for block in blocks[:4]] == [trial.category for trial in trials[::n][:4]]
    assert blocks[0].stimulus is None
    assert blocks[0].images == tuple(trial.stimulus for trial in trials[:n])


@pytest.mark.parametrize(
    "trials",
    [
        pictures(n_pictures=1, on_s=16.0),  # blocks already
        pictures(n_pictures=2),  # pairs, which chance makes too
        pictures(n_blocks=1),  # nothing to tell apart
        pictures(n_pictures=200),  # a stream
        in_turn(["face", "face", "face", "house", "house", "face"] * 4, 9.0, 9.0),  # one after the other, long
        in_turn(["face"] * 30, 3.0, 4.0),  # one type of trial, as where images are what is decoded
        in_turn(["face"] * 30, 0.5, 1.0),
        in_turn(CATEGORIES * 5, 1.0, 2.0),
        in_turn(["face"] * 7, 19.7, 39.4),
        [],
        in_turn(["face"], 1.0, 1.0),
    ],
)
def test_other_designs_are_left_as_they_are(trials):
    assert choose_gap(trials) == 0


@pytest.mark.parametrize(("name", "duration_s"), [("chime", 1.0), ("Aus", 8.0), ("hit", 0.0)])
def test_what_comes_alone_before_each_block_does_not_keep_blocks_apart(name, duration_s):
    shown = pictures()
    before = [Trial(trial.onset_s - 9, duration_s, "stimulus", name) for trial in shown[::10]]
    trials = sorted([*shown, *before], key=lambda trial: trial.onset_s)
    gap_s = choose_gap(trials)
    blocks, _ = merge(trials, gap_s, is_chosen=True)
    assert sum(block.category != name for block in blocks) == 8
    assert always_alone(trials, gap_s) == {name: 8}


def test_a_few_of_a_kind_that_follow_each_other_make_no_blocks_of_the_rest():
    trials = in_turn([*"abcdefgh", *["face"] * 3, *"ijklmnop", *["house"] * 3], 1.0, 2.0)
    assert choose_gap(trials) == 0


@given(seed=st.integers(0, 10_000), n_categories=st.integers(2, 6), apart_s=st.floats(0.6, 12))
def test_event_related_designs_are_hardly_ever_blocks(seed, n_categories, apart_s):
    drawn = np.random.default_rng(seed).integers(n_categories, size=60)
    assert choose_gap(in_turn([CATEGORIES[k % 4] + str(k) for k in drawn], 0.5, apart_s)) == 0


def test_the_gap_follows_the_jitter():
    rng = np.random.default_rng(0)
    trials, at_s = [], 6.0
    for block in range(6):
        for _ in range(8):
            trials.append(Trial(at_s, 0.3, "stimulus", CATEGORIES[block % 3]))
            at_s += 0.3 + rng.uniform(0.4, 1.2)
        at_s += 8
    assert len(merge(trials, choose_gap(trials), is_chosen=True)[0]) == 6


def test_what_was_merged_is_counted():
    blocks, merging = merge(pictures(n_blocks=2), 0.5, is_chosen=False)
    assert len(blocks) == 2
    assert (merging.n_rows, merging.n_trials, merging.row_s, merging.trial_s) == (20, 2, 0.5, 9.5)
    assert merging.gap_s == pytest.approx(0.5)
    assert not merging.is_chosen
    assert merge(in_turn(CATEGORIES, 1, 2), 0.5, is_chosen=False)[1] is None
