"""A pipeline that takes over another's state goes on with the same bytes, and nothing that changes is forgotten."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import CheckpointError
from rtgod.messages import Float32Array, Float64Array, Motion, NotReady, Pattern, Ranking
from rtgod.pipeline import Pipeline
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.censoring import Censor
from rtgod.preprocessing.noise_model import NoiseComponents
from rtgod.preprocessing.preprocessor import Noise
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.protocol.frames import to_frames
from rtgod.server.checkpoint import read_checkpoint, write_checkpoint
from rtgod.server.session import without_timing
from rtgod.settings import PipelineSettings
from rtgod.state import Stateful
from tests import small

#: What is filled before it is read, and need not be kept: by class, the attribute and what of it.
BUFFERS = {
    ("Aligner", "_volume"),
    ("Sampler", "_coefficients"),
    ("_Level", "_coefficients"),
    ("_Level", "_sums"),
    ("_Level", "_points.residuals"),
    ("_Level", "_points.weights"),
}
SETTINGS = {
    "usual": {},
    "repeats": {"window": {"mode": "repeats"}},
    "mean of repeats": {"window": {"mode": "repeats", "estimate": "mean", "hrf_shift_s": 1.3}},
    "frozen baseline": {"scaling": {"baseline": "frozen", "unit": "zscore", "smoothing_fwhm_mm": 6, "demean": True}},
    "all regressors": {
        "nuisance": {"motion_parameters": 24, "n_components": 2, "global_signal": True},
        "scaling": {"unit": "zscore"},
    },
    "sliding": {"window": {"mode": "sliding"}, "sampling": {"interpolation": "linear"}},
    "not aligned": {"motion": {"estimate": False}, "censoring": {"dvars_ratio": 1.1}},
    "no decoder": None,
}
N_VOLUMES = 12


@functools.cache
def bundle_of(name):
    """The small bundle with a case's settings, its decoder and its candidates."""
    base = small.SETTINGS.model_dump(mode="json")
    bundle = small.bundle(
        PipelineSettings.model_validate(base | {key: base[key] | value for key, value in SETTINGS[name].items()})
    )
    if n_components := bundle.settings.nuisance.n_components:
        voxels = np.argwhere(small.head() > 900).astype(np.int32)[:30]
        courses = NoiseComponents(voxels, small.normal(n_components, 30) / 30)
        bundle = dataclasses.replace(bundle, noise=Noise(small.NOISE, courses))
    return bundle, bundle.decoder(), bundle.category_index()


def pipeline(name, repeats, run_id="run-1"):
    run = small.run(run_id)
    run = dataclasses.replace(run, blocks=tuple(dataclasses.replace(b, label="dog") for b in run.blocks))
    if SETTINGS[name] is None:
        reference = Reference(small.head(), small.AFFINE, np.empty((0, 3), np.int32))
        return Pipeline(reference, Noise(), None, None, (), run, small.SETTINGS, repeats)
    bundle, decoder, category_index = bundle_of(name)
    return bundle.pipeline(run, decoder, category_index, repeats)


@functools.cache
def volume(index, kind="good", run_id="run-1"):
    """A volume that is good, has jumped, flickers, is no head, or cannot be used; of kind "lost", None."""
    good, rng = small.volume(index, run_id), np.random.default_rng(index)
    match kind:
        case "good":
            return good
        case "lost":
            return None
        case "jump":
            data = small.head((0.0, 3.0, 0.0)) + rng.normal(0, 4, small.SHAPE)
        case "flicker":
            data = good.data * rng.uniform(0.93, 1.07, small.SHAPE)
        case "noise":
            data = np.abs(rng.normal(0, 800, small.SHAPE))
        case "constant":
            data = np.full(small.SHAPE, 7)
    return dataclasses.replace(good, data=data.astype(np.float32))


def run_of(kinds=("good",) * N_VOLUMES, run_id="run-1"):
    return [volume(index, kind, run_id) for index, kind in enumerate(kinds)]


def frames(path, volumes, rank=True):
    """The bytes of every answer and pattern, times aside; lost volumes have none."""
    found = []
    for one in volumes:
        if one is not None:
            answer, pattern = path.step(one, rank=rank)
            messages = [without_timing(answer), *([pattern] if pattern else [])]
            found.append([bytes(frame) for message in messages for frame in to_frames(message)])
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("state") / "checkpoint"


def kept(file, path, repeats):
    """A pipeline's state and that of the evidence, as they come back from a file."""
    write_checkpoint(file, {"pipeline": path.state(), "repeats": repeats.state()})
    return read_checkpoint(file)


def restored(name, state, run_id="run-1"):
    repeats = RepeatAverager()
    path = pipeline(name, repeats, run_id)
    path.restore(state["pipeline"])
    repeats.restore(state["repeats"])
    return path, repeats


