"""The wire: every message there and back, and every other bytes refused by name."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import WireError
from rtgod.messages import VOLUME_DTYPES, Message, NearPicture, NotReady, Pattern, Ranking, Reason, Run, Volume
from rtgod.protocol.frames import MAX_HEADER_BYTES, from_frames, to_frames
from tests import small
from tests.small import RANKING, STILL
from tests.strategies import MESSAGES, equal, json_values

DATA = np.arange(24, dtype="int16").reshape(2, 3, 4)
SPEC = {"field": "data", "dtype": "int16", "shape": [2, 3, 4]}
VOLUME = {"rtgod": 1, "type": "volume", "arrays": [SPEC], "run_id": "r", "index": 0, "acquired_s": 0.0}
RUN = {"rtgod": 1, "type": "run", "run_id": "r", "subject": "s", "tr_s": 2.0, "shape": [2, 3, 4]} | {
    "affine": np.eye(4).tolist()
}
MOTION = {"translation_mm": [0, 0, 0], "rotation_deg": [0, 0, 0], "framewise_displacement_mm": 0} | {
    "residual": 0.5,
    "n_iterations": 3,
    "converged": True,
}
NOT_READY = {"rtgod": 1, "type": "not-ready", "run_id": "r", "index": 3, "reason": "motion", "motion": MOTION}
every_message = st.one_of(*MESSAGES.values())


def encode(header):
    return header if isinstance(header, bytes) else json.dumps(header).encode()


def read(header, *arrays):
    return from_frames([encode(header), *arrays])


def test_the_strategies_make_every_message_type():
    assert set(MESSAGES) == set(Message.__args__)


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_every_message_comes_back_the_same_and_makes_the_same_bytes(cls):
    @given(message=MESSAGES[cls])
    @settings(max_examples=60)
    def check(message):
        frames = [bytes(frame) for frame in to_frames(message)]
        back = from_frames([memoryview(frame) for frame in frames])
        assert equal(back, message)
        assert [bytes(frame) for frame in to_frames(back)] == frames

    check()


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("message", [small.volume(0), Pattern("r", 0, np.ones(9), 0, STILL, False), RANKING])
def test_encoding_copies_no_array_and_decoding_gives_views_that_cannot_be_written_to(message):
    frames = to_frames(message)
    held = [array for array in (getattr(message, name) for name in message.__slots__) if isinstance(array, np.ndarray)]
    back = from_frames([frames[0], *(bytearray(frame) for frame in frames[1:])])
    for array, frame in zip(held, frames[1:], strict=True):
        assert np.shares_memory(array, np.frombuffer(frame, np.uint8))
    received = [array for array in (getattr(back, name) for name in back.__slots__) if isinstance(array, np.ndarray)]
    assert not any(array.flags.writeable for array in received)
    buffer = bytes(frames[1])
    (name,) = [name for name in back.__slots__ if getattr(message, name) is held[0]]
    view = getattr(from_frames([frames[0], buffer, *frames[2:]]), name)
    assert np.shares_memory(view, np.frombuffer(buffer, np.uint8))


@pytest.mark.parametrize("dtype", VOLUME_DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_voxels_are_little_endian_in_the_order_that_the_header_names(dtype, order):
    spec = SPEC | {"dtype": dtype, "order": order}
    sent = DATA.astype(np.dtype(dtype).newbyteorder("<")).tobytes(order=order)
    data = read(VOLUME | {"arrays": [spec]}, sent).data
    np.testing.assert_array_equal(data, DATA)
    assert (data.dtype.name, data.flags.c_contiguous, data.flags.writeable) == (dtype, True, False)


def test_a_big_endian_volume_leaves_as_little_endian():
    _, sent = to_frames(Volume("r", 0, 0.0, DATA.astype(">i2")))
    assert bytes(sent) == DATA.astype("<i2").tobytes()


def test_frames_at_odd_addresses_are_read():
    unaligned = memoryview(b"x" + DATA.tobytes())[1:]
    np.testing.assert_array_equal(read(VOLUME, unaligned).data, DATA)


def test_a_message_without_a_finite_residual_can_be_sent():
    lost = NotReady("r", 0, Reason.MOTION, motion=replace(STILL, residual=float("inf")))
    assert b'"residual":null' in to_frames(lost)[0]
    assert equal(from_frames(to_frames(lost)), lost)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("header", "arrays", "says"),
    [
        (VOLUME | {"rtgod": 2}, [DATA], "speaks version 1"),
        (VOLUME | {"rtgod": True}, [DATA], "speaks version 1"),
        (VOLUME | {"rtgod": "1"}, [DATA], "speaks version 1"),
        ({k: v for k, v in VOLUME.items() if k != "rtgod"}, [DATA], "speaks version 1"),
        (VOLUME | {"type": "image"}, [DATA], "unknown message type 'image'"),
        (VOLUME | {"type": ["volume"]}, [DATA], "unknown message type"),
        (VOLUME | {"type": None}, [DATA], "unknown message type"),
        ({k: v for k, v in VOLUME.items() if k != "type"}, [DATA], "unknown message type"),
        ({k: v for k, v in VOLUME.items() if k != "index"}, [DATA], "field 'index' is missing"),
        ({k: v for k, v in VOLUME.items() if k != "arrays"}, [DATA], "arrays must be exactly"),
        (VOLUME | {"colour": 1}, [DATA], "unknown field 'colour'"),
        (VOLUME | {"data": [1]}, [DATA], "unknown field 'data'"),
        (VOLUME | {"index": -1}, [DATA], "negative"),
        (VOLUME | {"index": True}, [DATA], "bool"),
        (VOLUME | {"index": 1.5}, [DATA], "index"),
        (VOLUME | {"index": "1"}, [DATA], "index"),
        (VOLUME | {"acquired_s": True}, [DATA], "bool"),
        (VOLUME | {"acquired_s": None}, [DATA], "acquired_s"),
        (VOLUME | {"run_id": 7}, [DATA], "run_id"),
        (VOLUME, [], "announces 1 array frames, 0 came"),
        (VOLUME, [DATA, DATA], "announces 1 array frames, 2 came"),
        (VOLUME, [DATA[:1]], "48 bytes, 24 came"),
        (VOLUME, [b""], "48 bytes, 0 came"),
        (VOLUME, [DATA.tobytes() + b"x"], "48 bytes, 49 came"),
        (RUN | {"run_id": ""}, [], "run_id is empty"),
        (RUN, [b""], "announces 0 array frames, 1 came"),
        (RUN | {"arrays": [SPEC]}, [DATA], "arrays must be exactly []"),
        (VOLUME | {"arrays": SPEC}, [DATA], "arrays"),
        (VOLUME | {"arrays": 5}, [DATA], "arrays"),
        (VOLUME | {"arrays": [SPEC, SPEC]}, [DATA, DATA], "arrays must be exactly ['data']"),
        (VOLUME | {"arrays": [SPEC | {"field": "index"}]}, [DATA], "arrays must be exactly"),
        (VOLUME | {"arrays": [SPEC | {"dtype": "int8"}]}, [DATA], "dtype 'int8' is not one of"),
        (VOLUME | {"arrays": [SPEC | {"dtype": ">i2"}]}, [DATA], "dtype '>i2' is not one of"),
        (VOLUME | {"arrays": [SPEC | {"dtype": "object"}]}, [DATA], "dtype 'object' is not one of"),
        (VOLUME | {"arrays": [SPEC | {"order": "A"}]}, [DATA], "order 'A'"),
        (VOLUME | {"arrays": [SPEC | {"strides": [1]}]}, [DATA], "strides"),
        (VOLUME | {"arrays": [SPEC | {"shape": []}]}, [b"ab"], "shape []"),
        (VOLUME | {"arrays": [SPEC | {"shape": [24]}]}, [DATA], "shape [24]"),
        (VOLUME | {"arrays": [SPEC | {"shape": [-2, -3, 4]}]}, [DATA], "shape [-2, -3, 4]"),
        (VOLUME | {"arrays": [SPEC | {"shape": [0, 10**18, 10**18]}]}, [b""], "positive"),
        (VOLUME | {"arrays": [SPEC | {"shape": [2, 3, True]}]}, [DATA], "bool"),
        (VOLUME | {"arrays": [SPEC | {"shape": [2**11, 2**11, 2**11]}]}, [DATA], "at most 268435456"),
        (VOLUME | {"arrays": [SPEC | {"shape": [2**70, 1, 1]}]}, [DATA], "at most"),
        (VOLUME | {"arrays": [SPEC | {"shape": [2**31, 2**31, 4]}]}, [b""], "at most"),
        (RUN | {"affine": np.eye(4, dtype=bool).tolist()}, [], "bool"),
        (RUN | {"affine": [["1", "0"]]}, [], "str"),
        (RUN | {"affine": [[1], [1, 2]]}, [], "affine"),
        (RUN | {"affine": [[10**400, 0, 0, 0]] * 4}, [], "range"),
        (RUN | {"affine": np.diag([1e200, 1e200, 1e200, 1]).tolist()}, [], "below"),
        (RUN | {"affine": json.loads("[" * 99 + "]" * 99)}, [], "affine"),
        (RUN | {"affine": None}, [], "affine"),
        (RUN | {"tr_s": 0}, [], "tr_s"),
        (RUN | {"shape": [2, 3]}, [], "shape"),
        (RUN | {"blocks": [{"onset_s": 1, "duration_s": 0}]}, [], "block"),
        (RUN | {"blocks": [[1, 2]]}, [], "blocks"),
        (NOT_READY | {"reason": "tired"}, [], "tired"),
        (NOT_READY | {"motion": MOTION | {"converged": 1}}, [], "converged"),
        (NOT_READY | {"motion": {}}, [], "motion"),
        (b"", [], "not JSON"),
        (b"\x80\x04N.", [], "not JSON"),
        (b"[1]", [], "not a JSON object"),
        (b"null", [], "not a JSON object"),
        (b"[" * 200_000, [], "not JSON"),
        (b'{"a":' * 200_000, [], "not JSON"),
        (b" " * (MAX_HEADER_BYTES + 1), [], "at most"),
        (encode(RUN).replace(b"2.0", b"NaN"), [], "not JSON"),
        (encode(RUN).replace(b"2.0", b"Infinity"), [], "not JSON"),
        (encode(RUN).replace(b"2.0", b"1e999"), [], "not JSON"),
        (encode(RUN).replace(b'"s"', b'"\\ud800"'), [], "not JSON"),
        (encode(RUN).replace(b'"s"', b'"\xff"'), [], "not JSON"),
        (encode(RUN) + b"{}", [], "not JSON"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
def test_what_is_no_message_is_refused_by_what_is_wrong_with_it(header, arrays, says):
    frames = [a if isinstance(a, bytes) else a.astype("<i2").tobytes() for a in arrays]
    with pytest.raises(WireError) as caught:
        read(header, *frames)
    assert says in str(caught.value)


def test_no_frames_are_refused():
    with pytest.raises(WireError, match="without frames"):
        from_frames([])


def test_what_is_changed_above_is_valid_before():
    assert isinstance(read(VOLUME, DATA.astype("<i2").tobytes()), Volume)
    assert isinstance(read(RUN), Run)
    assert isinstance(read(NOT_READY), NotReady)


# ---------------------------------------------------------------- whatever the bytes


def message_or_wire_error(frames):
    """Read frames; what is read must survive being sent on, as the server does with it."""
    try:
        message = from_frames(frames)
    except WireError:
        return
    assert equal(from_frames(to_frames(message)), message)


@given(frames=st.lists(st.binary(max_size=60), max_size=4))
@settings(max_examples=200)
def test_no_bytes_raise_anything_but_a_wire_error(frames):
    message_or_wire_error(frames)


def _paths(value, path=()):
    """Where the parts of a JSON value are."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _paths(child, (*path, key))


