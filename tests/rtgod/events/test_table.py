"""Events tables: the real ones, every way in which one can be wrong, and any table at all."""

import contextlib
import unicodedata
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError, RefusedError
from rtgod.events.table import Trial, blocks_of, check_within, cue_lead_s, cut_to_length, read_events, read_trials
from rtgod.events.trial_types import is_no_stimulus
from rtgod.events.trials import LeftOut, Why, remarks_on
from rtgod.messages import Block, Ranking
from rtgod.server.session import Session
from rtgod.settings import EventsSettings
from tests import small
from tests.strategies import equal

PERCEPTION = (
    "onset\tduration\ttrial_no\tevent_type\tstimulus_name\n"
    "0\t33\t1\trest\tn/a\n"
    "33\t9\t2\tstimulus\tn02769748_20423\n"
    "42\t9\t3\tstimulus\tn04442441_4452\n"
    "51\t9\t4\tstimulus\tn04442441_4452\n"
)
IMAGERY = (
    "onset\tduration\tevent_type\tcategory_name\n"
    "33\t3\tcue\tn02950256\n36\t15\timagery\tn02950256\n51\t3\tevaluation\tn02950256\n54\t3\tinter_rest\tn02950256\n"
    "60\t15\timagery\tn02950256\n"
)


@pytest.fixture
def write(tmp_path):
    def write_table(content: str | bytes) -> Path:
        path = tmp_path / "run_events.tsv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_table


def test_perception_gives_stimuli_their_synset_and_marks_the_one_back_repeat(write):
    first, second, third = read_trials(write(PERCEPTION))
    assert first == Trial(33.0, 9.0, "stimulus", "n02769748", "n02769748_20423", repeat=False)
    assert (second.repeat, third.repeat) == (False, True)


def test_the_lead_of_a_cue_is_read_from_the_table(write):
    assert cue_lead_s(write(IMAGERY)) == 3.0
    assert cue_lead_s(write(PERCEPTION)) is None
    assert cue_lead_s(write("onset\tduration\ttrial_type\n0\t9\thouse\n")) is None


def test_imagery_is_a_trial_but_its_cue_evaluation_and_rest_are_not(write):
    trials = read_trials(write(IMAGERY))
    assert trials == (Trial(36.0, 15.0, "imagery", "n02950256"), Trial(60.0, 15.0, "imagery", "n02950256"))
    once, again = blocks_of(trials)
    assert (once, again) == (Block(36.0, 15.0, once.label, True), Block(60.0, 15.0, once.label, True))


def test_trials_of_one_category_have_one_label_that_does_not_name_it():
    categories = {0: "face", 20: "face", 40: "house"}
    trials = [Trial(onset_s, 9.0, "stimulus", category) for onset_s, category in categories.items()]
    first, second, other = (block.label for block in blocks_of(trials))
    assert first == second != other
    assert "face" not in first
    assert len(first) == 8


def test_plain_bids_takes_every_row_that_is_not_rest(write):
    # Windows line ends, a byte order mark, a tab at the end of lines and rest without times: all seen in real files.
    text = "\ufeffonset\tduration\ttrial_type\t\r\n20\t2\thouse\t\r\nn/a\tn/a\tRest\t\r\n\r\n1.5\t2\tface\t\r\n"
    trials = read_trials(write(text))
    assert [(trial.onset_s, trial.category, trial.kind) for trial in trials] == [
        (1.5, "face", "stimulus"),
        (20.0, "house", "stimulus"),
    ]


def test_a_stimulus_without_a_name_is_known_by_its_category(write):
    header = "onset\tduration\tevent_type\tcategory_name\tstimulus_name\n"
    trials = read_trials(write(header + "0\t9\tstimulus\tn1\tn/a\n9\t9\tstimulus\tn1\tn2_3\n"))
    assert trials == (Trial(0.0, 9.0, "stimulus", "n1"), Trial(9.0, 9.0, "stimulus", "n2", "n2_3"))
    without = "onset\tduration\tevent_type\tcategory_name\n0\t9\tstimulus\tn1\n"
    assert read_trials(write(without)) == (Trial(0.0, 9.0, "stimulus", "n1"),)


