"""The choice of echoes on the command line, and their weights."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.sources import open_source
from rtgod.sources.echoes import Combine, combined, echo_of, weights_of
from tests import naive


@pytest.mark.parametrize(
    ("text", "echo"),
    [("", 0), ("0", 0), ("2", 2), ("combine", Combine(45.0)), ("combine:28", Combine(28.0)), (" 1 ", 1)],
)
def test_a_choice_is_read(text, echo):
    assert echo_of(text) == echo


@pytest.mark.parametrize("text", ["-1", "one", "combine:", "combine:0", "combine:1e9", "combine:4000", "1:45", "²"])
def test_what_is_no_choice_is_refused(text):
    with pytest.raises(InputError, match="--echo"):
        echo_of(text)


@given(
    echoes_ms=st.lists(st.floats(1, 100), min_size=2, max_size=6, unique=True),
    t2star_ms=st.floats(5, 200),
    seed=st.integers(0, 99),
)
def test_weights_are_those_of_the_formula(echoes_ms, t2star_ms, seed):
    weights = weights_of(echoes_ms, t2star_ms)
    assert math.fsum(weights) == pytest.approx(1.0)
    echoes = np.random.default_rng(seed).integers(0, 4000, (len(echoes_ms), 3, 2, 2)).astype(np.int16)
    ours = combined(echoes, weights)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, naive.combined_echoes(echoes, echoes_ms, t2star_ms), rtol=1e-5)
    np.testing.assert_allclose(ours, np.average(echoes, axis=0, weights=weights), rtol=1e-6)


def test_an_echo_at_t2star_weighs_most():
    echoes_ms = [10.0, 45.0, 90.0]
    weights = weights_of(echoes_ms, 45.0)
    assert weights[1] == max(weights)


@pytest.mark.parametrize("echoes_ms", [[], [30.0], [0.0, 30.0]])
def test_what_cannot_be_combined_is_refused(echoes_ms):
    with pytest.raises(InputError):
        weights_of(echoes_ms, 45.0)


def test_a_nifti_file_has_no_echo(tmp_path):
    (tmp_path / "run.nii").write_bytes(b"")
    with pytest.raises(InputError, match="leave out --echo"):
        open_source(tmp_path / "run.nii", echo=Combine())
