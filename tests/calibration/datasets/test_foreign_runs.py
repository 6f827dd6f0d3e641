"""One run of another subject, grid or repetition time is told from the others."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.dataset_files import DatasetOptions, find_study
from calibration.datasets.foreign_runs import usual_of, why_foreign, without_foreign
from rtgod.errors import InputError
from rtgod.messages import Run
from rtgod.settings import EventsSettings

AFFINE = np.diag([3.0, 3, 3, 1])
RUNS = [Run(f"run-{i}", "01", 2.0, (10, 11, 12), AFFINE) for i in range(3)]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"subject": "02"}, "subject 02, where the others are of 01"),
        ({"shape": (10, 11, 14)}, "10 × 11 × 14 voxels of 3 × 3 × 3 mm, where the others have 10 × 11 × 12"),
        ({"affine": np.diag([2.0, 2, 2, 1])}, "voxels of 2 × 2 × 2 mm"),
        ({"tr_s": 3.0}, "a volume each 3 s, where the others have one each 2 s"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_foreign_run_is_told_wherever_it_comes(changes, why, place):
    runs = [*RUNS[:place], replace(RUNS[0], run_id="odd", **changes), *RUNS[place:]]
    usual = usual_of(runs)
    assert [run.run_id for run in runs if why_foreign(run, usual)] == ["odd"]
    assert why in why_foreign(runs[place], usual)


def test_who_is_asked_for_counts_more_than_the_majority():
    runs = [replace(RUNS[0], subject="02"), *RUNS]
    assert [bool(why_foreign(run, usual_of(runs, "02"))) for run in runs] == [False, True, True, True]
    assert not any(why_foreign(run, usual_of(RUNS, "S1")) for run in RUNS)


def test_a_subject_written_in_two_ways_is_one():
    runs = [*RUNS, replace(RUNS[0], subject="1"), replace(RUNS[0], subject="sub-01")]
    assert not any(why_foreign(run, usual_of(runs)) for run in runs)
    assert usual_of([*runs, replace(RUNS[0], subject="02")], "sub-2").subject == "02"
    assert why_foreign(replace(RUNS[0], subject="00"), usual_of(runs)).startswith("subject 00,")


def test_what_is_not_known_or_only_rounded_is_no_difference():
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    oblique = np.eye(4)
    oblique[:3, :3] = 3.0004 * turned
    others = [replace(RUNS[0], subject="unknown"), replace(RUNS[0], tr_s=2.0004), replace(RUNS[0], affine=oblique)]
    assert not any(why_foreign(run, usual_of([*RUNS, *others])) for run in others)


def lay(folder, name, shape=(8, 9, 10), tr_s=2.0):
    image = nib.Nifti1Image(np.zeros((*shape, 6), np.int16), AFFINE)
    image.header.set_zooms((3, 3, 3, tr_s))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(folder / f"{name}_bold.nii.gz")
    (folder / f"{name}_events.tsv").write_text("onset\tduration\ttrial_type\n2\t2\tface\n6\t2\thouse\n")


def test_rows_are_trials_as_the_settings_say(tmp_path):
    for i in range(2):
        lay(tmp_path, f"sub-01_run-{i}")
        (tmp_path / f"sub-01_run-{i}_events.tsv").write_text("onset\tduration\ttrial_type\n2\t2\titi\n6\t2\titi\n")
    found = asked(tmp_path)
    with pytest.raises(InputError, match="no trial"):
        without_foreign(found)
    assert without_foreign(found, EventsSettings(keep=("iti",))) is found


def asked(folder, **changes):
    split = changes.pop("split", "leave-one-run-out")
    return find_study(DatasetOptions(**{"paths": [folder], "subject": "01", "training": "", **changes}), split)


def test_an_evaluation_leaves_a_foreign_run_out_and_says_so(tmp_path):
    for i in range(3):
        lay(tmp_path, f"sub-01_run-{i}")
    lay(tmp_path, "sub-01_run-8", shape=(8, 9, 12))
    lay(tmp_path, "sub-02_run-9")
    found = without_foreign(asked(tmp_path))
    assert [run.name for run in found.training] == [f"sub-01_run-{i}" for i in range(3)]
    assert len(found.missing) == 2
    assert "sub-01_run-8: 8 × 9 × 12 voxels" in found.missing[0]
    assert "sub-02_run-9: subject 02" in found.missing[1]
    assert without_foreign(found) is found


def test_of_as_many_runs_in_one_grid_as_in_another_which_are_meant_is_asked(tmp_path):
    for i in range(2):
        lay(tmp_path, f"sub-01_run-{i}")
        lay(tmp_path, f"sub-01_other-{i}", shape=(4, 5, 6))
    with pytest.raises(
        InputError, match=r"as many runs lie in one grid as in another \(.* voxels in .*; .*choose those"
    ):
        without_foreign(asked(tmp_path))
    assert without_foreign(asked(tmp_path, training="run-")).missing[0].startswith("2 runs that --training does not")


def test_runs_to_test_on_that_are_all_foreign_are_refused(tmp_path):
    for i in range(2):
        lay(tmp_path, f"sub-01_train-{i}")
    lay(tmp_path, "sub-01_test-1", tr_s=3.0)
    with pytest.raises(InputError, match=r"no run is left to test on: .*a volume each 3 s"):
        without_foreign(asked(tmp_path, training="train", test="test", split="runs"))
