"""Messages: what they refuse to hold, and that nobody can write to what they hold."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from rtgod.messages import (
    VOLUME_DTYPES,
    Block,
    Event,
    NotReady,
    Pattern,
    Ping,
    Reason,
    RunEnd,
    Volume,
    read_only,
)
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
        ({"n_volumes": 2**31}, "n_volumes is 2147483648; 1 to 100000 are possible"),
        ({"n_volumes": 10**400}, "n_volumes is a number of 1329 bits"),
        ({"tr_s": 2000.0}, "tr_s is 2000; .* is it in milliseconds"),
        ({"tr_s": 0.002}, "tr_s is 0.002; a repetition time of 0.05 to 60 s"),
        ({"tr_s": 5e-324}, "tr_s"),
        ({"shape": (100_000, 100_000, 100_000)}, "at most 1024 voxels along an axis"),
        ({"shape": (1024, 1024, 9)}, "8388608 in all"),
        ({"shape": (10**400, 4, 4)}, "a number of 1329 bits"),
        ({"affine": ramp(0.004, 0.004, 0.004)}, "voxels of 0.004 × 0.004 × 0.004 mm .* in metres or micrometres"),
        ({"affine": ramp(1e-9, 1e5, 1e5)}, "mm are none of a head"),
        ({"affine": ramp(4000, 4000, 4000)}, "mm are none of a head"),
        ({"affine": ramp(4, 4, 4) @ [[1, 1, 1, 0], [0, 1e-3, 1, 0], [0, 0, 1e-3, 0], [0, 0, 0, 1]]}, "one plane"),
        ({"affine": ramp(4, 4, 4) + np.array([[0, 0, 0, 9e5]] + 3 * [[0] * 4])}, "centre"),
        ({"run_id": "r" * 301}, "run_id has 301 characters .* at most 300"),
        ({"run_id": "r~" + "9" * 600_000}, "run_id has 600002 characters"),
        ({"subject": "s" * 600_000}, "subject has 600000 characters"),
        ({"acquisition": "a" * 301}, "acquisition has 301"),
        ({"blocks": (Block(0.0, 1.0),) * 5_001}, "5001 blocks"),
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
        ({"acquired_s": -1e308}, "acquired_s"),
        ({"index": 100_000}, "index is 100000; a run has at most 100000"),
        ({"index": 10**400}, "a number of 1329 bits"),
        ({"held_s": 1e308}, "held_s"),
        ({"n_waiting": 10**400}, "n_waiting a number of 1329 bits"),
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


@pytest.mark.parametrize("times", [(1e308, 1.0), (1.0, 1e308), (1_700_000_000.0, 9.0), (0.0, 86_401.0)])
def test_a_block_that_no_run_can_hold_is_asked_for_its_unit(times):
    with pytest.raises(ValueError, match="no run lasts longer than 86400 s; are these milliseconds"):
        Block(*times)


def test_what_a_scanner_may_do_is_possible():
    """The bounds leave out none of what is scanned: fast and slow, coarse and fine, oblique, far from the centre."""
    oblique = np.array([[2.1, 0.3, -0.2, -90], [-0.3, 2.0, 0.5, -120], [0.2, -0.4, 2.4, 30], [0, 0, 0, 1]])
    for changes in (
        {"tr_s": 0.05, "n_volumes": 500},
        {"tr_s": 60.0},
        {"shape": (256, 256, 128), "affine": ramp(0.7, 0.7, 0.8)},
        {"shape": (10, 8, 1), "affine": ramp(25, 25, 25)},
        {"affine": oblique},
        {"affine": np.diag([-3.0, 3.0, 3.0, 1.0]) + np.array([[0, 0, 0, 900.0]] + 3 * [[0] * 4])},
        {"n_volumes": 100_000},
        {"blocks": (Block(22.5, 1.6),)},
    ):
        assert small.run(**changes)


def test_texts_have_a_longest_length():
    assert Event("c", 0, "k", 0.0, value="v" * 10_000)
    for event in ({"kind": "k" * 101}, {"value": "v" * 10_001}, {"client": "c" * 101}, {"number": 2**63}):
        with pytest.raises(ValueError, match=r"character|number"):
            Event(**({"client": "c", "number": 0, "kind": "k", "at_s": 0.0} | event))
    with pytest.raises(ValueError, match="kind has 600000 characters"):
        Ping("c", "k" * 600_000, 0.0)


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
