"""What a rehearsal makes of the tables that a session leaves behind. The session itself is played in CI, by command."""

import numpy as np
import pytest

from rtgod.commands.rehearse import figures_of, rehearse, verdict
from rtgod.errors import InputError

PLAN = "onset\tduration\ttrial_no\tevent_type\tcategory_name\tstimulus_name\n"


def session(folder, n_trials, level_of, late_s=0.0):
    """A plan and the tables of two runs: in each trial a cue, then feedback that is shown twice."""
    rows = [(0, 6, 0, "rest")]
    for trial in range(1, n_trials + 1):
        onset_s = 6 + 9 * (trial - 1)
        rows += [(onset_s, 3, trial, "cue"), (onset_s + 3, 6, trial, "feedback")]
    lines = ["\t".join([*map(str, row), "c", "n/a"]) for row in rows]
    folder.mkdir()
    plan = folder.parent / "run-1_events.tsv"
    plan.write_text(PLAN + "".join(line + "\n" for line in lines))
    for name, condition in (("run-1", "real"), ("run-1~2", "shuffled")):
        happened = [f"{line}\t{float(line.split()[0])}" for line in lines]
        happened[3] = happened[3].replace("15\t", f"{15 + late_s}\t", 1)
        (folder / f"{name}_events.tsv").write_text(
            PLAN.strip() + "\tplanned_onset\n" + "".join(line + "\n" for line in happened)
        )
        shown = ["run_s\tpercentile"]
        for onset_s, _, trial, kind in rows:
            if kind == "feedback":
                shown += [f"{onset_s}\t0.111", f"{onset_s + 3}\t{level_of(condition, trial)}"]
        (folder / f"{name}_shown.tsv").write_text("".join(line + "\n" for line in [*shown, "999\tn/a"]))
    (folder / "conditions.tsv").write_text("run\tcondition\n1\treal\n2\tshuffled\n")
    return plan


def test_feedback_that_follows_the_imagery_is_told_from_feedback_that_does_not(tmp_path):
    plan = session(tmp_path / "s", 9, lambda condition, trial: trial / 10 if condition == "real" else 0.5 - trial / 100)
    figures = figures_of(tmp_path / "s", plan, speed=1.0)
    assert figures["real_trials_shown"] == figures["shuffled_trials_shown"] == 9
    assert figures["real_feedback_first_third"] == pytest.approx(0.2)
    assert figures["real_feedback_last_third"] == pytest.approx(0.8)
    assert figures["real_rank_correlation"] == pytest.approx(1)
    assert figures["shuffled_rank_correlation"] == pytest.approx(-1)


def test_onset_errors_are_those_of_the_display_s_own_time(tmp_path):
    plan = session(tmp_path / "s", 4, lambda *_: 0.5, late_s=0.3)
    figures = figures_of(tmp_path / "s", plan, speed=10.0)
    assert figures["steps_shown"] == figures["steps_planned"] == 16
    assert figures["onset_error_ms_max"] == pytest.approx(30)
    assert figures["onset_error_ms_p99"] == pytest.approx(np.percentile([30, 30, *[0] * 14], 99))


def test_a_folder_that_is_there_is_not_written_to(tmp_path):
    with pytest.raises(InputError, match="exists already"):
        rehearse(tmp_path, bundle=tmp_path, out=tmp_path)


def test_a_subject_without_test_categories_is_named(tmp_path):
    table = tmp_path / "subject" / "stimuli" / "categories.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("category_id\tname\tshown_in\ns1\tduck\ttraining\n")
    with pytest.raises(InputError, match="no test categories"):
        rehearse(tmp_path / "subject", bundle=tmp_path, out=tmp_path / "out", trials=4, view="list")


FIGURES = {
    "steps_planned": 40, "steps_shown": 40, "onset_error_ms_p99": 9.0,
    "real_trials_shown": 20, "real_rank_correlation": 0.8,
    "shuffled_trials_shown": 20, "shuffled_rank_correlation": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "line", "words"),
    [
        ({}, 0, "true feedback followed the imagery, as it should (rank correlation 0.80 over 20 trials"),
        ({}, 0, "luck stays below 0.38 in 19 of 20"),
        ({}, 1, "sham feedback did not follow the imagery, as it should not"),
        ({}, 2, "steps kept to the plan (all of 40 shown; 99 % within 9.0 ms"),
        ({"real_rank_correlation": 0.3}, 0, "true feedback did not follow the imagery: try more --trials"),
        ({"shuffled_rank_correlation": 0.5}, 1, "sham feedback followed the imagery: by luck"),
        ({"real_trials_shown": 1}, 0, "nothing can be said of 1 trial;"),
        ({"onset_error_ms_p99": 40.0}, 2, "steps were late: play it with less --speed"),
        ({"steps_shown": 38}, 2, "all but 2 of 40 shown"),
    ],
)
def test_the_verdict_says_what_figures_mean(changed, line, words):
    assert words in verdict(FIGURES | changed)[line]


def test_luck_stays_below_its_bound_in_19_of_20():
    rng = np.random.default_rng(0)
    found = [np.corrcoef(np.arange(20), rng.permutation(20))[0, 1] for _ in range(4000)]
    assert 0.03 < np.mean(np.array(found) > 1.645 / 19**0.5) < 0.07
