"""Hypothesis strategies for every message type, built from the fields that the types declare."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtgod import messages as m

texts = st.text(max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**63)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | texts, st.lists, max_leaves=4
)


def _affine(sizes_mm, origin_mm):
    matrix = np.diag([*sizes_mm, 1.0])
    matrix[:3, 3] = origin_mm
    return matrix


affines = st.builds(_affine, st.tuples(*[st.floats(0.1, 10)] * 3), st.tuples(*[st.floats(-500, 500)] * 3))


def _of(kind):
    """Values of one declared field type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(_of, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(_of, arguments))
    if kind is dict or origin in (dict, Mapping):
        return st.dictionaries(texts, _of(arguments[1]) if arguments else json_values, max_size=3)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if dataclasses.is_dataclass(kind):
        return _built(kind)
    return {
        str: texts,
        int: counts,
        float: numbers,
        bool: st.booleans(),
        type(None): st.none(),
        typing.Any: json_values,
    }[kind]


def _built(cls, **given):
    kinds = typing.get_type_hints(cls)
    return st.builds(cls, **{name: given[name] if name in given else _of(kind) for name, kind in kinds.items()})


def _arrays(dtype, shape):
    elements = hnp.from_dtype(np.dtype(dtype), allow_nan=False) if np.dtype(dtype).kind == "f" else None
    return hnp.arrays(dtype, shape, elements=elements)


names = st.text(min_size=1, max_size=12)
blocks = st.builds(m.Block, st.floats(0, 500), st.floats(1e-3, 500))
volume_data = st.sampled_from(m.VOLUME_DTYPES).flatmap(
    lambda dtype: _arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3))
)


@st.composite
def _runs_with_blocks(draw):
    """Runs that hold all their blocks."""
    tr_s, held = draw(st.floats(0.05, 60)), tuple(draw(st.lists(blocks, max_size=3)))
    fewest = math.ceil(max((block.onset_s + block.duration_s for block in held), default=1.0) / tr_s)
    return draw(
        _built(
            m.Run,
            run_id=names,
            tr_s=st.just(tr_s),
            shape=st.tuples(*[st.integers(1, 200)] * 3),
            affine=affines,
            n_volumes=st.none() | st.integers(fewest, m.MOST_VOLUMES),
            blocks=st.just(held),
        )
    )


runs = _runs_with_blocks()
times = st.floats(-1e4, 1e4)
volumes = _built(
    m.Volume,
    index=st.integers(0, m.MOST_VOLUMES - 1),
    acquired_s=times,
    data=volume_data,
    held_s=st.floats(0, 1e4),
    n_waiting=st.integers(0, m.MOST_VOLUMES),
)
patterns = _built(m.Pattern, values=_arrays("float32", st.integers(0, 20)))
chances = st.tuples(*[st.floats(0, 1)] * 3).map(lambda p: tuple(sorted(p)))
near_pictures = st.builds(
    m.NearPicture, names, st.floats(allow_nan=False, allow_infinity=False), st.none() | st.floats(0, 1)
)
rankings = st.integers(0, 20).flatmap(
    lambda n: _built(
        m.Ranking,
        order=_arrays("int32", n),
        scores=_arrays("float32", n),
        probability=st.none() | chances,
        pictures=st.lists(near_pictures, max_size=4).map(tuple),
    )
)
events = _built(m.Event, client=names, kind=names, number=st.integers(0, 2**63 - 1))
new_blocks = _built(
    m.NewBlock,
    client=names,
    number=st.integers(0, 2**63 - 1),
    run_id=names,
    onset_s=st.floats(0, 1e4),
    duration_s=st.floats(0.001, 1e4),
)
pings = _built(m.Ping, client=names)
#: One strategy for each type of message, by the type.
MESSAGES = {
    m.Run: runs,
    m.Volume: volumes,
    m.Pattern: patterns,
    m.Ranking: rankings,
    m.Event: events,
    m.NewBlock: new_blocks,
    m.Ping: pings,
    **{
        cls: _built(cls)
        for cls in (
            m.RunEnd,
            m.NotReady,
            m.Hello,
            m.Status,
            m.SessionEnd,
            m.Acknowledged,
            m.Refused,
            m.Deferred,
            m.Pong,
        )
    },
}


def equal(a, b):
    """Whether two messages, or two of their values, are the same to the type and the last bit."""
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float) and isinstance(b, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return a == b