# -------------------------------------------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("name", SETTINGS)
def test_wherever_a_run_is_cut_the_rest_has_the_same_bytes(name, file):
    kinds = ["good"] * N_VOLUMES
    kinds[3], kinds[6], kinds[7], kinds[10] = "constant", "lost", "jump", "flicker"
    repeats = RepeatAverager()
    path, states, straight = pipeline(name, repeats), [], []
    for one in run_of(kinds):
        states.append(kept(file, path, repeats))
        straight.append(frames(path, [one]))
    states.append(kept(file, path, repeats))
    assert len({str(found) for found in straight if found}) == N_VOLUMES - 1
    for cut, state in enumerate(states):
        again, _ = restored(name, state)
        assert [frames(again, [one]) for one in run_of(kinds)[cut:]] == straight[cut:]


@settings(max_examples=80)
@given(
    name=st.sampled_from(sorted(SETTINGS)),
    kinds=st.lists(
        st.sampled_from(["good"] * 6 + ["lost", "jump", "flicker", "noise", "constant"]),
        min_size=1, max_size=N_VOLUMES,
    ),
    cuts=st.lists(st.integers(0, 2 * N_VOLUMES), min_size=1, max_size=3),
    ranked=st.booleans(),
)  # fmt: skip
def test_two_runs_that_are_cut_anywhere_have_the_same_bytes(file, name, kinds, cuts, ranked):
    """Evidence lasts over both; before a cut, as after it, volumes may wait and be left unranked."""

    def answered(cuts):
        repeats, found = RepeatAverager(), []
        for run_id in ("run-1", "run-2"):
            path = pipeline(name, repeats, run_id)
            for one in run_of(kinds, run_id):
                if len(found) in cuts:
                    path, repeats = restored(name, kept(file, path, repeats), run_id)
                found.append(frames(path, [one], ranked))
        return found

    assert answered(cuts) == answered([])


def test_what_was_restored_does_not_change_what_it_was_taken_from():
    """Without a file in between, where arrays could be shared."""
    repeats = RepeatAverager()
    path, straight = pipeline("repeats", repeats), frames(pipeline("repeats", RepeatAverager()), run_of())
    frames(path, run_of()[:5])
    again, _ = restored("repeats", {"pipeline": path.state(), "repeats": repeats.state()})
    assert frames(again, run_of()[5:]) == straight[5:]
    assert frames(path, run_of()[5:]) == straight[5:]


@pytest.mark.parametrize("name", SETTINGS)
def test_what_buffers_hold_does_not_matter(name):
    path, straight = pipeline(name, RepeatAverager()), frames(pipeline(name, RepeatAverager()), run_of())
    found = []
    for one in run_of():
        for thing in reached(path):
            for attribute in vars(thing):
                for where, array in leaves_of(getattr(thing, attribute), attribute):
                    if (type(thing).__name__, where) in BUFFERS and array is not None:
                        array.fill(np.nan)
        found += frames(path, [one])
    assert found == straight


# --------------------------------------------------------------------------------------------- and the null of it


def altered(state, where, change):
    """The state with `change` made to the value at `where`."""
    first, *rest = where
    return {**state, first: altered(state[first], rest, change) if rest else change(state[first])}


CLEANER = ("pipeline", "_front", "_cleaner")
FIT = (*CLEANER, "denoiser", "_fit")


@pytest.mark.parametrize(
    ("name", "where", "change"),
    [
        ("usual", (*FIT, "coefficients"), lambda a: a * (1 + 1e-6)),
        ("usual", (*FIT, "covariance"), lambda a: a * 1.01),
        ("usual", (*CLEANER, "denoiser", "n_volumes"), lambda _: 0),
        ("usual", (*CLEANER, "denoiser", "_seen"), np.zeros_like),
        ("usual", (*CLEANER, "denoiser", "_crosstalk", "_coefficients"), np.zeros_like),
        ("usual", (*CLEANER, "denoiser", "_design", "_trials", "_occupant"), lambda a: [None] * len(a)),
        ("usual", ("pipeline", "_front", "_aligner", "_registration", "_last_motion"), lambda _: None),
        ("usual", (*CLEANER, "_censor", "_usual"), lambda a: [1e-9 * x for x in a]),
        ("usual", (*CLEANER, "_censor", "_before"), lambda a: 2 * a),
        ("mean of repeats", (*CLEANER, "_estimator", "_window", "_members"), lambda a: a[1:]),
        ("sliding", (*CLEANER, "_estimator", "_window", "_members"), lambda a: a[:-1]),
        ("frozen baseline", (*CLEANER, "denoiser", "_frozen"), lambda _: None),
        ("frozen baseline", (*CLEANER, "denoiser", "_squares"), lambda a: a * 1.5),
        ("all regressors", (*CLEANER, "denoiser", "_design", "_first_motion"), lambda a: a + 1),
        ("all regressors", (*CLEANER, "denoiser", "_design", "_last_motion"), lambda a: a + 1),
        ("all regressors", (*CLEANER, "_noise_reader", "_denoiser", "_fit", "coefficients"), lambda a: a * 1.01),
        ("repeats", ("repeats", "_finished"), lambda _: {}),
    ],
)
def test_with_one_thing_altered_the_bytes_differ(name, where, change, file):
    cut = {"_squares": 4, "_before": 8}.get(where[-1], 6)
    repeats = RepeatAverager()
    before = pipeline(name, repeats, "run-0")
    frames(before, run_of(run_id="run-0"))
    path = pipeline(name, repeats)
    frames(path, run_of()[:cut])
    state = kept(file, path, repeats)
    right, wrong = (restored(name, one)[0] for one in (state, altered(state, where, change)))
    expected = frames(path, run_of()[cut:])
    assert frames(right, run_of()[cut:]) == expected
    assert frames(wrong, run_of()[cut:]) != expected


