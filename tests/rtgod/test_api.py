"""The Python API: its names, their documentation with its examples, and that it does what the server does."""

import ast
import doctest
import inspect
import logging
import math
import pkgutil
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import calibration
import rtgod
from rtgod.errors import MissingDependencyError, RefusedError
from rtgod.fit import Training
from rtgod.messages import Hello, SessionEnd
from tests import recorded, small
from tests.journals import record
from tests.serving import running

NAMES = [
    "Block",
    "DecoderBundle",
    "Event",
    "InputError",
    "Journal",
    "Motion",
    "NotReady",
    "PipelineSettings",
    "Ranking",
    "Reason",
    "RtgodError",
    "Run",
    "RunEnd",
    "Sender",
    "ServerError",
    "Source",
    "Volume",
    "__version__",
    "decode_run",
    "label_of",
    "load_bundle",
    "open_run",
    "read_events",
    "read_journal",
    "read_key",
    "send_run",
    "status",
    "subscribe",
]
DOCUMENTED = [*(f"rtgod.{name}" for name in NAMES if name != "__version__"), "calibration.preprocess"]
#: Errors have a message, an enumeration its members, settings a comment each, and a protocol its properties.
WITHOUT_PARAMETERS = {
    *("rtgod.InputError", "rtgod.RtgodError", "rtgod.ServerError"),
    *("rtgod.Reason", "rtgod.PipelineSettings", "rtgod.Source"),
}
RUN = "sub-01_task-objects_run-01_bold.nii.gz"
IN_SESSION = pytest.mark.usefixtures("in_session")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    recorded.write_session(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def in_session(session, monkeypatch):
    """The session's folder, which is the current one."""
    monkeypatch.chdir(session)
    return session


def named(name):
    package, _, attribute = name.partition(".")
    return getattr({"rtgod": rtgod, "calibration": calibration}[package], attribute)


def documentation_of(public):
    """The docstring of a public object and of its own public methods, by their names."""
    yield public.__name__, inspect.getdoc(public)
    if inspect.isclass(public):
        for name, member in vars(public).items():
            if not name.startswith("_") and ">>>" in (inspect.getdoc(member) or ""):
                yield f"{public.__name__}.{name}", inspect.getdoc(member)


def test_the_names_are_these():
    assert sorted(rtgod.__all__) == NAMES
    assert calibration.__all__ == ["preprocess"]


def test_no_name_is_a_module_s():
    """A module, once imported, would take the name's place in the package."""
    for package in (rtgod, calibration):
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert modules
        assert modules.isdisjoint(package.__all__)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(rtgod.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {(line.module, alias.asname) for line in checked.body for alias in line.names}
    assert seen == {(module, name) for module, names in rtgod._PUBLIC.items() for name in names}
    assert Path(rtgod.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("package", [rtgod, calibration])
def test_a_name_that_is_not_there_is_said_to_be_missing(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'opn_run'"):
        package.opn_run  # noqa: B018 # it raises
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import rtgod", ("numpy", "numba", "torch", "zmq", "pydantic", "nibabel", "pandas", "calibration")),
        ("import calibration", ("numpy", "numba", "torch", "zmq", "sklearn", "dask")),
        ("import rtgod; rtgod.open_run", ("numba", "zmq", "nibabel")),
        ("import rtgod; rtgod.open_run({run!r})", ("numba", "zmq")),
        ("import rtgod; rtgod.read_journal('session.rtgod')", ("numba", "zmq", "pandas")),
        ("import rtgod; rtgod.Sender, rtgod.Volume", ("numba", "nibabel")),
    ],
)
def test_only_what_is_asked_for_is_imported(in_session, code, absent):
    code = f"import sys\n{code.format(run=RUN)}\nprint([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=in_session, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_name_says_what_it_takes_and_gives(name):
    public = named(name)
    text = inspect.getdoc(public)
    assert "\nExamples\n--------\n>>> import " in text
    if inspect.isfunction(public):
        assert "\nParameters\n----------\n" in text
        assert "\nReturns\n-------\n" in text or "\nYields\n------\n" in text
        for parameter in inspect.signature(public).parameters:
            assert any(parameter in line for line in text.splitlines()), parameter
    elif name not in WITHOUT_PARAMETERS:
        assert "\nParameters\n----------\n" in text or "\nAttributes\n----------\n" in text


@pytest.mark.parametrize("name", DOCUMENTED)
@IN_SESSION
def test_every_example_does_what_it_says(name, server):
    for title, text in documentation_of(named(name)):
        for usual, here in (("tcp://127.0.0.1:5555", server.ingest), ("tcp://127.0.0.1:5556", server.publish)):
            text = text.replace(usual, here)
        example = doctest.DocTestParser().get_doctest(text, {}, title, None, None)
        assert example.examples
        said = []
        assert doctest.DocTestRunner(verbose=False).run(example, out=said.append).failed == 0, "".join(said)


def test_an_example_that_is_wrong_would_be_noticed():
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda _: None).failed == 1


def rankings(answers):
    return [(a.index, a.order.tobytes(), a.scores.tobytes()) for a in answers if isinstance(a, rtgod.Ranking)]


@IN_SESSION
def test_a_decoded_run_is_what_a_server_answers_to_the_last_bit(tmp_path):
    source, bundle = rtgod.open_run(RUN), rtgod.load_bundle("bundle")
    with running(tmp_path, bundle) as server, rtgod.Sender(server.ingest) as sender:
        for _ in rtgod.send_run(source, sender, math.inf):
            pass
    theirs = rtgod.read_journal(tmp_path / "session.rtgod").answers
    ours = list(rtgod.decode_run(source, bundle))
    assert [(type(a), a.index) for a in ours] == [(type(a), a.index) for a in theirs]
    assert len(rankings(ours)) == 18
    assert rankings(ours) == rankings(theirs)
    assert rankings(ours) != rankings(rtgod.decode_run(source, recorded.other_bundle()))


class Gappy:
    """A run of which volumes are missing, the last among them."""

    def __init__(self, source, missing):
        self.run, self._source, self._missing = source.run, source, missing

    def __iter__(self):
        return (volume for volume in self._source if volume.index not in self._missing)


@IN_SESSION
def test_volumes_that_a_recording_lacks_are_answered_as_lost():
    gappy = Gappy(rtgod.open_run(RUN), {5, 6, 63})
    answers = list(rtgod.decode_run(gappy, rtgod.load_bundle("bundle")))
    assert [answer.index for answer in answers] == list(range(63))
    lost = [a.index for a in answers if isinstance(a, rtgod.NotReady) and a.reason == rtgod.Reason.LOST_VOLUME]
    assert lost == [5, 6]


def test_another_subject_s_run_is_refused_as_by_a_server_unless_it_is_meant(caplog):
    """The run is of the subject "small"."""
    run = small.Recorded(small.run(), tuple(small.volume(index) for index in range(12)))
    theirs = replace(small.bundle(), training=Training(("02",)))
    with pytest.raises(RefusedError, match="trained on subject 02"):
        list(rtgod.decode_run(run, theirs))
    assert len(list(rtgod.decode_run(run, theirs, any_subject=True))) == 12
    assert "run run-1: it is subject small's, and the decoder is subject 02's" in caplog.text


@IN_SESSION
def test_a_table_of_answers_has_a_row_for_each_with_types(tmp_path):
    frame = rtgod.read_journal("session.rtgod").to_frame()
    assert list(frame["index"]) == list(range(64))
    assert frame.dtypes[["block", "final", "latency_ms"]].astype(str).tolist() == ["Int64", "boolean", "float64"]
    labels = {rtgod.label_of(category) for category in recorded.CATEGORIES}
    assert set(frame.loc[frame["kind"] == "ranking", "label"]) == labels
    assert frame.loc[frame["kind"] == "not ready", ["block", "final", "label", "top1"]].isna().all(axis=None)
    record(tmp_path / "empty.rtgod", [])
    empty = rtgod.read_journal(tmp_path / "empty.rtgod").to_frame()
    assert len(empty) == 0
    assert empty.dtypes.equals(frame.dtypes)


@IN_SESSION
def test_a_table_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        rtgod.read_journal("session.rtgod").to_frame()


def test_what_is_published_is_heard_until_the_session_ends(tmp_path):
    with running(tmp_path) as server:
        heard = rtgod.subscribe(server.publish)
        first = next(heard)
        with rtgod.Sender(server.ingest) as sender:
            for message in small.messages(indices=range(3)):
                sender.send(message)
        for message in heard:
            if isinstance(message, rtgod.RunEnd):
                break
    assert isinstance(first, Hello)
    assert isinstance(list(heard)[-1], SessionEnd)


def test_a_server_that_is_silent_ends_the_wait():
    with pytest.raises(rtgod.ServerError, match=r"nothing was heard from .* within 0.2 s; is `rtgod serve` running"):
        next(rtgod.subscribe("tcp://127.0.0.1:1", patience_s=0.2))


def test_trials_that_give_no_sample_are_counted_in_the_log(session, tmp_path, caplog):
    table = (session / RUN.replace("bold.nii.gz", "events.tsv")).read_text() + "3000\t6\tn00000001\n"
    (tmp_path / "events.tsv").write_text(table)
    with caplog.at_level(logging.WARNING):
        samples = calibration.preprocess(session / RUN, session / "VC.nii.gz", events=[tmp_path / "events.tsv"])
    assert len(samples) == 6
    assert "1 of 7 trials seen give no sample: 1 begins after the run's end" in caplog.text


def test_samples_without_a_mask_are_the_head_s_and_none_is_made_up(session):
    inside, everywhere = (calibration.preprocess(session / RUN, mask) for mask in (session / "VC.nii.gz", None))
    assert everywhere.X.shape[1] > inside.X.shape[1] == small.N_VOXELS
    assert np.isfinite(everywhere.X).all()
    with pytest.raises(rtgod.InputError, match="no trial of the runs is imagined"):
        calibration.preprocess(session / RUN, session / "VC.nii.gz", kind="imagined")


@IN_SESSION
def test_the_readme_s_lines_run(monkeypatch):
    """Without a server: nothing is heard."""
    readme = Path(rtgod.__file__).parents[1] / "README.md"
    (lines,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)
    monkeypatch.setattr(rtgod, "subscribe", lambda address: iter((address,)))
    said = {}
    exec(compile(lines, "README.md", "exec"), said)  # noqa: S102 # our own
    assert said["message"] == "tcp://127.0.0.1:5556"
    assert (len(said["samples"]), len(said["answers"]), len(said["frame"])) == (6, 64, 64)
