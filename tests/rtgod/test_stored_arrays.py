"""Arrays of a file are the same whether they are copied or mapped; only mapped ones stay in the file."""

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from rtgod.stored_arrays import read_arrays


def test_mapped_and_copied_arrays_are_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    sent = {
        "a/map": rng.standard_normal((5, 3), np.float32),
        "bytes": np.arange(3, dtype=np.uint8),  # an odd number, before or after which others may lie
        "none/map": np.empty((0, 4), np.float32),
        "whole/map": np.arange(6, dtype=np.int32).reshape(2, 3),
        "x": rng.standard_normal(7),
    }
    save_file(sent, tmp_path / "f")
    back = read_arrays(tmp_path / "f", lambda name: name.endswith("/map"))
    assert set(back) == set(sent)
    for name, array in sent.items():
        assert (back[name].dtype, back[name].shape, back[name].tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        ), name
    assert not back["a/map"].flags.owndata
    assert not back["a/map"].flags.writeable
    assert back["x"].flags.writeable


def test_what_is_no_such_file_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"\x08\0\0\0\0\0\0\0 no json")
    with pytest.raises(SafetensorError):
        read_arrays(tmp_path / "f", lambda _: True)
    with pytest.raises(OSError, match="No such file"):
        read_arrays(tmp_path / "g", lambda _: True)
