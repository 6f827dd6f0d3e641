"""What is written comes back to the last bit, and whatever else is in a file is an error that says so."""

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtgod import __version__
from rtgod.errors import CheckpointError
from rtgod.server.checkpoint import FORMAT, read_checkpoint, write_checkpoint

arrays = st.sampled_from(["bool", "int8", "uint16", "int32", "int64", "float32", "float64"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=8) | arrays
states = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner), max_leaves=12
)
STATE = {"fit": np.arange(12.0).reshape(3, 4), "before": None, "usual": [1.5, float("inf")], "seen": np.ones(3, bool)}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint") / "session.checkpoint"


def equal(a, b):
    """Whether two trees are the same to the type and the last bit; not-a-numbers are all alike."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return repr(a) == repr(b)  # which tells 0.0 from -0.0


def read(path, content):
    path.write_bytes(content)
    return read_checkpoint(path)


def written(path, state=STATE):
    write_checkpoint(path, state)
    return path.read_bytes()


def signed(body):
    return body + struct.pack("<I", zlib.crc32(body))


@given(states)
@example(-0.0)
@example([float("nan"), float("-inf"), 5e-324, 0.1 + 0.2, 2**63 - 1, True, 1, 1.0])
@example({"dict": {"array": "0"}, "number": "nan"})
def test_a_state_comes_back_to_the_last_bit(path, state):
    assert equal(read(path, written(path, state)), state)


def test_arrays_come_back_writable_and_in_c_order_however_they_lay(path):
    around = np.arange(24.0).reshape(2, 3, 4)
    for array in (around.T, around[:, ::2], np.asfortranarray(around), around[:, 0], np.array(2.0), np.empty((0, 3))):
        found = read(path, written(path, array))
        np.testing.assert_array_equal(found, array)
        assert (found.flags.c_contiguous, found.flags.writeable, found.flags.aligned) == (True, True, True)


def test_the_equality_of_these_tests_can_fail():
    assert not equal([0.0], [-0.0])
    assert not equal(1, 1.0)
    assert not equal(np.zeros(2), np.zeros(2, np.float32))
    assert not equal({"a": None}, {"b": None})


@given(st.data())
def test_an_altered_file_is_never_read(path, data):
    content = written(path)
    altered = bytearray(content)
    match data.draw(st.sampled_from(["bytes", "cut", "longer"])):
        case "bytes":
            for _ in range(data.draw(st.integers(1, 3))):
                altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
        case "cut":
            del altered[data.draw(st.integers(0, len(altered) - 1)) :]
        case "longer":
            altered += data.draw(st.binary(min_size=1, max_size=9))
    if bytes(altered) == content:
        assert equal(read(path, content), STATE)
        return
    with pytest.raises(CheckpointError):
        read(path, bytes(altered))


@given(st.data())
def test_a_forged_file_is_read_or_refused(path, data):
    """With the right checksum every part of the reading meets what it does not expect."""
    content = written(path)
    first = content.index(b"\n") + 1
    body = bytearray(content[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(first, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3)
            | st.sampled_from([b"[", b"{", b"null", b"1e999", b'{"array":"9"}', b"\n", b"\xff" * 8])
        )
    try:
        read(path, signed(bytes(body)))
    except CheckpointError:
        return


def forged(tree, header):
    """A file of this tree, and safetensors with this header or of these bytes."""
    first = b'{"rtgod_checkpoint":%d,"rtgod":"%s"}' % (FORMAT, __version__.encode())
    if isinstance(header, dict):
        encoded = json.dumps(header).encode()
        header = struct.pack("<Q", len(encoded)) + encoded
    return signed(b"\n".join([first, tree, header]))


FLOATS = {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}


@pytest.mark.parametrize(
    ("tree", "tensors"),
    [
        (b'{"array":"0"}', {"0": FLOATS}),
        (b'{"array":"0"}', {"0": FLOATS | {"data_offsets": [0, 8]}}),
        (b'{"array":"0"}', {"0": FLOATS | {"shape": [2**62, 2**62]}}),
        (b'{"array":"0"}', {"0": {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}}),
        (b'{"array":"0"}', {"0": {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]}}),
        (b'{"array":"1"}', {}),
        (b"1", struct.pack("<Q", 2**63)),
        (b"1", b""),
        (b"[" * 100_000, {}),
        (b'{"dict":' * 100_000 + b"1" + b"}" * 100_000, {}),
        (b'{"dict":{},"array":"0"}', {}),
        (b'{"number":"1e3"}', {}),
        (b'"\xff"', {}),
        (b'{"array":0}', {}),
        (b"", {}),
    ],
)
def test_what_no_writer_writes_is_refused_and_costs_nothing(path, tree, tensors):
    with pytest.raises(CheckpointError, match="do not fit together"):
        read(path, forged(tree, tensors))


def test_a_forged_file_that_is_right_is_read(path):
    assert read(path, forged(b'{"dict":{"a":[1,null]}}', {})) == {"a": [1, None]}


@pytest.mark.parametrize(
    "change", [("checkpoint", b'"rtgod_checkpoint":1', b'"rtgod_checkpoint":2'), ("rtgod", None, None)]
)
def test_another_version_is_named(path, monkeypatch, change):
    name, ours, theirs = change
    content = written(path)
    if name == "rtgod":
        monkeypatch.setattr("rtgod.server.checkpoint.__version__", "9.9.9")
    else:
        content = signed(content[:-4].replace(ours, theirs))
    with pytest.raises(CheckpointError, match=r"session\.checkpoint: of format and version \("):
        read(path, content)


@pytest.mark.parametrize("content", [b"", b"\n", b"rtgod journal 1\n", b"[]\n", b"\xff\xfe\n", b"[" * 10_000])
def test_another_file_is_no_checkpoint(path, content):
    with pytest.raises(CheckpointError, match="this is no checkpoint"):
        read(path, content)


def test_one_that_is_missing_or_a_folder_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"none: cannot be read \(No such file"):
        read_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory"):
        read_checkpoint(tmp_path)


def test_a_huge_file_is_not_read(path, monkeypatch):
    content = written(path)
    monkeypatch.setattr("rtgod.server.checkpoint.LARGEST_BYTES", len(content) - 1)
    with pytest.raises(CheckpointError, match="larger than"):
        read(path, content)


def test_only_its_owner_can_read_it_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "x.checkpoint"
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / ".x.checkpoint.new").symlink_to(other)  # where a killed process left its own
    for number in (1, 2):
        write_checkpoint(path, number)
        assert path.stat().st_mode & 0o777 == 0o600
    assert read_checkpoint(path) == 2
    assert other.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "x.checkpoint"]


def test_one_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder" / "full").mkdir(parents=True)
    for path in (tmp_path / "folder", tmp_path / "none" / "x"):
        with pytest.raises(CheckpointError, match="cannot be written"):
            write_checkpoint(path, STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_disk_that_fills_leaves_the_one_before(path, monkeypatch):
    write_checkpoint(path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write_checkpoint(path, 2)
    assert read_checkpoint(path) == 1
    assert not path.with_name(f".{path.name}.new").exists()


def test_what_is_no_state_is_not_written(path):
    with pytest.raises(TypeError, match="set has no place"):
        write_checkpoint(path, {"a": {1, 2}})
