"""What is shown instead of the truth, compared with the obvious way to work it out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Event, Hello, NotReady, Ranking, Reason, RunEnd
from rtgod.settings import RankingSettings
from stimulus.blinding.conditions import Condition, ConditionKind, open_feedback, runs_to_yoke
from stimulus.screens.feedback import percentile
from tests import small
from tests.journals import record

N = 7
NAMES = [f"category {i}" for i in range(N)]
IDS = [f"n{i:08d}" for i in range(N)]
HELLO = Hello("0.1.0", "another participant's", n_candidates=N, n_voxels=40)


def ranking(index=0, block=None, order=None, seed=0, run_id="run-1", n_top=3):
    """A ranking of all candidates as the server makes it, in the order of `seed` unless another is given."""
    order = np.random.default_rng(seed).permutation(N) if order is None else np.asarray(order)
    top = tuple(NAMES[i] for i in order[:n_top])
    return Ranking(run_id, index, 2, block, False, top, order, np.linspace(0.4, 0, len(order)), small.STILL)


def not_ready(index, reason=Reason.MOTION, run_id="run-1"):
    return NotReady(run_id, index, reason, "why", small.STILL)


def imagined(number, position, run_id="run-1", kind="imagery"):
    return Event("screen", number, kind, 1.0, run_id=run_id, value=IDS[position])


def written(path, *messages):
    with JournalWriter(path) as writer:
        for message in messages:
            writer.append(message)
    return path


def yoked(path, run_id="", candidates=NAMES, ids=IDS):
    return open_feedback(Condition(ConditionKind.YOKED, journal=str(path), run_id=run_id), candidates, ids)


def same(a, b):
    """Whether two answers are equal, arrays included."""
    fields = type(a).__dataclass_fields__
    return type(a) is type(b) and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


def test_real_feedback_is_the_servers():
    feedback = open_feedback(Condition(ConditionKind.REAL), NAMES, IDS)
    for answer in (ranking(), not_ready(3)):
        assert feedback.shown(answer, 2)[0] is answer
        assert feedback.shown(answer, 2)[1] == 2


def test_a_transfer_run_shows_nothing_whatever_the_answer():
    feedback = open_feedback(Condition(ConditionKind.NONE), NAMES, IDS)
    for answer in (ranking(5, run_id="run-2"), not_ready(5, run_id="run-2")):
        assert feedback.shown(answer, 2) == (NotReady("run-2", 5, Reason.BETWEEN_TRIALS), 2)


def stand_ins(seed, order=None):
    """Which category takes the place of each, as one ranking shows it."""
    feedback = open_feedback(Condition(ConditionKind.SHUFFLED, seed), NAMES, IDS)
    answer = ranking(order=order)
    return dict(zip(answer.order.tolist(), feedback.shown(answer, None)[0].order.tolist(), strict=True)), feedback


@given(st.integers(0, 2**63), st.integers(0, N - 1))
def test_shuffled_shows_each_category_in_the_place_of_another_all_run_long(seed, target):
    stand_in, feedback = stand_ins(seed)
    assert sorted(stand_in.values()) == list(range(N))
    assert all(a != b for a, b in stand_in.items())
    instead_of_target = next(category for category, shown in stand_in.items() if shown == target)
    for index in range(5):
        answer = ranking(index, block=1, seed=index)
        shown, shown_target = feedback.shown(answer, target)
        order = [stand_in[category] for category in answer.order.tolist()]
        expected = replace(answer, order=np.array(order), top=tuple(NAMES[i] for i in order[:3]))
        assert same(shown, expected)
        assert shown_target == target
        assert order.index(target) == answer.order.tolist().index(instead_of_target)


def test_shuffled_passes_on_that_there_is_no_ranking():
    _, feedback = stand_ins(1)
    answer = not_ready(4)
    assert feedback.shown(answer, None) == (answer, None)


def test_shuffled_is_the_same_after_a_restart_and_another_with_another_seed():
    assert stand_ins(3)[0] == stand_ins(3)[0]
    assert len({tuple(sorted(stand_ins(seed)[0].items())) for seed in range(50)}) > 40


def test_a_target_that_is_always_first_is_anywhere_else_when_shuffled():
    places = []
    for seed in range(600):
        _, feedback = stand_ins(seed)
        shown, target = feedback.shown(ranking(order=[2, 0, 1, 3, 4, 5, 6]), 2)
        places.append(shown.order.tolist().index(target))
    counts = np.bincount(places, minlength=N)
    assert counts[0] == 0
    # 100 for each other place; a binomial SD is 9.
    assert (abs(counts[1:] - 100) < 45).all()


def test_shuffled_keeps_to_the_candidates_that_the_settings_choose():
    chosen = [1, 3, 4, 6]
    for seed in range(20):
        stand_in, _ = stand_ins(seed, order=chosen[::-1])
        assert sorted(stand_in.values()) == chosen
        assert all(a != b for a, b in stand_in.items())


def test_shuffled_takes_the_best_of_very_many_out_of_the_best():
    n_all = 100_001
    feedback = open_feedback(Condition(ConditionKind.SHUFFLED, 1), [str(i) for i in range(n_all)], [])
    answer = replace(ranking(), order=np.arange(1000), scores=np.zeros(1000), top=("0", "1"))
    shown, _ = feedback.shown(answer, 0)
    assert np.isin(shown.order, answer.order).sum() < 40  # ten by chance
    assert shown.top == tuple(map(str, shown.order[:2]))


def test_nothing_to_shuffle_is_refused_and_so_are_other_candidates():
    with pytest.raises(InputError, match="at least two"):
        open_feedback(Condition(ConditionKind.SHUFFLED), NAMES[:1], IDS[:1])
    for order in ([N, 0], [-1, 0]):
        feedback = open_feedback(Condition(ConditionKind.SHUFFLED), NAMES, IDS)
        with pytest.raises(InputError, match="other candidates than the 7"):
            feedback.shown(replace(ranking(), order=np.array(order), scores=np.zeros(2)), None)


@pytest.fixture
def other(tmp_path):
    """A session of two runs; the second has trials of categories 4 and 2, and its answers are `ANSWERS`."""
    first = [ranking(0, run_id="run-0"), imagined(0, 5, "run-0")]
    second = [
        *ANSWERS[:2],
        imagined(1, 4),
        imagined(2, 6, kind="vividness"),
        imagined(3, 6, run_id="run-9"),
        *ANSWERS[2:4],
        imagined(4, 2),
        *ANSWERS[4:],
        RunEnd("run-1", 6),
    ]
    return written(tmp_path / "other.rtgod", HELLO, *first, *second, ranking(9, run_id="run-2"))


ANSWERS = [
    not_ready(0, Reason.WARMING_UP),
    ranking(1, seed=1),
    ranking(2, block=0, seed=2),
    not_ready(3),
    ranking(4, block=0, seed=4),  # late: the next trial has begun
    ranking(5, block=1, seed=5),
]
TARGETS = [None, None, 4, 4, 4, 2]


def test_yoked_shows_the_other_sessions_answers_and_targets(other):
    feedback = yoked(other, "run-1")
    for answer, target in zip(ANSWERS, TARGETS, strict=True):
        for own in (ranking(answer.index, run_id="now", seed=99), not_ready(answer.index, run_id="now")):
            shown, shown_target = feedback.shown(own, 0)
            assert same(shown, replace(answer, run_id="now"))
            assert shown_target == target


def test_yoked_looks_as_the_truth_would_where_no_confidence_is_known(tmp_path):
    sure = [replace(ranking(index, seed=index), probability=(0.2, 0.5, 0.7)) for index in range(3)]
    feedback = yoked(written(tmp_path / "other.rtgod", HELLO, *sure))

    def probability(answer):
        return feedback.shown(answer, None)[0].probability

    known = replace(ranking(0), probability=(0.0, 0.1, 0.2))
    assert probability(not_ready(0)) == (0.2, 0.5, 0.7)
    assert probability(known) == (0.2, 0.5, 0.7)
    assert probability(ranking(1)) is None
    assert probability(not_ready(2)) is None
    assert probability(known) == (0.2, 0.5, 0.7)


def test_yoked_to_a_shorter_run_goes_on_showing_its_last_answer(other):
    shown, target = yoked(other, "run-1").shown(ranking(30, run_id="now"), 0)
    assert same(shown, replace(ANSWERS[-1], run_id="now", index=30))
    assert target == 2


def test_yoked_shows_the_answer_before_where_one_is_missing(tmp_path):
    path = written(tmp_path / "a.rtgod", HELLO, ranking(1, seed=1), ranking(4, seed=4))
    feedback = yoked(path)
    for index, recorded in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 4), (5, 4)]:
        assert same(feedback.shown(ranking(index, seed=9), None)[0], ranking(index, seed=recorded))


def test_yoked_without_a_run_takes_the_first_with_rankings(tmp_path):
    path = written(
        tmp_path / "a.rtgod", HELLO, not_ready(0, run_id="run-0"), ranking(0, seed=3), ranking(0, run_id="b")
    )
    assert runs_to_yoke(path) == ["run-1", "b"]
    assert same(yoked(path).shown(ranking(), None)[0], ranking(seed=3))


def test_a_run_that_was_stopped_early_is_yoked_only_if_there_is_no_other(tmp_path):
    stopped = [small.run("run-1", n_volumes=2), ranking(0)]
    again = [small.run("run-1~2", n_volumes=1), ranking(0, run_id="run-1~2")]
    assert runs_to_yoke(written(tmp_path / "a.rtgod", *stopped, *again)) == ["run-1~2"]
    assert runs_to_yoke(written(tmp_path / "b.rtgod", *stopped)) == ["run-1"]


def test_a_target_that_is_no_candidate_or_has_no_event_is_none(other, tmp_path):
    assert yoked(other, "run-1", ids=[*IDS[:4], "else", *IDS[5:]]).shown(ranking(2), 0)[1] is None
    path = written(tmp_path / "a.rtgod", HELLO, imagined(0, 1), ranking(0, block=0), ranking(1, block=1))
    assert [yoked(path).shown(ranking(index), 0)[1] for index in (0, 1)] == [1, None]


def test_a_servers_own_journal_can_be_yoked(tmp_path):
    answers = {}
    for message in record(tmp_path / "a.rtgod", small.messages(), small.bundle()):
        if isinstance(message, Ranking | NotReady):
            answers[message.index] = message
    feedback = yoked(tmp_path / "a.rtgod")
    for index, answer in answers.items():
        assert same(feedback.shown(ranking(index), None)[0], answer)


def test_a_session_whose_settings_chose_candidates_can_be_yoked(tmp_path):
    settings = small.SETTINGS.model_copy(update={"ranking": RankingSettings(candidates=(IDS[1], IDS[3], IDS[6]))})
    record(tmp_path / "a.rtgod", small.messages(), small.bundle(settings))
    shown, _ = yoked(tmp_path / "a.rtgod").shown(ranking(5), None)
    assert sorted(shown.order.tolist()) == [1, 3, 6]


@pytest.mark.parametrize("candidates", [NAMES[:-1], [*NAMES, "one more"], NAMES[::-1]])
@pytest.mark.parametrize("hello", [[HELLO], []])
def test_a_session_with_other_candidates_is_refused(tmp_path, candidates, hello):
    # Without its first record only what is in the rankings tells.
    path = written(tmp_path / "a.rtgod", *hello, ranking(order=[6, 5, 4, 3, 2, 1, 0]))
    if len(candidates) > N and not hello:
        assert yoked(path, candidates=candidates)
        return
    with pytest.raises(InputError, match="another decoder"):
        yoked(path, candidates=candidates)


def test_what_cannot_be_yoked_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"absent\.rtgod: cannot be read"):
        yoked(tmp_path / "absent.rtgod")
    with pytest.raises(InputError, match=r"absent\.rtgod: cannot be read"):
        yoked(tmp_path / "absent.rtgod", "run-1")
    (tmp_path / "text.rtgod").write_text("no journal at all")
    with pytest.raises(InputError, match="not a journal"):
        yoked(tmp_path / "text.rtgod")
    path = written(tmp_path / "a.rtgod", HELLO, not_ready(0))
    with pytest.raises(InputError, match="no run with a ranking"):
        yoked(path)
    for run_id in ("run-1", "run-7"):
        with pytest.raises(InputError, match=f"no ranking of a run '{run_id}'"):
            yoked(path, run_id)


def test_a_condition_that_means_nothing_is_refused():
    with pytest.raises(InputError, match="journal"):
        Condition(ConditionKind.YOKED)
    with pytest.raises(InputError, match="negative"):
        Condition(ConditionKind.SHUFFLED, seed=-1)


def test_shuffled_feedback_does_not_follow_the_decoder():
    """True feedback rises as the target climbs; over many shufflings the sham's level knows nothing of it."""
    rng = np.random.default_rng(0)
    n_candidates, n_trials = 60, 20
    names = [f"thing {n}" for n in range(n_candidates)]
    trials = []
    for trial in range(n_trials):
        target = int(rng.integers(n_candidates))
        evidence = rng.standard_normal(n_candidates)
        evidence[target] += 3 * trial / n_trials
        order = np.argsort(-evidence)
        top = tuple(names[place] for place in order[:10])
        trials.append((replace(small.RANKING, order=order, scores=evidence[order], top=top), target))

    def slope(feedback):
        levels = [percentile(*feedback.shown(ranking, target)) for ranking, target in trials]
        return np.polyfit(np.arange(n_trials), levels, 1)[0]

    def opened(condition):
        return open_feedback(condition, names, [f"n{n}" for n in range(n_candidates)])

    real = slope(opened(Condition(ConditionKind.REAL)))
    sham = np.array([slope(opened(Condition(ConditionKind.SHUFFLED, seed=seed))) for seed in range(200)])
    assert real > 2.5 * sham.std()
    assert abs(sham.mean()) < 4 * sham.std() / np.sqrt(len(sham))
