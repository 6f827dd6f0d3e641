"""Region expressions against Python's sets, and against the lab's own package where that reads them right."""

import contextlib

import bdpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.datasets.regions import find_name, names_in, select_region
from rtgod.errors import InputError

REGIONS = {
    "V1": [0, 1, 2, 7],
    "V2": [2, 3],
    "FFA": [5],
    "LH_V1": [0, 1],
    "ROI_PPA": [3, 6],
    "hcp.V1-2": [8],
    "none": [],
}
REGIONS = {name: np.array(indices, np.int64) for name, indices in REGIONS.items()}
PLAIN = ("V1", "V2", "FFA", "LH_V1")
SETS = {"+": set.union, "|": set.union, "-": set.difference, "&": set.intersection}

#: Expressions as nested (left, sign, right), with every pair in parentheses or, for chains, from left to right.
leaves = st.sampled_from(sorted(REGIONS))
trees = st.recursive(leaves, lambda inner: st.tuples(inner, st.sampled_from("+|-&"), inner), max_leaves=8)


def written(tree, spaces=" "):
    if isinstance(tree, str):
        return f'"{tree}"' if "-" in tree else tree
    left, sign, right = tree
    # The left one of a chain needs no parentheses: nothing binds closer than anything else.
    right = f"({written(right, spaces)})" if isinstance(right, tuple) else written(right, spaces)
    return f"{written(left, spaces)}{spaces}{sign}{spaces}{right}"


def as_set(tree):
    if isinstance(tree, str):
        return set(REGIONS[tree].tolist())
    left, sign, right = tree
    return SETS[sign](as_set(left), as_set(right))


@given(tree=trees, spaces=st.sampled_from(["", " ", "  "]))
@settings(max_examples=200)
def test_an_expression_is_what_python_s_sets_say(tree, spaces):
    found = select_region(written(tree, spaces), REGIONS)
    assert found.tolist() == sorted(as_set(tree))


@given(
    names=st.lists(st.sampled_from(PLAIN), min_size=2, max_size=6), signs=st.lists(st.sampled_from("+-&"), min_size=6)
)
@settings(max_examples=50)
def test_without_parentheses_it_is_what_bdpy_selects(names, signs):
    data = bdpy.BData()
    data.add(np.arange(9.0)[np.newaxis], "VoxelData")
    for name in PLAIN:
        data.add_metadata(f"ROI_{name}", np.isin(np.arange(9), REGIONS[name]).astype(float))
    expression = f"ROI_{names[0]}" + "".join(f" {s} ROI_{n}" for s, n in zip(signs, names[1:], strict=False))
    assert select_region(expression, REGIONS).tolist() == data.select(expression)[0].tolist()


@pytest.mark.parametrize("written", ["ROI_V1 = 1", "ROI_V1=1", "(V1)", '"V1"', "((V1))", "V1 + none", "V1 & V1"])
def test_the_toolbox_s_ways_to_write_a_region(written):
    assert select_region(written, REGIONS).tolist() == [0, 1, 2, 7]


def test_a_name_is_found_with_and_without_its_prefix():
    assert [find_name(name, REGIONS) for name in ("ROI_V1", "PPA", "ROI_PPA")] == ["V1", "ROI_PPA", "ROI_PPA"]
    assert names_in("ROI_V1 + (V2 = 1 - ROI_V1)") == ("ROI_V1", "V2")


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "ends before it is complete"),
        ("V1 +", "ends before it is complete"),
        ("(V1", "ends before it is complete"),
        ("V1)", "a parenthesis closes that was not opened"),
        ("V1 V2", "'V2' is not expected there"),
        ("V1 + + V2", "'[+]' is not expected there"),
        ("()", "'[)]' is not expected there"),
        ("V1 (V2)", "'[(]' is not expected there"),
        ("V1 * V2", r"cannot be read from '\* V2' on; write names joined by"),
        ('"V1', "cannot be read from"),
        ("V1 + V9", "no region 'V9'; there: FFA, LH_V1, ROI_PPA, V1, V2, hcp.V1-2, none; choose .*--region"),
    ],
)
def test_what_is_no_expression_is_refused(expression, says):
    with pytest.raises(InputError, match=says):
        select_region(expression, REGIONS)


@given(expression=st.text('V12 +-&|()="_.', max_size=20) | st.text(max_size=12))
@settings(max_examples=200)
def test_no_text_raises_anything_but_an_input_error(expression):
    with contextlib.suppress(InputError):
        found = select_region(expression, REGIONS)
        assert (np.diff(found) > 0).all()
