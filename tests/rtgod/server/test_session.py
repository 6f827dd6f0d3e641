"""Sessions: one answer for each volume whatever arrives, and the same bytes in every replay."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest

from rtgod.bundle import DecoderBundle
from rtgod.errors import RefusedError
from rtgod.fit import Training
from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.messages import Hello, NotReady, Pattern, Ranking, Reason, RunEnd, Volume
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.server.session import MAX_GAP, Session, replay, without_timing
from rtgod.server.warmup import warm_up
from rtgod.settings import NuisanceSettings, PipelineSettings
from tests import small

NAN = np.full(small.SHAPE, np.nan, "float32")
BAD = {
    "not a number": NAN,
    "infinite": np.where(small.head() > 500, np.inf, small.head()).astype("float32"),
    "constant": np.full(small.SHAPE, 700, "int16"),
    "all zero": np.zeros(small.SHAPE, "uint16"),
}


@pytest.fixture(scope="module")
def bundle():
    return small.bundle()


def send(session, *messages):
    """What a server does with each message: refuse it, pass over a duplicate, or take it."""
    answers = []
    for message in messages:
        if not session.is_duplicate(message):
            session.check(message)
            answers += [answer for answer, _ in session.handle(message)]
    return answers


def indices(answers):
    return [answer.index for answer in answers]


def reasons(answers):
    return [getattr(answer, "reason", "ranking") for answer in answers]


def in_bytes(answers):
    return [b"".join(bytes(frame) for frame in to_frames(without_timing(answer))) for answer in answers]


def moved(index, shift_mm=(8.0, 0.0, 0.0)):
    return small.volume(index, data=small.head(shift_mm))


#: A volume that is not ranked, as if later ones were waiting.
BEHIND = ("run-2", 5)


def eventful():
    """A session in which everything happens: both kinds of window, motion, bad volumes, gaps, two runs."""
    first = [small.run(), *map(small.volume, range(5)), moved(5), *map(small.volume, (6, 8, 7, 9))]
    first += [small.volume(10, data=NAN), moved(11), RunEnd("run-1", 12)]
    second = [small.run("run-2", blocks=()), *(small.volume(index, "run-2") for index in range(7)), RunEnd("run-2", 7)]
    return first + second


# ---------------------------------------------------------------- what each message does


def test_a_run_is_warmed_up_then_ranked_within_its_blocks(bundle):
    answers = send(Session(bundle), *small.messages())
    assert indices(answers) == list(range(12))
    warming, between, ranking = Reason.WARMING_UP, Reason.BETWEEN_TRIALS, "ranking"
    assert reasons(answers) == [warming] * 3 + [between] + [ranking] * 3 + [between] + [ranking] * 2 + [between] * 2
    rankings = [answer for answer in answers if isinstance(answer, Ranking)]
    assert [(r.block, r.n_volumes, r.final) for r in rankings] == [
        (0, 1, False),
        (0, 2, False),
        (0, 3, True),
        (1, 1, False),
        (1, 2, True),
    ]
    for ranking in rankings:
        assert sorted(ranking.order) == list(range(small.N_CANDIDATES))
        assert (np.diff(ranking.scores) <= 0).all()
        assert ranking.top == tuple(f"category {i}" for i in ranking.order)


def test_a_run_without_blocks_is_ranked_by_a_sliding_window(bundle):
    answers = send(Session(bundle), small.run(blocks=()), *map(small.volume, range(8)))
    assert [a.n_volumes for a in answers if isinstance(a, Ranking)] == [1, 2, 3, 3, 3]


def test_duplicates_change_nothing(bundle):
    once, twice = Session(bundle), Session(bundle)
    messages = small.messages(indices=range(7))
    doubled = [message for message in messages for _ in range(2)]
    assert in_bytes(send(twice, *doubled)) == in_bytes(send(once, *messages))
    assert all(twice.is_duplicate(message) for message in messages[1:])
    # The same header after the run's end is somebody sending the run once more: told, not swallowed.
    assert not twice.is_duplicate(messages[0])
    with pytest.raises(RefusedError, match="already sent"):
        twice.check(messages[0])
    # A volume is known by its run and index: what a source reads from the scanner again need not have equal bytes.
    assert twice.is_duplicate(moved(3))
    assert not twice.is_duplicate(small.volume(12))
    assert not twice.is_duplicate(small.volume(3, "run-2"))


def test_each_missing_volume_is_answered_before_the_one_that_shows_it(bundle):
    answers = send(Session(bundle), small.run(), small.volume(2), small.volume(3), small.volume(6))
    assert indices(answers) == [0, 1, 2, 3, 4, 5, 6]
    lost = [answer for answer in answers if getattr(answer, "reason", None) is Reason.LOST_VOLUME]
    assert indices(lost) == [0, 1, 4, 5]
    assert {answer.detail for answer in lost} == {"it never arrived"}


def test_a_late_volume_is_answered_and_moves_nothing(bundle):
    session, punctual = Session(bundle), Session(bundle)
    before = [small.run(), *map(small.volume, (0, 1, 2, 4))]
    send(session, *before)
    send(punctual, *before)
    (late,) = send(session, small.volume(3))
    assert (late.index, late.reason, late.detail) == (3, Reason.LOST_VOLUME, "it came after later volumes")
    after = list(map(small.volume, (5, 6)))
    assert in_bytes(send(session, *after)) == in_bytes(send(punctual, *after))


def test_the_end_of_a_run_shows_which_volumes_are_missing(bundle):
    session = Session(bundle)
    answers = send(session, small.run(), *map(small.volume, range(3)), RunEnd("run-1", 6))
    assert indices(answers) == [0, 1, 2, 3, 4, 5]
    assert reasons(answers[3:]) == [Reason.LOST_VOLUME] * 3
    assert session.n_runs_ended == 1
    assert send(session, RunEnd("run-1", 6)) == []
    # Volumes that come after the end are late, not missing a second time.
    assert reasons(send(session, small.volume(4))) == [Reason.LOST_VOLUME]


def test_a_run_of_no_volumes_can_end(bundle):
    session = Session(bundle)
    assert send(session, small.run(), RunEnd("run-1", 0)) == []
    assert session.n_runs_ended == 1


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (small.volume(0, "run-9"), "run run-9 is not being received (run run-1 is); send its Run first"),
        (RunEnd("run-9", 3), "run run-9 is not being received (run run-1 is); send its Run first"),
        (
            Volume("run-1", 3, 6.0, np.zeros((20, 18, 16), "int16")),
            "shape (20, 18, 16), its run announced (18, 20, 16)",
        ),
        (small.run("run-2", shape=(18, 20, 3)), "18 × 20 × 3 voxels cannot be aligned"),
        (small.run("run-2", affine=small.AFFINE + np.eye(4, k=3) * 90), "hold 0 % of the bundle's"),
        (small.run(tr_s=1.5), "already sent to this server; give the new one another id"),
        (replace(small.volume(0), index=3 + MAX_GAP + 1), f"{MAX_GAP + 1} volumes would be missing after 3"),
        (RunEnd("run-1", 10**15), "volumes would be missing after 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_taken_is_refused_and_leaves_the_session_as_it_was(bundle, message, says):
    session, other = Session(bundle), Session(bundle)
    begin, rest = small.messages()[:4], small.messages()[4:7]
    send(session, *begin)
    send(other, *begin)
    with pytest.raises(RefusedError) as caught:
        send(session, message)
    assert says in str(caught.value)
    assert in_bytes(send(session, *rest)) == in_bytes(send(other, *rest))


@pytest.mark.parametrize("message", [small.volume(0), RunEnd("run-1", 1)])
def test_nothing_is_taken_before_a_run(bundle, message):
    with pytest.raises(RefusedError, match=r"no run is.*send its Run first"):
        send(Session(bundle), message)


def test_the_largest_gap_is_still_answered():
    session = Session(None, small.AT_ONCE)
    send(session, small.run(n_volumes=None))
    assert indices(send(session, RunEnd("run-1", MAX_GAP))) == list(range(MAX_GAP))


def test_a_second_run_starts_afresh_and_ends_what_is_taken_of_the_first(bundle):
    session = Session(bundle)
    send(session, *small.messages()[:8])
    second = send(session, *small.messages("run-2"))
    alone = send(Session(bundle), *small.messages("run-2"))
    assert in_bytes(second) == in_bytes(alone)
    with pytest.raises(RefusedError, match="run run-1 is not being received"):
        send(session, small.volume(9))


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_that_starts_anew_under_its_old_name_is_refused(bundle, ended):
    session = Session(bundle)
    send(session, *small.messages()[: None if ended else 5], small.run("run-2"))
    with pytest.raises(RefusedError, match="run run-1 was already sent to this server; give the new one another id"):
        send(session, small.run())


# ---------------------------------------------------------------- bad volumes


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_bad_volume_is_answered_and_the_next_good_one_works(bundle, data):
    session = Session(bundle)
    send(session, *small.messages()[:5])
    bad, good = send(session, small.volume(4, data=data), small.volume(5))
    assert (bad.index, bad.reason) == (4, Reason.BAD_VOLUME)
    assert bad.detail
    assert isinstance(good, Ranking)
    assert good.motion.converged


@pytest.mark.parametrize(
    "data", [*BAD.values(), np.arange(18 * 20 * 16).reshape(18, -1, 16) // 320], ids=[*BAD, "ramp"]
)
def test_without_a_bundle_the_first_good_volume_becomes_the_template(data):
    session = Session(None, small.AT_ONCE)
    bad, first, second = send(
        session,
        small.run(),
        small.volume(0, data=data.astype(data.dtype.name.replace("64", "32"))),
        *map(small.volume, (1, 2)),
    )
    assert (bad.index, bad.reason) == (0, Reason.BAD_VOLUME)
    assert (first.reason, second.reason) == (Reason.NO_DECODER, Reason.NO_DECODER)
    np.testing.assert_allclose(first.motion.translation_mm, 0, atol=0.01)
    np.testing.assert_allclose(second.motion.translation_mm, (0.02, -0.1, 0), atol=0.06)


@pytest.mark.parametrize("shape", [(1, 1, 1), (18, 20, 1), (4, 4, 4)])
def test_volumes_that_are_too_small_to_align_are_bad(shape):
    volume = Volume("run-1", 0, 0.0, np.arange(np.prod(shape)).reshape(shape).astype("int16"))
    (answer,) = send(Session(None, small.AT_ONCE), small.run(shape=shape), volume)
    assert answer.reason is Reason.BAD_VOLUME


def bright_first(index, brightness=2.5):
    """A run whose first two volumes are brighter, as before magnetisation has settled."""
    data = small.head((0.0, 0.0, 0.1 * index)) * (brightness if index < 2 else 1.0)
    return small.volume(index, data=data.astype("int16"))


def test_without_a_bundle_the_template_is_the_first_settled_volume():
    session = Session(None, PipelineSettings(nuisance=NuisanceSettings(discard_s=6.0)))
    answers = send(session, small.run(), *map(bright_first, range(5)))
    assert reasons(answers) == [Reason.WARMING_UP] * 3 + [Reason.NO_DECODER] * 2
    assert "first usable volume after 6 s" in answers[0].detail
    assert [answer.motion for answer in answers[:3]] == [None] * 3
    # Volume 3 is the template: it does not move, and the next by what is between the two.
    assert np.abs(answers[3].motion.translation_mm).max() < 1e-3
    assert answers[4].motion.translation_mm[2] == pytest.approx(0.1, abs=0.02)


def test_a_journal_of_before_is_replayed_with_its_first_volume_as_the_template():
    messages = [small.run(), *map(bright_first, range(6))]
    settings = PipelineSettings(nuisance=NuisanceSettings(discard_s=6.0))
    new, old = Session(None, settings).hello(), replace(Session(None, settings).hello(), template_from_s=0.0)
    assert new.template_from_s == 6.0
    for hello, n_warming in ((new, 3), (old, 0)):
        answers = list(replay(iter([hello, *messages]), Session(None, settings)))
        assert reasons(answers).count(Reason.WARMING_UP) == n_warming
        live = Session(None, settings)
        live.heed(hello)
        assert in_bytes(answers) == in_bytes(send(live, *messages))
    # A server that died right after a run began leaves it as it was begun.
    answers = list(replay(iter([old, messages[0], new, *messages[1:]]), Session(None, settings)))
    assert reasons(answers).count(Reason.WARMING_UP) == 0


def test_what_is_counted_survives_a_checkpoint(bundle):
    session = Session(bundle)
    answers = send(session, small.run(), *map(small.volume, range(5)), moved(5))
    for answer in answers:
        session.count(answer)
    again = Session(bundle)
    again.restore(session.state())
    assert again.answers_of("run-1") == session.answers_of("run-1") == again.totals()
    assert again.totals()["ranking"] == reasons(answers).count("ranking") > 0
    assert again.n_runs == 1


def test_a_run_of_another_protocol_that_a_journal_holds_is_replayed(bundle):
    strict = replace(bundle, training=Training(("small",), 2.5))
    with pytest.raises(RefusedError, match=r"trained at 2\.5 s"):
        Session(strict).oddities(small.run())
    assert in_bytes(send(Session(strict), *small.messages())) == in_bytes(send(Session(bundle), *small.messages()))


@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 1e30)])
def test_noise_is_answered_with_motion_and_can_be_sent_on(bundle, seed, scale):
    session = Session(bundle)
    send(session, *small.messages()[:4])
    data = (np.random.default_rng(seed).standard_normal(small.SHAPE) * scale).astype("float32")
    noise, good = send(session, small.volume(3, data=data), small.volume(4))
    assert (noise.reason, noise.motion.converged) == (Reason.MOTION, False)
    assert from_frames(to_frames(noise)) == noise
    assert good.motion.converged


def test_a_session_without_a_bundle_gives_the_motion_of_each_volume():
    answers = send(Session(None, small.AT_ONCE), small.run(), *map(small.volume, range(3)), moved(3, (1.0, -2.0, 0.5)))
    assert reasons(answers) == [Reason.NO_DECODER] * 4
    np.testing.assert_allclose(answers[3].motion.translation_mm, (1.0, -2.0, 0.5), atol=0.1)
    assert "align" in answers[3].stage_ms


def test_hello_says_what_is_decoded_with(bundle):
    assert (Session(bundle).hello().n_candidates, Session(bundle).hello().n_voxels) == (7, 40)
    assert (Session(None).hello().n_candidates, Session(None).hello().n_voxels) == (0, 0)


def test_hello_says_each_letter_of_the_names_that_is_not_ascii_once(bundle):
    names = ("dog", "ガム", "café", "ムース")
    named = replace(
        bundle,
        candidates=tuple(
            replace(candidate, name=names[place % 4]) for place, candidate in enumerate(bundle.candidates)
        ),
    )
    assert Session(named).hello().letters == "éガスムー"
    assert Session(bundle).hello().letters == Session(None).hello().letters == ""


def test_warming_up_leaves_nothing_behind_and_reaches_the_ranking():
    assert warm_up() is None


# ---------------------------------------------------------------- replay


@pytest.fixture(scope="module")
def recorded(bundle, tmp_path_factory):
    """A journal as a server writes it, and the bytes of the answers that it gave meanwhile."""
    path = tmp_path_factory.mktemp("journal") / "session.rtgod"
    session, answers = Session(bundle), []
    with JournalWriter(path) as writer:
        writer.append(session.hello())
        for message in eventful():
            session.check(message)
            writer.append(message)
            waits = isinstance(message, Volume) and (message.run_id, message.index) == BEHIND
            for answer, pattern in session.handle(message, rank=not waits):
                if pattern is not None:
                    writer.append(pattern)
                writer.append(answer)
                answers.append(answer)
    return path, answers


def test_everything_happens_in_the_session_that_is_replayed(recorded):
    path, answers = recorded
    assert set(reasons(answers)) == {"ranking"} | set(Reason) - {Reason.NO_DECODER}
    assert {type(message) for message in read_journal(path)} >= {Hello, Pattern, Ranking, NotReady, Volume}
    # A censored volume repeats the ranking before it; otherwise every volume moves the bytes that are compared below.
    rankings = [answer.scores.tobytes() for answer in answers if isinstance(answer, Ranking)]
    assert len(rankings) - 2 <= len(set(rankings)) >= 5


@pytest.mark.parametrize(
    "n_threads", sorted({1, min(2, numba.config.NUMBA_NUM_THREADS), numba.config.NUMBA_NUM_THREADS})
)
def test_a_replayed_journal_gives_the_same_bytes_with_any_number_of_threads(recorded, bundle, n_threads):
    path, answers = recorded
    before = numba.get_num_threads()
    numba.set_num_threads(n_threads)
    try:
        replayed = list(replay(read_journal(path), Session(bundle)))
    finally:
        numba.set_num_threads(before)
    assert in_bytes(replayed) == in_bytes(answers)
    journaled = [message for message in read_journal(path) if isinstance(message, Ranking | NotReady)]
    assert in_bytes(replayed) == in_bytes(journaled)


REPLAY = """
import hashlib, sys
import numba
from pathlib import Path
from rtgod.bundle import DecoderBundle
from rtgod.journal.journal import read_journal
from rtgod.protocol.frames import to_frames
from rtgod.server.session import Session, replay, without_timing