def test_the_state_of_another_run_gives_other_bytes(file):
    states = []
    for kinds in (["good"] * 6, ["good", "good", "lost", "good", "jump", "good"]):
        path = pipeline("usual", RepeatAverager())
        frames(path, run_of(kinds))
        states.append(kept(file, path, RepeatAverager()))
    found = [frames(restored("usual", state)[0], run_of()[6:]) for state in states]
    assert found[0] == frames(pipeline("usual", RepeatAverager()), run_of())[6:]
    assert found[0] != found[1]


# ----------------------------------------------------------------------------------- nothing that changes is forgotten


def leaves_of(value, where):
    """What a value consists of, each with its place; what rtgod made of classes is looked at by itself."""
    if isinstance(value, dict):
        for one in value.values():
            yield from leaves_of(one, where)
    elif hasattr(value, "_fields"):
        for name in value._fields:
            yield from leaves_of(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list | tuple):
        yield where, len(value)
        for one in value:
            yield from leaves_of(one, where)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves_of(getattr(value, field.name), f"{where}.{field.name}")
    else:
        yield where, value


def is_made_here(value):
    return type(value).__module__.startswith("rtgod.") and hasattr(value, "__dict__")


def reached(thing, known=None):
    """All objects of classes of rtgod that can be reached from one."""
    known = {} if known is None else known
    if id(thing) not in known:
        known[id(thing)] = thing
        for attribute, value in vars(thing).items():
            for _, leaf in leaves_of(value, attribute):
                if is_made_here(leaf):
                    reached(leaf, known)
    return list(known.values())


def fingerprints(thing):
    """Of every value that can be reached: the object's class, the place, and what tells it from another."""
    found = {}
    for one in reached(thing):
        for attribute, value in vars(one).items():
            for where, leaf in leaves_of(value, attribute):
                told = (
                    (leaf.dtype, leaf.shape, leaf.tobytes())
                    if isinstance(leaf, np.ndarray)
                    else id(leaf)
                    if is_made_here(leaf) or callable(leaf)
                    else repr(leaf)
                )
                found.setdefault((id(one), type(one), where), []).append(told)
    return found


def changes(path, volumes):
    """Classes and places of what changes while the volumes are taken."""
    found, before = set(), fingerprints(path)
    for one in volumes:
        frames(path, [one])
        after = fingerprints(path)
        found |= {(cls, where) for (_, cls, where), _ in {*_pairs(before)} ^ {*_pairs(after)}}
        before = after
    return {(cls, where) for cls, where in found if (cls.__name__, where) not in BUFFERS}


def _pairs(found):
    return [(key, tuple(told)) for key, told in found.items()]


def forgotten(changed):
    return {
        (cls.__name__, where)
        for cls, where in changed
        if not issubclass(cls, Stateful) or where.partition(".")[0] not in cls.changing
    }


def all_changes():
    kinds = ["good"] * N_VOLUMES
    kinds[9], kinds[7], kinds[10] = "noise", "jump", "flicker"
    return {name: changes(pipeline(name, RepeatAverager()), run_of(kinds)) for name in SETTINGS}


def test_whatever_changes_is_named():
    changed = all_changes()
    assert {name: forgotten(found) for name, found in changed.items()} == {name: set() for name in SETTINGS}
    named = {
        (cls, attribute)
        for name in SETTINGS
        for cls in {type(one) for one in reached(pipeline(name, RepeatAverager())) if isinstance(one, Stateful)}
        for attribute in cls.changing
    }
    # And what is named does change.
    assert {(cls, where.partition(".")[0]) for found in changed.values() for cls, where in found} == named


