"""Rows that share their time: doubled, nested, of two categories at once, or a little too long."""

import pytest

from rtgod.errors import InputError
from rtgod.events.table import read_events
from rtgod.events.trials import Why, remarks_on
from rtgod.settings import EventsSettings

BLOCKS = [(10, 12, "face"), (30, 12, "house"), (50, 12, "face"), (70, 12, "house")]


@pytest.fixture
def read(tmp_path):
    def read_rows(rows, header="onset\tduration\ttrial_type", **settings):
        path = tmp_path / "run_events.tsv"
        path.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows)]))
        return read_events(path, EventsSettings(**settings))

    return read_rows


def said(read):
    return " | ".join(remarks_on([read]))


def spans(read):
    return [(trial.onset_s, trial.duration_s, trial.category) for trial in read.trials]


def test_a_row_that_stands_twice_is_taken_once_and_counted(read):
    found = read([*BLOCKS, BLOCKS[0], BLOCKS[0], BLOCKS[3]])
    assert spans(found) == BLOCKS
    assert found.n_left_out == 3
    assert "another row says already, left out: 2 face, 1 house (the first: run_events.tsv, line 6)" in said(found)


def test_doubled_rows_of_one_back_tables_are_no_repeats(read):
    rows = [(0, 9, "stimulus", "n1_1"), (0, 9, "stimulus", "n1_1"), (9, 9, "stimulus", "n2_1")]
    found = read(rows, "onset\tduration\tevent_type\tstimulus_name")
    assert (len(found.trials), found.n_repeats) == (2, 0)


def test_two_pictures_of_one_category_side_by_side_are_one_trial_with_both(read):
    rows = [(0, 2, "face", "a.png"), (0, 2, "face", "b.png"), (10, 2, "house", "c.png")]
    found = read(rows, "onset\tduration\ttrial_type\tstim_file")
    assert [trial.images for trial in found.trials] == [("a.png", "b.png"), ("c.png",)]
    assert "1 row at the same time as another of the same category: one trial with it" in said(found)


def test_a_long_row_around_rows_of_its_own_category_is_one_trial_with_them(read):
    pictures = [(onset + 3 * k, 1, name) for onset, _, name in BLOCKS for k in range(4)]
    assert spans(read([*BLOCKS, *pictures])) == BLOCKS
    assert spans(read([*BLOCKS, *pictures], merge_gap_s=0)) == BLOCKS


@pytest.mark.parametrize("name", ["task", "block"])
def test_one_name_around_pictures_of_several_is_left_out_and_counted(read, name):
    pictures = [(onset + k, 0.8, category) for onset, _, category in BLOCKS for k in range(12)]
    found = read([*pictures, *((onset, 12, name) for onset, _, _ in BLOCKS)])
    assert [category for _, _, category in spans(found)] == ["face", "house", "face", "house"]
    assert [(one.why, one.name, one.n_rows) for one in found.left_out] == [(Why.AT_ONCE, name, 4)]
    assert f"at the same time as those of several other categories, taken for no stimuli: 4 {name}" in said(found)


def test_one_name_within_blocks_of_several_is_left_out_and_counted(read):
    found = read([*BLOCKS, *((onset + 5, 0.5, "oddball") for onset, _, _ in BLOCKS[:3])])
    assert spans(found) == BLOCKS
    assert "taken for no stimuli: 3 oddball" in said(found)


def test_a_name_of_which_some_trials_stand_alone_is_a_category_and_must_be_told_apart(read):
    rows = [*BLOCKS, (15, 0.5, "oddball"), (35, 0.5, "oddball"), (90, 0.5, "oddball")]
    with pytest.raises(InputError, match=r'4 of 7 trials .*events.ignore = \["face", "house"\] or \["oddball"\]'):
        read(rows)
    assert spans(read(rows, ignore=("oddball",))) == BLOCKS


def test_categories_at_the_same_time_are_refused_with_where_and_what_to_do(read):
    sides = [(onset, 12, "left" if k < 2 else "right") for k, (onset, _, _) in enumerate(BLOCKS)]
    rows = [*BLOCKS, *sides]
    with pytest.raises(InputError) as refused:
        read(rows)
    text = str(refused.value)
    assert "8 of 8 trials are at the same time as trials of other categories (face at 10 s and left at 10 s; " in text
    assert "face at 50 s" not in text  # two are enough
    assert "correct the" in text
    both = read(rows, keep=("face", "house", "left", "right"))
    assert len(both.trials) == 8
    assert "4 pairs of trials at the same time, in part or in whole: face at 10 s and left at 10 s" in said(both)
    assert spans(read(rows, ignore=("left", "right"))) == BLOCKS


def test_two_levels_of_names_are_refused_and_either_can_be_chosen(read):
    moods = [(onset + 6 * k, 6, mood) for onset, _, _ in BLOCKS for k, mood in enumerate(("happy", "sad"))]
    with pytest.raises(InputError, match=r'events.ignore = \["face", "house"\] or \["happy", "sad"\]; if both'):
        read([*BLOCKS, *moods])
    assert len(read([*BLOCKS, *moods], ignore=("face", "house")).trials) == 8
    assert len(read([*BLOCKS, *moods], ignore=("happy", "sad")).trials) == 4


def test_a_part_that_is_shared_is_told_and_rounding_is_not(read):
    rows = [(0, 10.09, "a"), (10, 10, "b"), (20, 14, "a"), (30, 10, "b"), (40, 10, "a")]
    found = read(rows)
    assert len(found.trials) == 5
    assert (
        "1 pair of trials at the same time, in part or in whole: a at 20 s and b at 30 s in run_events.tsv; kept"
        in said(found)
    )


def test_a_name_that_is_left_out_of_one_table_and_a_category_of_another_is_told(read):
    without = read([*BLOCKS, *((onset + 5, 0.5, "oddball") for onset, _, _ in BLOCKS[:3])])
    alone = read([*BLOCKS, *((onset + 14, 0.5, "oddball") for onset, _, _ in BLOCKS[:3])])
    (line,) = [line for line in remarks_on([without, alone]) if "is a category in" in line]
    assert line.startswith("oddball is a category in run_events.tsv, and was taken for no stimulus in run_events.tsv")
    assert not [line for line in remarks_on([without, without]) if "is a category in" in line]


def test_durations_in_milliseconds_are_named(read):
    with pytest.raises(InputError, match=r"lasts 12000 s; are the durations in milliseconds\?"):
        read([(onset, 1000 * duration, name) for onset, duration, name in BLOCKS])
    with pytest.raises(InputError, match=r"lasts 12000 s; are the durations in milliseconds\?"):
        read([(onset, 1000 * duration, "face") for onset, duration, _ in BLOCKS])


def test_no_real_table_is_refused_or_told_of(shared_data):
    paths = [
        path
        for folder in ("ds001246", "haxby2001", "studyforrest-localizer", "siemens-run")
        for path in sorted((shared_data / folder).rglob("*events.tsv"))
    ]
    assert len(paths) == 79 + 12 + 1 + 1
    for path in paths:
        for settings in (EventsSettings(), EventsSettings(merge_gap_s=0)):
            found = read_events(path, settings)
            assert (found.overlaps, found.n_joined) == ((), 0)
            assert not {one.why for one in found.left_out} & {Why.DOUBLED, Why.AT_ONCE}