folder, journal, n_threads = sys.argv[1:]
assert numba.get_num_threads() == int(n_threads)
for answer in replay(read_journal(Path(journal)), Session(DecoderBundle.load(Path(folder)))):
    print(hashlib.sha256(b"".join(map(bytes, to_frames(without_timing(answer))))).hexdigest())
"""


def test_other_processes_replay_the_same_bytes_from_disk_with_one_thread_and_with_two(recorded, bundle, tmp_path):
    path, answers = recorded
    bundle.save(tmp_path / "bundle")
    digests = {"here": [hashlib.sha256(content).hexdigest() for content in in_bytes(answers)]}
    for n_threads in ("1", "2"):
        pools = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        done = subprocess.run(
            [sys.executable, "-c", REPLAY, tmp_path / "bundle", path, n_threads],
            env={**os.environ, **dict.fromkeys(pools, n_threads)},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digests[n_threads] = done.stdout.split()
    assert digests["1"] == digests["2"] == digests["here"]


def test_a_session_holds_its_candidates_once(bundle, tmp_path):
    """A loaded bundle's features stay in its file, and a session lets go of them once they are indexed."""
    bundle.save(tmp_path / "bundle")
    loaded = DecoderBundle.load(tmp_path / "bundle")
    for name, features in loaded.candidate_features.items():
        assert not features.flags.owndata
        np.testing.assert_array_equal(features, bundle.candidate_features[name])
    session = Session(loaded)
    assert not session.bundle.candidate_features
    assert session.hello().n_candidates == small.N_CANDIDATES