hostile_values = json_values | st.sampled_from(
    [-1, 2**63, 2**64, 2**70, 10**400, 1e308, -0.0, True, None, "", "data", [], {}, [[]], [0, 0, 0], [2**40] * 3]
)


@given(message=every_message, drawn=st.data())
@settings(max_examples=400)
def test_no_change_to_a_header_raises_anything_but_a_wire_error(message, drawn):
    header, *arrays = to_frames(message)
    header = json.loads(header)
    path = drawn.draw(st.sampled_from([path for path in _paths(header) if path]))
    parent = header
    for key in path[:-1]:
        parent = parent[key]
    if isinstance(parent, dict) and drawn.draw(st.booleans()):
        parent[drawn.draw(st.sampled_from([*parent, "more"]))] = drawn.draw(hostile_values)
    else:
        parent[path[-1]] = drawn.draw(hostile_values)
    message_or_wire_error([encode(header), *arrays])


@given(message=every_message, drawn=st.data())
@settings(max_examples=300)
def test_no_damage_to_the_frames_raises_anything_but_a_wire_error(message, drawn):
    frames = [bytearray(frame) for frame in to_frames(message)]
    for _ in range(drawn.draw(st.integers(1, 3))):
        frame = frames[drawn.draw(st.integers(0, len(frames) - 1))]
        at = drawn.draw(st.integers(0, len(frame)))
        frame[at : at + drawn.draw(st.integers(0, 4))] = drawn.draw(st.binary(max_size=4))
    message_or_wire_error([bytes(frame) for frame in drawn.draw(st.permutations(frames))])