def test_a_plain_table_may_name_the_image_files(write):
    header = "onset\tduration\ttrial_type\tstim_file\n"
    path = write(header + "0\t1\tface\timages/f_1.png\n1\t1\tface\tstimuli/images/f_1.png\n2\t1\tcat\tcat\\f_1.png\n")
    assert [(trial.stimulus, trial.repeat) for trial in read_trials(path)] == [
        ("images/f_1.png", False), ("images/f_1.png", False), ("cat/f_1.png", False),
    ]  # fmt: skip


def rows_of(*rows):
    return "onset\tduration\ttrial_type\tstim_file\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows)


def test_rows_of_one_category_are_merged_over_small_gaps_only(write):
    path = write(rows_of((0, 1, "a", "x.png"), (1.5, 1, "a", "x.png"), (3, 1, "b", "y.png"), (4.5, 1, "b", "z.png"),
                         (20, 1, "b", "z.png")))  # fmt: skip
    merged = read_trials(path, merge_gap_s=0.5)
    assert merged == (
        Trial(0.0, 2.5, "stimulus", "a", "x.png"),
        Trial(3.0, 2.5, "stimulus", "b", None),  # two images
        Trial(20.0, 1.0, "stimulus", "b", "z.png"),
    )
    assert len(read_trials(path, merge_gap_s=0.4)) == len(read_trials(path)) == 5


def test_rows_that_overlap_or_lie_within_others_are_merged_to_the_last_end(write):
    path = write(rows_of((0, 10, "a", "n/a"), (2, 3, "a", "n/a"), (9, 5, "a", "n/a")))
    assert read_trials(path, merge_gap_s=0.1) == (Trial(0.0, 14.0, "stimulus", "a"),)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("\n \t\n", "empty"),
        ("onset\tduration\ttrial_type\n", "no trial"),
        ("onset\tduration\ttrial_type\n0\t9\trest\n", "no trial"),
        ("duration\ttrial_type\n9\tface\n", "line 1: no column 'onset'"),
        ("onset,duration,trial_type\n0,9,face\n", "tab-separated"),
        ("onset\ttrial_type\n9\tface\n", "line 1: no column 'duration'"),
        ("onset\tduration\n0\t9\n", "add 'trial_type'"),
        ("onset\tduration\tevent_type\n0\t9\tstimulus\n", "add 'trial_type'"),
        ("onset\tduration\ttrial_type\n0\t9\tface\n\nsoon\t9\tface\n", "line 4, column onset: is 'soon'"),
        ("onset\tduration\ttrial_type\n0\tn/a\tface\n", "line 2, column duration: is 'n/a'"),
        ("onset\tduration\ttrial_type\nNaN\t9\tface\n", "line 2, column onset: is 'NaN'"),
        ("onset\tduration\ttrial_type\n0\tinf\tface\n", "line 2, column duration: is 'inf'"),
        ("onset\tduration\ttrial_type\n0\t-9\tface\n", "line 2, column duration: is -9 s"),
        ("onset\tduration\ttrial_type\tx\n0\n", "no trial"),
        ("onset\tduration\tevent_type\tstimulus_name\n0\t9\tstimulus\tn/a\n", "line 2, column stimulus_name: is empty"),
        (b"onset\tduration\ttrial_type\n0\t9\tcaf\xe9\n", "line 2: not UTF-8"),
        ("onset\tduration\ttrial_type\n".encode("utf-16"), "line 1: not UTF-8"),
        ("onset\tduration\ttrial_type\n0\t9\t" + "x" * 200_000, "save it as tab-separated text"),
    ],
)
def test_a_table_that_cannot_be_used_says_where_and_what_to_do(write, content, says):
    path = write(content)
    with pytest.raises(InputError) as caught:
        read_trials(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_trials(tmp_path / "absent.tsv")


words = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=8).filter(
    lambda word: not is_no_stimulus(word)
)


@st.composite
def tables(draw):
    """Rows that do not share their time, in any order."""
    found, at_s = [], draw(st.floats(0, 1e4))
    for rest_s, duration_s, word in draw(
        st.lists(st.tuples(st.floats(0.2, 1e3), st.floats(0, 100), words), min_size=1)
    ):
        found.append((at_s, duration_s, word))
        at_s += duration_s + rest_s
    return draw(st.permutations(found))


def written(rows):
    return "\n".join(["onset\tduration\ttrial_type", *("\t".join(map(str, row)) for row in rows)])


