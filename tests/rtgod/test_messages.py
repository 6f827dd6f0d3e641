"""Messages: what they refuse to hold, and that nobody can write to what they hold."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from rtgod.messages import VOLUME_DTYPES, Block, NotReady, Pattern, Reason, RunEnd, Volume, read_only
from tests import small
from tests.small import RANKING, STILL


def ramp(*diagonal):
    return np.diag([*diagonal, 1.0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tr_s": 0.0}, "tr_s"),
        ({"tr_s": -2.0}, "tr_s"),
        ({"tr_s": math.nan}, "tr_s"),
        ({"tr_s": math.inf}, "tr_s"),
        ({"shape": (4, 4)}, "shape"),
        ({"shape": (4, 4, 0)}, "shape"),
        ({"shape": (4, -4, 4)}, "shape"),
        ({"affine": np.eye(3)}, "4 x 4"),
        ({"affine": ramp(1, 1, math.nan)}, "finite"),
        ({"affine": ramp(1, 1, math.inf)}, "finite"),
        ({"affine": ramp(1e200, 1e200, 1e200)}, "below"),
        ({"affine": ramp(1, 1, 0)}, "singular"),
        ({"affine": np.eye(4)[::-1]}, "last row"),
        ({"n_volumes": 0}, "n_volumes"),
        ({"n_volumes": -1}, "n_volumes"),
    ],
)
def test_an_impossible_run_is_a_value_error(changes, says):
    with pytest.raises(ValueError, match=says):
        small.run(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": np.zeros((2, 2), "int16")}, "shape"),
        ({"data": np.zeros((2, 2, 2, 1), "int16")}, "shape"),
        ({"data": np.zeros((0, 2, 2), "int16")}, "shape"),
        ({"data": np.zeros((2, 2, 2), "int64")}, "int64"),
        ({"data": np.zeros((2, 2, 2), "complex64")}, "complex64"),
        ({"data": np.zeros((2, 2, 2), object)}, "object"),
        ({"index": -1}, "index"),
        ({"acquired_s": math.nan}, "acquired_s"),
        ({"acquired_s": math.inf}, "acquired_s"),
    ],
)
def test_an_impossible_volume_is_a_value_error(changes, says):
    with pytest.raises(ValueError, match=says):
        replace(small.volume(0), **changes)


@pytest.mark.parametrize("onset_s", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_block_is_a_value_error(onset_s, duration_s):
    for block in ((onset_s, 1.0), (0.0, duration_s)):
        with pytest.raises(ValueError, match="block"):
            Block(*block)


def test_a_run_cannot_end_after_less_than_no_volumes():
    assert RunEnd("run-1", 0).n_volumes == 0
    with pytest.raises(ValueError, match="negative"):
        RunEnd("run-1", -1)


@pytest.mark.parametrize("scores", [np.zeros(2), np.zeros((3, 1))])
def test_a_ranking_has_one_score_for_each_candidate(scores):
    with pytest.raises(ValueError, match="one of each"):
        replace(RANKING, scores=scores)


@pytest.mark.parametrize("residual", [math.inf, math.nan])
def test_a_residual_that_is_no_number_is_given_as_none(residual):
    assert replace(STILL, residual=residual).residual is None
    assert replace(STILL, residual=0.5).residual == 0.5


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (small.run(), "affine"),
        (small.volume(0), "data"),
        (Pattern("run-1", 0, np.zeros(3), 0, STILL, censored=False), "values"),
        (RANKING, "order"),
        (RANKING, "scores"),
    ],
)
def test_arrays_and_fields_cannot_be_written_to(message, name):
    array = getattr(message, name)
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0
    assert array.flags.c_contiguous
    with pytest.raises(FrozenInstanceError):
        setattr(message, name, array)


@pytest.mark.parametrize("dtype", VOLUME_DTYPES)
def test_a_volume_keeps_its_voxels_whatever_their_byte_order_and_layout(dtype):
    data = np.arange(24).reshape(2, 3, 4).astype(dtype)
    big, transposed = data.astype(np.dtype(dtype).newbyteorder(">")), np.asfortranarray(data)
    for given in (data, big, transposed):
        held = Volume("run-1", 0, 0.0, given).data
        np.testing.assert_array_equal(held, data)
        assert held.dtype == np.dtype(dtype)
        assert held.dtype.isnative
        assert held.flags.c_contiguous
    assert np.shares_memory(Volume("run-1", 0, 0.0, data).data, data)


def test_read_only_leaves_the_caller_its_own_array_to_write_to():
    mine = np.zeros(3)
    held = read_only(mine)
    assert np.shares_memory(held, mine)
    assert mine.flags.writeable
    assert not held.flags.writeable


def test_reasons_read_as_words():
    assert f"{NotReady('run-1', 0, Reason.LOST_VOLUME).reason}" == "lost volume"


@pytest.mark.parametrize(
    ("run_id", "name"),
    [("run-1", "run-1"), ("run-1~2", "run-1"), ("run-1~2~13", "run-1~2"), ("run~x", "run~x"), ("~", "~")],
)
def test_a_run_has_one_name_for_all_its_acquisitions(run_id, name):
    assert small.run(run_id).name == name
