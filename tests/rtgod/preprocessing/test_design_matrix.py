import numpy as np
import pytest

from rtgod.messages import Block, Motion, Run
from rtgod.preprocessing.design_matrix import Design, columns_of
from rtgod.settings import NuisanceSettings, ResponseSettings
from tests import naive

NOTHING = np.empty(0)
STILL = Motion((0, 0, 0), (0, 0, 0), 0, 0, 1, True)


def run(blocks=(), n_volumes=150, tr_s=2.0):
    return Run("run-1", "01", tr_s, (4, 4, 4), np.eye(4), n_volumes, tuple(blocks))


def design(one=None, follows=True, **nuisance):
    settings = NuisanceSettings(**nuisance)
    return Design(one or run(), settings, ResponseSettings(), settings.n_components, follows)


def rows(made, n_volumes=150, motions=None, gain=1.0):
    found = []
    for index in range(n_volumes):
        made.starting(index)
        found.append(made.row(index, motions[index] if motions else STILL, gain, NOTHING))
    return np.array(found)


@pytest.mark.parametrize(("n_volumes", "tr_s"), [(150, 2.0), (178, 3.0), (40, 0.5)])
def test_drift_is_spm_s_cosine_set_and_a_line(n_volumes, tr_s):
    made = design(run(n_volumes=n_volumes, tr_s=tr_s), follows=False)
    expected = naive.drift_columns(n_volumes, 128.0, tr_s)
    np.testing.assert_allclose(rows(made, n_volumes), expected, atol=1e-12)
    assert made.n_nuisance == expected.shape[1]


def test_faster_drift_is_expected_to_be_smaller():
    sds = design(follows=False, drift_sd=0.6).prior_sd
    np.testing.assert_allclose(sds[1:5], [0.6, 0.6, 0.3, 0.2])
    assert sds[0] > 1000


@pytest.mark.parametrize("off", [{"drift_cutoff_s": 0.0}, {"drift_sd": 0.0}])
def test_without_drift_the_constant_is_alone(off):
    np.testing.assert_array_equal(rows(design(follows=False, **off)), np.ones((150, 1)))


def test_a_run_of_unknown_length_has_drift_all_the_same():
    found = rows(design(run(n_volumes=None), follows=False), 600)
    assert np.isfinite(found).all()
    assert np.abs(found[:450]).max() <= 1
    assert np.linalg.matrix_rank(found) == found.shape[1] == 16  # 900 s


@pytest.mark.parametrize("n", [6, 12, 24])
def test_motion_is_in_mm_since_the_first_volume_with_changes_and_squares(n):
    rng = np.random.default_rng(0)
    motions = [Motion(tuple(rng.normal(2, 1, 3)), tuple(rng.normal(1, 1, 3)), 0, 0, 1, True) for _ in range(20)]
    found = rows(design(follows=False, drift_sd=0, motion_parameters=n), 20, motions)[:, 1:]
    table = np.array([[*m.translation_mm, *(50 * np.radians(m.rotation_deg))] for m in motions])
    table -= table[0]
    twelve = np.hstack([table, np.diff(table, axis=0, prepend=0)])
    np.testing.assert_allclose(found, np.hstack([twelve, twelve**2])[:, :n], atol=1e-12)


def test_the_global_signal_is_the_head_s_brightness_in_percent():
    found = rows(design(follows=False, drift_sd=0, global_signal=True), 3, gain=1.02)
    np.testing.assert_allclose(found, [[1, 2]] * 3)


def test_components_come_last_of_the_nuisance():
    made = design(run([Block(10, 4)]), drift_sd=0, n_components=2)
    made.starting(8)
    row = made.row(8, STILL, 1.0, np.array([0.3, -0.7]))
    np.testing.assert_allclose(row[1:3], [0.3, -0.7])
    assert made.n_nuisance == 3
    assert row[3] > 0


BLOCKS = [Block(33 + 9 * n, 9) for n in range(12)]


def test_each_trial_s_column_is_its_response_and_serves_another_when_that_is_over():
    made = design(run(BLOCKS, 90, 3.0), drift_sd=0)
    n_columns = len(made.prior_sd) - 1
    assert n_columns == 5  # 9 s and 32 s of response, every 9 s
    seen = {}
    for index in range(90):
        passed = made.starting(index)
        row = made.row(index, STILL, 1.0, NOTHING)
        for trial in range(len(BLOCKS)):
            column = made.column_of(trial)
            middle_s = (index + 0.5) * 3.0 - BLOCKS[trial].onset_s
            if column is not None and -1.5 <= middle_s <= 40:
                seen.setdefault(trial, set()).add(column)
                assert row[column] == pytest.approx(naive.response(middle_s, 9.0), abs=1e-3)
                assert made.answered(index)[trial] == row[column]
        for column in passed:
            assert any(made.column_of(trial) == column for trial in range(len(BLOCKS)))
    assert {trial: len(columns) for trial, columns in seen.items()} == dict.fromkeys(range(12), 1)


def test_lost_volumes_do_not_hide_that_a_column_passed_on():
    made = design(run(BLOCKS, 90, 3.0), drift_sd=0)
    made.starting(13)
    first = made.column_of(0)
    # Volumes 14 to 29 never arrive; by then the column has passed from trial 0 to trial 5.
    assert first in made.starting(30)
    assert made.column_of(0) is None
    assert made.column_of(5) == first


def test_trials_at_once_have_columns_of_their_own():
    made = design(run([Block(10, 20), Block(12, 20), Block(200, 5)]), drift_sd=0)
    assert len(made.prior_sd) == 3
    made.starting(10)
    assert {made.column_of(0), made.column_of(1)} == {1, 2}


def test_the_baseline_is_over_when_the_first_response_begins():
    made = design(run([Block(33, 9)], 60, 3.0))
    assert [made.baseline_is_over(index) for index in (0, 10, 11, 13)] == [False, False, False, True]
    assert design(follows=False).baseline_is_over(0)


@pytest.mark.parametrize("delay_s", [-29.5, -5.25, 0.0, 4.5])
def test_with_a_delay_trials_are_answered_as_if_they_came_as_much_later(delay_s):
    moved = [Block(block.onset_s + delay_s, block.duration_s) for block in BLOCKS]
    nuisance = NuisanceSettings()
    delayed = Design(run(BLOCKS, 90, 3.0), nuisance, ResponseSettings(delay_s=delay_s), 0, follows_trials=True)
    later = Design(run(moved, 90, 3.0), nuisance, ResponseSettings(), 0, follows_trials=True)
    np.testing.assert_array_equal(rows(delayed, 90), rows(later, 90))
    assert columns_of(run(BLOCKS, 90, 3.0), delay_s) == columns_of(run(moved, 90, 3.0))
    assert (rows(delayed, 90) == rows(design(run(BLOCKS, 90, 3.0)), 90)).all() == (delay_s == 0)


def test_a_response_may_begin_before_the_run():
    made = Design(run([Block(2, 9)], 40, 3.0), NuisanceSettings(drift_sd=0), ResponseSettings(delay_s=-6.0), 0, True)
    course = rows(made, 40)[:, 1]
    np.testing.assert_allclose(course[:8], [naive.response((n + 0.5) * 3.0 + 4.0, 9.0) for n in range(8)], atol=1e-3)
