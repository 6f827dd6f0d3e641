"""Runs without a BIDS data set: how they are found, and real ones through the pipeline that the server runs."""

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.masks import in_head
from calibration.datasets.runs import RunFiles, find_plain_runs
from calibration.samples.runs import align_run, make_reference
from rtgod.errors import InputError
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import EventsSettings, PipelineSettings
from tests.calibration.conftest import sampled


@pytest.fixture
def folder(tmp_path):
    """Runs in folders of their own, of one name each; one has no events, one lies beside a table with its name."""
    for name in ("a/bold.nii.gz", "a/events.tsv", "b/bold.nii.gz", "b/bold_events.tsv", "c/bold.nii.gz",
                 "d/x_bold.nii", "d/x_events.tsv", "d/y_bold.nii", "d/y_events.tsv", "d/x_T1w.nii"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_are_given_with_the_events_beside_them(folder):
    found = find_plain_runs([folder / "d/y_bold.nii", folder / "a/bold.nii.gz"], tr_s=2.5)
    assert found.runs == (
        RunFiles(folder / "d/y_bold.nii", folder / "d/y_events.tsv", "y", 2.5),
        RunFiles(folder / "a/bold.nii.gz", folder / "a/events.tsv", "bold", 2.5),
    )
    assert found.missing == ()


def test_files_may_be_given_with_their_events(folder):
    found = find_plain_runs([folder / "c/bold.nii.gz", folder / "b/bold.nii.gz"], [folder / f for f in ("1", "2")])
    assert [(run.run_id, run.events.name) for run in found.runs] == [("c_bold", "1"), ("b_bold", "2")]


def test_of_a_folder_the_runs_with_events_are_taken(folder):
    found = find_plain_runs([folder])
    assert [run.run_id for run in found.runs] == ["a_bold", "b_bold", "d_x", "d_y"]
    assert found.missing == ("c/bold.nii.gz: images, but no events",)
    assert [run.run_id for run in find_plain_runs([folder], pattern="_bold").runs] == ["d_x", "d_y"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda f: ([*f.glob("nothing")],), "no path: no run; give the root of a BIDS data set, or NIfTI files"),
        (lambda f: ([f / "c"],), r"c: no run \(bold.nii.gz: images, but no events\); give"),
        (lambda f: ([f / "d"], (), "Training"), "d: no run with 'Training' in its name"),
        (lambda f: ([f / "d/z_bold.nii"],), "z_bold.nii: no such file"),
        (lambda f: ([f / "d/x_bold.nii", f / "d/../d/x_bold.nii"],), "x_bold.nii: given twice"),
        (lambda f: ([f / "c/bold.nii.gz"],), "no events beside it; put a table there, or give one .* with --events"),
        (lambda f: ([f / "d/x_bold.nii"], [f / "1", f / "2"]), "2 tables of events for 1 run; give --events once for"),
    ],
)
def test_what_cannot_be_found_is_named_and_what_to_do(folder, given, says):
    with pytest.raises(InputError, match=says):
        find_plain_runs(*given(folder))


def test_a_repetition_time_may_be_given_where_the_file_has_none(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.diag([3.0, 3, 3, 1]))
    image.to_filename(tmp_path / "x_bold.nii")
    (tmp_path / "x_events.tsv").write_text("onset\tduration\ttrial_type\n0\t2\tface\n3\t1\tface\n")
    with pytest.raises(InputError, match="give it with --tr"):
        find_plain_runs([tmp_path]).runs[0].open()
    files = find_plain_runs([tmp_path], tr_s=1.5).runs[0]
    assert (files.open().run.run_id, files.open().run.tr_s) == ("x", 1.5)
    assert len(files.trials(EventsSettings())) == 2
    merged = EventsSettings(merge_gap_s=1)
    assert len(files.trials(merged)) == len(files.open(merged).run.blocks) == 1


def test_trials_lie_where_the_blocks_do_whatever_is_discarded_and_counted_from(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 4, 12), np.int16), np.diag([3.0, 3, 3, 1]))
    image.to_filename(tmp_path / "x_bold.nii")
    (tmp_path / "x_events.tsv").write_text("onset\tduration\ttrial_type\n0\t2\tface\n3\t1\tface\n")
    files = find_plain_runs([tmp_path], tr_s=1.5).runs[0]
    for counts, onsets_s in (
        ({}, [0, 3]),
        ({"count_from": 5}, [6, 9]),
        ({"count_from": 5, "discard_volumes": 3}, [1.5, 4.5]),
    ):
        rules = EventsSettings(merge_gap_s=0, **counts)
        assert [trial.onset_s for trial in files.trials(rules, 1.5)] == onsets_s
        assert [block.onset_s for block in files.open(rules).run.blocks] == onsets_s


# ---------------------------------------------------------------- real data, with nothing but settings


def samples_of(runs, voxels=None, **settings):
    """Samples of all runs and the template's head, of which `voxels` are read."""
    settings = PipelineSettings.model_validate(settings)
    reference = make_reference(runs[0], None, settings)
    head = in_head(reference.template)
    assert len(reference.voxels) == head.sum()
    reference = reference._replace(voxels=reference.voxels[:voxels])
    return [sampled(align_run(run, reference, Noise(), settings), reference, settings) for run in runs], head


def test_a_real_localizer_becomes_twelve_samples(shared_data):
    found = find_plain_runs([shared_data / "studyforrest-localizer"])
    samples, head = samples_of(found.runs, voxels=500, events={"merge_gap_s": 2})
    assert 0.15 < head.mean() < 0.35  # a head fills about a quarter of 240 × 240 × 115 mm
    (run,) = samples
    assert (run.run.tr_s, run.run.n_volumes, run.left_out) == (2.0, 156, ())
    assert [trial.category for trial in run.trials] == [
        "face", "scene", "body", "house", "object", "scramble", "scramble", "body", "object", "face", "house", "scene",
    ]  # fmt: skip
    assert run.values.shape == (12, 500)
    assert np.isfinite(run.values).all()


def test_runs_of_a_real_single_slice_become_ninety_six_samples(shared_data):
    found = find_plain_runs([shared_data / "haxby2001" / "sub001" / "BOLD"], pattern="1slice")
    assert [run.run_id for run in found.runs] == [f"task001_run{n:03d}_bold_1slice" for n in range(1, 13)]
    samples, _ = samples_of(found.runs, motion={"estimate": False}, nuisance={"discard_s": 0})
    assert [len(run.trials) for run in samples] == [8] * 12
    assert {run.run.tr_s for run in samples} == {2.5}
    assert len({run.run.run_id for run in samples}) == 12
    categories = sorted({trial.category for run in samples for trial in run.trials})
    assert len(categories) == 8
    # The eight categories come once in each run.
    assert all(sorted(trial.category for trial in run.trials) == categories for run in samples)


def test_a_run_whose_imagery_was_never_named_is_refused(tmp_path):
    events = tmp_path / "run_events.tsv"
    events.write_text("onset\tduration\tevent_type\tcategory_name\n36\t15\timagery\tn/a\n")
    with pytest.raises(InputError, match=r"run_events.tsv: what was imagined at 36 s was never named"):
        RunFiles(tmp_path / "run_bold.nii.gz", events).trials(EventsSettings())