def test_a_ranking_without_a_probability_is_read_and_one_that_is_none_is_refused():
    header, *arrays = to_frames(replace(RANKING, probability=(0.1, 0.2, 0.5)))
    assert from_frames([header, *arrays]).probability == (0.1, 0.2, 0.5)
    before = {k: v for k, v in json.loads(header).items() if k != "probability"}
    assert from_frames([encode(before), *arrays]).probability is None
    for wrong in ([0.2, 0.1, 0.5], [0.1, 0.2, 1.5], [-0.1, 0.2, 0.5], [0.1, 0.2], "0.1", [0.1, 0.2, None]):
        with pytest.raises(WireError, match="probability"):
            from_frames([encode(before | {"probability": wrong}), *arrays])


def test_a_ranking_of_unequal_arrays_is_refused():
    header, order, scores = to_frames(RANKING)
    with pytest.raises(WireError, match="one of each"):
        from_frames([header.replace(b'"float32","shape":[3]', b'"float32","shape":[2]'), order, scores[:8]])
    assert isinstance(from_frames([header, order, scores]), Ranking)


def test_rankings_without_pictures_are_the_bytes_of_older_versions():
    """Their journals replay to the same bytes."""
    assert b"pictures" not in bytes(to_frames(small.RANKING)[0])
    near = (NearPicture("a/b.png", 0.25, 0.5), NearPicture("ø.jpg", -0.5))
    told = replace(small.RANKING, pictures=near)
    assert from_frames(to_frames(told)).pictures == near
    assert from_frames(to_frames(small.RANKING)).pictures == ()


@pytest.mark.parametrize(
    "picture", [{"name": "a", "score": 0.1, "probability": 1.5}, {"name": "a"}, {"name": 3, "score": 1.0}]
)
def test_pictures_that_cannot_be_are_refused(picture):
    header, *arrays = to_frames(replace(small.RANKING, pictures=(NearPicture("a", 0.1),)))
    changed = json.loads(bytes(header)) | {"pictures": [picture]}
    with pytest.raises(WireError, match=r"pictures|probability"):
        from_frames([json.dumps(changed).encode(), *arrays])