def test_what_a_class_gains_and_does_not_name_is_found(monkeypatch):
    usual = Censor.problem_with

    def counts(self, values, motion):
        self.n_asked = getattr(self, "n_asked", 0) + 1
        return usual(self, values, motion)

    monkeypatch.setattr(Censor, "problem_with", counts)
    assert forgotten(changes(pipeline("usual", RepeatAverager()), run_of()[:4])) == {("Censor", "n_asked")}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_stateful_part_belongs_to_the_pipeline_s_state(name):
    def parts(thing):
        return [thing, *(one for part in thing.parts if getattr(thing, part) for one in parts(getattr(thing, part)))]

    path = pipeline(name, RepeatAverager())
    stateful = [one for one in reached(path) if isinstance(one, Stateful) and not isinstance(one, RepeatAverager)]
    assert {id(one) for one in parts(path)} == {id(one) for one in stateful}
    assert len(stateful) >= 7


# ------------------------------------------------------------------------------------------------ what does not fit


class Thing(Stateful):
    changing: ClassVar = {
        "n": int,
        "level": Float64Array,
        "first": Float32Array | None,
        "members": list[tuple[Pattern, float]],
        "motion": Motion | None,
    }
    parts = ("part",)

    def __init__(self, part=None):
        self.n, self.level, self.first, self.members, self.motion, self.part = 0, np.zeros(3), None, [], None, part


@given(
    st.floats(allow_nan=False), st.lists(st.floats(width=32), max_size=4), st.booleans(),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
)  # fmt: skip
def test_frozen_values_come_back_to_the_last_bit(file, number, values, censored, residual):
    motion = Motion((number, -number, 0.0), (0.1, -0.0, 1e-320), number, residual, 3, converged=not censored)
    one, other = Thing(Thing()), Thing(Thing())
    one.part.members = [(Pattern("run-1", 2, np.array(values, np.float32), 1, motion, censored), number)]
    one.motion, one.n, one.level = motion, np.int64(7), np.array([np.nan, -0.0, number])
    write_checkpoint(file, one.state())
    other.restore(read_checkpoint(file))
    [(found, weight)] = other.part.members
    assert (found.run_id, found.index, found.n_outside, found.censored) == ("run-1", 2, 1, censored)
    assert found.values.tobytes() == np.array(values, np.float32).tobytes()
    assert (repr(found.motion), repr(other.motion), repr(weight)) == (repr(motion), repr(motion), repr(number))
    assert (type(other.n), other.n, other.level.tobytes()) == (int, 7, one.level.tobytes())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": "7"}, "Thing.n: Expected `int`"),
        ({"n": None}, "Thing.n: Expected `int`"),
        ({"level": np.zeros(4)}, r"Thing.level: shape \(4,\), here it is \(3,\)"),
        ({"level": np.zeros(3, np.float32)}, "Thing.level: an array of float64 is needed, not array of float32"),
        ({"level": [0.0, 0.0, 0.0]}, "Thing.level: an array of float64 is needed, not list"),
        ({"first": np.zeros(3)}, "Thing.first: an array of float32"),
        ({"members": [[{"run_id": "x"}, 1.0]]}, "Thing.members: "),
        ({"motion": {"translation_mm": [1, 2]}}, "Thing.motion: "),
        ({"more": 1}, "Thing: a state of .* is needed, not .*more"),
        ({"part": {}}, "Thing.part: there is a state"),
    ],
)
def test_a_state_of_something_else_is_refused(change, says):
    with pytest.raises(CheckpointError, match=says):
        Thing().restore(Thing().state() | change)


@pytest.mark.parametrize("state", [None, 1, [], {}, {"n": 1}])
def test_what_is_no_such_state_is_refused(state):
    with pytest.raises(CheckpointError, match="Thing: a state of"):
        Thing().restore(state)
    with pytest.raises(CheckpointError, match="Thing: a state of"):
        Thing(Thing()).restore(Thing(Thing()).state() | {"part": state})


def test_what_has_no_place_in_a_state_is_not_taken():
    thing = Thing()
    thing.n = np.float32(1.0)  # would come back as another type, and arithmetic with it round otherwise
    with pytest.raises(TypeError, match="float32 has no place in a state"):
        thing.state()


@pytest.mark.parametrize(("ours", "theirs"), [("usual", "all regressors"), ("not aligned", "usual")])
def test_the_state_of_other_settings_is_refused(ours, theirs):
    with pytest.raises(CheckpointError):
        pipeline(ours, RepeatAverager()).restore(pipeline(theirs, RepeatAverager()).state())


def test_the_runs_of_these_tests_are_ranked_and_not():
    found = [path.step(one)[0] for path in [pipeline("usual", RepeatAverager())] for one in run_of()]
    assert {type(answer) for answer in found} == {Ranking, NotReady}