@given(rows=tables(), n_doubled=st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_any_good_table_comes_back_in_order_of_onset_each_row_once(write, rows, n_doubled):
    doubled = (rows * 3)[:n_doubled]
    read = read_events(write(written([*rows, *doubled])), EventsSettings(merge_gap_s=0))
    assert [(t.onset_s, t.duration_s, t.category) for t in read.trials] == [
        (onset_s, duration_s, unicodedata.normalize("NFC", word)) for onset_s, duration_s, word in sorted(rows)
    ]
    assert sum(one.n_rows for one in read.left_out) == len(doubled)
    assert {one.why for one in read.left_out} <= {Why.DOUBLED}
    assert not read.overlaps
    assert read.n_joined == 0


@given(data=st.data(), rows=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.sampled_from("abc"))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_the_order_of_rows_does_not_matter_nor_do_trials_of_two_categories_share_most_of_their_time(write, data, rows):
    """Whatever shares its time with what: a table is refused, in any order, or read alike in any order."""
    found = []
    for of in (rows, data.draw(st.permutations(rows))):
        try:
            read = read_events(write(written(of)), EventsSettings(merge_gap_s=0))
        except InputError as error:
            found.append(str(error))
        else:
            found.append((read.trials, {(one.why, one.name, one.n_rows) for one in read.left_out}, read.overlaps))
            for k, trial in enumerate(read.trials):
                for other in read.trials[k + 1 :]:
                    shared_s = min(trial.onset_s + trial.duration_s, other.onset_s + other.duration_s) - other.onset_s
                    shorter_s = min(trial.duration_s, other.duration_s)
                    assert trial.category == other.category or shared_s <= shorter_s / 2
    assert found[0] == found[1]


@given(rows=tables(), gap_s=st.floats(0.1, 1e4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_merged_trials_cover_what_the_rows_covered(write, rows, gap_s):
    path = write(rows_of(*((f"{onset!r}", f"{length!r}", word[0], "n/a") for onset, length, word in rows)))
    single, merged = read_trials(path), read_trials(path, merge_gap_s=gap_s)
    assert {t.onset_s for t in merged} <= {t.onset_s for t in single}
    for trial, following in pairwise(merged):
        gap = following.onset_s - trial.onset_s - trial.duration_s
        assert trial.category != following.category or gap > gap_s
    for trial in single:
        assert any(
            m.category == trial.category
            and m.onset_s <= trial.onset_s
            and trial.onset_s + trial.duration_s <= m.onset_s + m.duration_s + 1e-6
            for m in merged
        )


@given(content=st.binary(max_size=200) | st.text("\t\n\r\"'0.-en/arstimulu_", max_size=200).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_no_bytes_raise_anything_but_an_input_error(write, content):
    for header in (b"", b"onset\tduration\ttrial_type\n", b"onset\tduration\tevent_type\tstimulus_name\n"):
        with contextlib.suppress(InputError):
            assert read_trials(write(header + content))


def test_the_object_decoding_data_set(shared_data):
    paths = sorted((shared_data / "ds001246").rglob("*_events.tsv"))
    assert len(paths) == 79
    for path in paths:
        trials = read_trials(path)
        if "task-imagery" in path.name:
            assert {(trial.kind, trial.duration_s, trial.stimulus) for trial in trials} == {("imagery", 15.0, None)}
            assert len(trials) == 25
        else:
            assert {(trial.kind, trial.duration_s) for trial in trials} == {("stimulus", 9.0)}
            # 50 images, five of which are shown twice in a row.
            assert (len(trials), sum(trial.repeat for trial in trials)) == (55, 5)


@pytest.mark.parametrize(
    ("name", "n_trials", "categories"),
    [
        ("siemens-run/events.tsv", 7, {"regulation"}),
        ("studyforrest-localizer/events.tsv", 192, {"face", "body", "house", "object", "scene", "scramble"}),
        (
            "haxby2001/sub001/BOLD/task001_run001/bold_events.tsv",
            8,
            {"scissors", "face", "cat", "shoe", "house", "scrambledpix", "bottle", "chair"},
        ),
    ],
)
def test_plain_bids_files_of_other_studies(shared_data, name, n_trials, categories):
    trials = read_trials(shared_data / name)
    assert len(trials) == n_trials
    assert {trial.category for trial in trials} == categories


@pytest.mark.parametrize("gap_s", [0.2, 2.0, 8.0])
def test_the_images_of_a_real_localizer_are_twelve_blocks_two_of_them_neighbours(shared_data, gap_s):
    """Images follow each other after 0.02 to 0.15 s; blocks of 16 of them after 8.08 s or more."""
    blocks = read_trials(shared_data / "studyforrest-localizer/events.tsv", merge_gap_s=gap_s)
    assert [block.category for block in blocks] == [
        "face", "scene", "body", "house", "object", "scramble", "scramble", "body", "object", "face", "house", "scene",
    ]  # fmt: skip
    assert all(15.8 < block.duration_s < 16.1 and block.stimulus is None for block in blocks)


def test_imagery_that_nobody_named_is_a_trial_without_a_label(write):
    path = write("onset\tduration\tevent_type\tcategory_name\n0\t15\timagery\tn/a\n33\t15\timagery\tn1\n")
    trials = read_trials(path)
    assert [trial.category for trial in trials] == ["", "n1"]
    assert [bool(block.label) for block in blocks_of(trials)] == [False, True]


# ---------------------------------------------------------------- runs that are shorter than their events


def run_of(*spans, n_volumes=10):
    return small.run(n_volumes=n_volumes, blocks=tuple(Block(*span) for span in spans))


def test_blocks_end_with_a_recorded_run_and_those_after_it_are_left_out_and_counted():
    run, n_outside = cut_to_length(run_of((2, 6), (16, 9), (20, 9), (300, 9)))  # 20 s
    assert [(block.onset_s, block.duration_s) for block in run.blocks] == [(2, 6), (16, 4)]
    assert n_outside == 2
    whole = run_of((2, 6), (14, 6))
    assert cut_to_length(whole)[0].blocks == whole.blocks
    unknown = run_of((2, 6), (1600, 9), n_volumes=None)
    assert cut_to_length(unknown) == (unknown, 0)


def test_what_a_run_holds_is_the_same_with_and_without_the_cut():
    whole = run_of((2, 6), (16, 9), (300, 9))
    cut, _ = cut_to_length(whole)
    bundle = small.bundle()
    for run in (whole, cut):
        session = Session(bundle)
        session._prepare(run)  # past the check that refuses it
        session._begin(run)
        answers = [answer for index in range(10) for answer, _ in session.handle(small.volume(index))]
        if run is whole:
            expected = answers
    assert all(equal(replace(a, stage_ms={}), replace(b, stage_ms={})) for a, b in zip(answers, expected, strict=True))
    assert any(isinstance(answer, Ranking) and answer.block == 1 for answer in answers)


@pytest.mark.parametrize(("span", "is_refused"), [((16, 5.9), False), ((16, 6.1), True), ((6000, 9000), True)])
def test_a_block_that_ends_after_its_run_is_refused_unless_by_less_than_a_volume(span, is_refused):
    if not is_refused:
        check_within(run_of((2, 6), span))
        return
    with pytest.raises(InputError, match=r"ends after the run's 20 s \(10 volumes of 2 s\); are these milliseconds"):
        check_within(run_of((2, 6), span))
    with pytest.raises(RefusedError, match="ends after the run's 20 s"):
        Session(small.bundle()).check(run_of((2, 6), span))


# ---------------------------------------------------------------- what is no trial, and what is said of it


def table_of(*rows, columns=("onset", "duration", "trial_type")):
    return "\n".join("\t".join(map(str, row)) for row in [columns, *rows])


def test_rows_that_are_no_stimuli_are_left_out_counted_and_named(write):
    rows = [(10, 9, "face"), (14.3, 0.1, "button_press"), (19, 9, "ITI"), (28, 9, "rest"), (37, 9, "tool"),
            (41, 0, "Response"), (46, 9, "iti")]  # fmt: skip
    read = read_events(write(table_of(*rows)))
    assert [trial.category for trial in read.trials] == ["face", "tool"]
    assert read.types == {"face": 1, "tool": 1}
    assert read.left_out == (
        LeftOut(Why.RECOGNISED, "button_press", 1, 3), LeftOut(Why.RECOGNISED, "ITI", 1, 4),
        LeftOut(Why.REST, "rest", 1, 5), LeftOut(Why.RECOGNISED, "Response", 1, 7),
        LeftOut(Why.RECOGNISED, "iti", 1, 8),
    )  # fmt: skip
    assert (read.n_rows, read.n_left_out) == (7, 5)
    told = remarks_on([read, read])
    assert told == [
        "rows between trials: 2 rest",
        "rows taken for no stimuli, by their names: 2 button_press, 2 ITI, 2 Response, 2 iti; if they are categories, "
        'write events.keep = ["button_press", "ITI", "Response", "iti"]',
    ]


def test_settings_say_what_is_a_trial_whatever_its_name(write):
    path = write(table_of((0, 9, "Cue"), (9, 9, "rest"), (18, 9, "face"), (27, 9, "tone")))
    chosen = EventsSettings(ignore=("TONE",), keep=("cue", "REST"))
    read = read_events(path, chosen)
    assert [trial.category for trial in read.trials] == ["Cue", "rest", "face"]
    assert read.left_out == (LeftOut(Why.IGNORED, "tone", 1, 5),)
    assert remarks_on([read]) == ["rows that events.ignore leaves out: 1 tone"]
    with pytest.raises(InputError, match=r'no trial in it \(rows taken for no stimuli, .*events.keep = \["cue"\]\)'):
        read_events(write(table_of((0, 9, "cue"))))


def test_names_that_sound_like_none_are_categories_and_asked_about(write):
    read = read_events(write(table_of((0, 9, "face"), (9, 1, "response_left"), (18, 1, "response_left"))))
    assert len(read.trials) == 3
    assert remarks_on([read]) == [
        "perhaps no stimuli (by their names, as they are brief, or come after nearly every other trial), but taken as "
        'trials: 2 response_left; if so, write events.ignore = ["response_left"]'
    ]


def test_where_rows_name_images_those_that_name_none_are_no_trials(write):
    columns = ("onset", "duration", "trial_type", "stim_file")
    rows = [(0, 9, "face", "face/01.png"), (9, 1, "tone", "n/a"), (18, 9, "tool", "tool/01.png"), (27, 9, "tool", "")]
    path = write(table_of(*rows, columns=columns))
    read = read_events(path)
    assert [(trial.category, trial.stimulus) for trial in read.trials] == [
        ("face", "face/01.png"), ("tool", "tool/01.png"),
    ]  # fmt: skip
    assert read.left_out == (LeftOut(Why.NO_IMAGE, "tone", 1, 3), LeftOut(Why.NO_IMAGE, "tool", 1, 5))
    assert "1 tone, 1 tool; if they are categories" in remarks_on([read])[0]
    assert len(read_events(path, EventsSettings(keep=("Tool",))).trials) == 3


def test_images_of_one_name_in_two_folders_are_no_repeats(write):
    columns = ("onset", "duration", "trial_type", "stim_file")
    rows = [(15 * k, 9, c, f"{c}/{k // 3:02d}.png") for k, c in enumerate(["face", "house", "tool"] * 3)]
    read = read_events(write(table_of(*rows, columns=columns)))
    assert (len(read.trials), read.n_repeats, read.n_same) == (9, 0, 0)
    assert len({trial.stimulus for trial in read.trials}) == 9


def test_only_a_declared_one_back_task_has_repeats(write):
    columns = ("onset", "duration", "trial_type", "stim_file")
    rows = [(0, 9, "face", "f.png"), (9, 9, "face", "f.png"), (18, 9, "tool", "t.png")]
    path = write(table_of(*rows, columns=columns))
    plain = read_events(path)
    assert (plain.n_repeats, plain.n_same) == (0, 1)
    assert "1 trial with the image of the trial before: ordinary trials" in remarks_on([plain])[0]
    declared = read_events(path, EventsSettings(one_back=True))
    assert [trial.repeat for trial in declared.trials] == [False, True, False]
    assert remarks_on([declared]) == []
    public = write(PERCEPTION)
    assert read_events(public).n_repeats == 1
    assert read_events(public, EventsSettings(one_back=False)).n_repeats == 0


def test_durations_of_zero_are_impulses_of_a_volume(write):
    read = read_events(write(table_of((4, 0, "face"), (20, 2, "house"))))
    assert [(trial.onset_s, trial.duration_s) for trial in read.trials] == [(4, 0), (20, 2)]
    assert [(block.onset_s, block.duration_s) for block in blocks_of(read.trials, 2.5)] == [(4, 2.5), (20, 2)]
    assert remarks_on([read]) == ["1 trial of 0 s: impulses, each taken as one volume long"]


def test_trials_begin_at_volume_0_at_the_earliest(write):
    read = read_events(write(table_of((-4, 2, "face"), (-3, 5, "face"), (-1, 0, "face"), (20, 2, "house"))))
    assert [(trial.onset_s, trial.duration_s) for trial in read.trials] == [(0, 2), (20, 2)]
    assert read.left_out == (LeftOut(Why.BEFORE_RUN, "face", 2, 2),)
    assert read.n_begun == 1
    assert remarks_on([read]) == [
        "rows that end before volume 0, left out: 2 face (the first: run_events.tsv, line 2)",
        "1 trial began before volume 0: cut to begin there",
    ]


def test_times_that_nobody_knows_are_left_out_and_counted(write):
    read = read_events(write(table_of(("n/a", 2, "face"), (4, "n/a", "house"), (20, 2, "face"))))
    assert [trial.onset_s for trial in read.trials] == [20]
    assert read.left_out == (LeftOut(Why.NO_ONSET, "face", 1, 2), LeftOut(Why.NO_DURATION, "house", 1, 3))
    assert "rows without an onset, left out: 1 face (the first: run_events.tsv, line 2)" in remarks_on([read])


def test_of_another_layout_whatever_is_no_stimulus_is_named(write):
    columns = ("onset", "duration", "event_type", "stimulus_name")
    rows = [(0, 9, "Stimulus", "n1_1"), (9, 9, "picture", "n1_2"), (18, 9, "rest", "n/a"), (27, 9, "stimulus", "n2_2")]
    read = read_events(write(table_of(*rows, columns=columns)), EventsSettings(ignore=("n2",)))
    assert [trial.category for trial in read.trials] == ["n1"]
    assert remarks_on([read]) == [
        "rows between trials: 1 rest",
        "rows whose event_type is neither stimulus nor imagery: 1 picture",
        "rows that events.ignore leaves out: 1 stimulus",
    ]


def test_pictures_of_a_block_are_a_trial_unless_the_settings_say_otherwise(write):
    columns = ("onset", "duration", "trial_type", "stim_file")
    rows = [
        (20 * block + k, 0.9, c, f"{c}/{k}.png") for block, c in enumerate(["face", "house", "face"]) for k in range(10)
    ]
    path = write(table_of(*rows, columns=columns))
    read = read_events(path)
    assert [(t.onset_s, round(t.duration_s, 6), t.category) for t in read.trials] == [
        (0, 9.9, "face"), (20, 9.9, "house"), (40, 9.9, "face"),
    ]  # fmt: skip
    assert read.trials[1].images == tuple(f"house/{k}.png" for k in range(10))
    assert remarks_on([read]) == [
        "30 rows of 0.9 s were taken as 3 blocks of 9.9 s: rows of one category that follow each other within 0.1 s; "
        "events.merge_gap_s = 0 keeps each row a trial"
    ]
    assert len(read_events(path, EventsSettings(merge_gap_s=0)).trials) == len(read_trials(path)) == 30
    assert len(read_events(path, EventsSettings(merge_gap_s=11)).trials) == 3


def test_the_public_data_set_is_read_without_settings_as_with_none(shared_data):
    for path in sorted((shared_data / "ds001246").rglob("*_events.tsv")):
        read = read_events(path)
        assert read.trials == read_trials(path)
        assert read.merging is None
        assert {one.why for one in read.left_out} == {Why.REST}


def test_a_real_localizer_is_twelve_blocks_without_settings(shared_data):
    read = read_events(shared_data / "studyforrest-localizer/events.tsv")
    assert len(read.trials) == 12
    assert (read.merging.n_rows, read.merging.n_trials) == (192, 12)
    assert "192 rows of 0.883 s were taken as 12 blocks of 15.9 s" in remarks_on([read])[0]
    assert all(len(trial.images) == 16 for trial in read.trials)


@pytest.mark.parametrize("name", ["siemens-run/events.tsv", "haxby2001/sub001/BOLD/task001_run001/bold_events.tsv"])
def test_real_blocks_stay_as_they_are(shared_data, name):
    read = read_events(shared_data / name)
    assert read.trials == read_trials(shared_data / name)
    assert remarks_on([read]) == []


def test_names_in_the_settings_that_no_row_has_are_told(write):
    read = read_events(
        write(table_of((0, 9, "face"), (9, 9, "tone"))), EventsSettings(ignore=("tone", "bell"), keep="itti")
    )
    assert remarks_on([read]) == [
        "rows that events.ignore leaves out: 1 tone",
        "no row is called bell, itti, which events.ignore or events.keep names",
    ]
    other = read_events(write(table_of((0, 9, "face"), (9, 9, "bell"))), EventsSettings(ignore=("tone", "bell")))
    assert not any("no row is called" in line for line in remarks_on([read, other]))


@pytest.mark.parametrize("cell", ["n/a", "", "NaN", "NA", "None", "null"])
def test_a_time_that_nobody_knows_may_be_written_as_programs_do(write, cell):
    read = read_events(write(table_of((cell, 2, "face"), (4, 2, "face"))))
    assert (len(read.trials), read.n_left_out) == (1, 1)


def test_what_comes_alone_among_blocks_of_pictures_is_doubted_unless_it_is_kept(tmp_path):
    rows = []
    for block in range(4):
        at_s = 10 + 20 * block
        rows += [(at_s - 2, 1, "chime"), *((at_s + k, 0.8, "face" if block % 2 else "house") for k in range(8))]
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\ttrial_type\n" + "".join(f"{a}\t{b}\t{c}\n" for a, b, c in rows))
    read = read_events(path)
    assert [trial.category for trial in read.trials] == ["chime", "house", "chime", "face"] * 2
    assert read.doubtful == {"chime": 4}
    assert any('events.ignore = ["chime"]' in line for line in remarks_on([read]))
    assert read_events(path, EventsSettings(keep=["Chime"])).doubtful == {}
    assert len(read_events(path, EventsSettings(ignore=["chime"])).trials) == 4


def test_a_table_whose_rows_are_no_blocks_unlike_the_others_is_named(tmp_path):
    reads, asked = [], {}
    for run, n_last in enumerate((8, 8, 1)):  # the last table ends early
        rows = [(10 + 20 * b + k, 0.8, "abc"[b % 3]) for b in range(6) for k in range(n_last if b == 5 else 8)]
        path = tmp_path / f"run-{run}_events.tsv"
        path.write_text("onset\tduration\ttrial_type\n" + "".join(f"{a}\t{b}\t{c}\n" for a, b, c in rows))
        reads.append(read_events(path))
        asked[run] = len(read_events(path, EventsSettings(merge_gap_s=0.3)).trials)
    assert [len(read.trials) for read in reads] == [6, 6, 41]
    assert remarks_on(reads[:2]) == remarks_on([*reads[:2], replace(reads[2], trials=())])
    told = remarks_on(reads)[1]
    assert "each taken as a trial: 41 in run-2_events.tsv" in told
    assert told.endswith("write events.merge_gap_s = 0.3")  # and not 0.2, which lies a rounding error below the gaps
    assert asked == {0: 6, 1: 6, 2: 6}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Onset\tDuration\tTrial_type\n1\t2\tface\n", "write 'onset' for 'Onset'"),
        ("onset duration trial_type\n1 2 face\n", "parted by blanks: save it with tabs"),
        ("onset,duration,trial_type\n1,2,face\n", "parted by commas: save it with tabs"),
    ],
)
def test_columns_that_are_there_otherwise_are_named(write, text, hint):
    with pytest.raises(InputError, match=f"no column 'onset'.*{hint}"):
        read_events(write(text))


def test_categories_that_differ_in_case_only_are_told_of(write):
    first = read_events(write(table_of((10, 9, "cat"), (28, 9, "dog"))))
    assert remarks_on([first]) == []
    second = read_events(write(table_of((10, 9, "CAT"), (28, 9, "dog"))))
    assert remarks_on([first, second]) == ["cat and CAT are different categories; if they are one, spell them alike"]


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("1", "1.0", "1 and 1.0"),
        ("face", "fa\u200bce", r"face and fa\u200bce"),
        ("house", "h\u043euse", r"house and h\u043euse"),
    ],
)
def test_names_that_look_alike_are_told(tmp_path, one, other, shown):
    (tmp_path / "e.tsv").write_text(f"onset\tduration\ttrial_type\n2\t4\t{one}\n12\t4\t{other}\n", encoding="utf-8")
    (line,) = remarks_on([read_events(tmp_path / "e.tsv")])
    assert line == f"{shown} are different categories; if they are one, spell them alike"


def test_a_duration_in_milliseconds_among_seconds_is_told(tmp_path):
    rows = "".join(f"{12 * k}\t{10000 if k == 5 else 10}\t{'ab'[k % 2]}\n" for k in range(6))
    (tmp_path / "e.tsv").write_text(f"onset\tduration\ttrial_type\n{rows}")
    (line,) = remarks_on([read_events(tmp_path / "e.tsv")])
    assert line == "1 trial in e.tsv of up to 10000 s, where others last 10 s; is that in milliseconds?"
