"""One run under two names: refused in every plan, whatever form the copy has; runs of one person are no copies."""

import gzip
from itertools import combinations

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.dataset_files import DatasetOptions, find_study, find_training
from calibration.training.dry_run import plan_calibration, plan_study
from calibration.training.same_volumes import _TOGETHER, _changes, _together, check_different, same_trials
from rtgod.errors import InputError
from rtgod.settings import PipelineSettings
from rtgod.sources import open_source
from rtgod.sources.nifti import NiftiRun

SETTINGS = PipelineSettings()
REASON = "run-1 and run-3 hold the same volumes: one run under two names; leave one out with {} not:run-3"


def write_run(folder, name, data):
    made = nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))
    made.header.set_xyzt_units("mm", "sec")
    made.header["pixdim"][4] = 2
    made.to_filename(folder / f"{name}_bold.nii")
    (folder / f"{name}_events.tsv").write_text("onset\tduration\ttrial_type\n24\t8\tface\n32\t8\thouse\n")
    return folder / f"{name}_bold.nii"


def noise(seed):
    """Volumes of a bright ball in noise."""
    values = np.random.default_rng(seed).integers(0, 300, (12, 12, 10, 20))
    head = ((np.indices(values.shape[:3]) - np.reshape([5.5, 5.5, 4.5], (3, 1, 1, 1))) ** 2).sum(axis=0) < 20
    return (values + 900 * head[..., None]).astype(np.int16)


@pytest.fixture
def runs(tmp_path):
    """Three runs, of which the third is the first, compressed."""
    paths = [write_run(tmp_path, f"run-{n}", noise(seed)) for n, seed in ((1, 1), (2, 2), (3, 1))]
    packed = paths[2].with_name("run-3_bold.nii.gz")
    packed.write_bytes(gzip.compress(paths[2].read_bytes()))
    paths[2].unlink()
    return [*paths[:2], packed]


def calibration_of(paths):
    return plan_calibration(find_training(DatasetOptions(paths=paths, subject="01")), SETTINGS).problems


def study_of(paths, training, test, split):
    return plan_study(
        find_study(DatasetOptions(paths=paths, subject="01", training=training, test=test), split), SETTINGS
    ).problems


def test_a_copy_of_a_run_is_refused_in_every_plan(runs):
    assert calibration_of(runs) == (REASON.format("--training"),)
    assert study_of(runs, None, None, "leave-one-run-out") == (REASON.format("--training"),)
    assert study_of(runs, ["run-1", "run-2"], ["run-3"], "runs") == (REASON.format("--training or --test"),)
    assert calibration_of(runs[:2]) == study_of(runs, ["run-1"], ["run-2"], "runs") == ()


def test_no_more_is_read_than_tells_runs_apart(tmp_path, monkeypatch):
    read = []

    def counted(self):
        for volume in volumes(self):
            read.append((volume.run_id, volume.index))
            yield volume

    volumes = NiftiRun.__iter__
    monkeypatch.setattr(NiftiRun, "__iter__", counted)
    data = [noise(1), noise(2), noise(3)[:, :, :9]]
    paths = [write_run(tmp_path, f"run-{n}", of) for n, of in enumerate(data)]
    (tmp_path / "run-1_events.tsv").write_text("onset\tduration\ttrial_type\n24\t8\thouse\n32\t8\tface\n")
    check_different([open_source(path) for path in paths])
    assert read == [("run-0", 0), ("run-0", 1), ("run-1", 0), ("run-1", 1)]


def test_forms_of_one_acquisition_are_refused_whatever_they_are_called(tmp_path):
    """A second echo is darker and has noise of its own; other runs with the same trials have other noise."""
    rng = np.random.default_rng(0)
    second = (0.7 * noise(1) + rng.normal(0, 50, noise(1).shape)).astype(np.int16)
    paths = [write_run(tmp_path, name, data) for name, data in (("first", noise(1)), ("other", second))]
    with pytest.raises(InputError, match=r"first and other have the same trials, and their volumes change together"):
        check_different([open_source(path) for path in paths])
    paths = [write_run(tmp_path, f"run-{n}", noise(n)) for n in range(4)]
    check_different([open_source(path) for path in paths])
    cut = write_run(tmp_path, "cut", noise(1)[..., :18])
    with pytest.raises(InputError, match="run-1 and cut hold the same volumes"):
        check_different([open_source(path) for path in (paths[1], cut)])
    table = tmp_path / "other_events.tsv"
    table.write_text(table.read_text().replace("24", "24.01"))
    with pytest.raises(InputError, match="first and other have the same trials"):
        check_different([open_source(tmp_path / f"{name}_bold.nii") for name in ("first", "other")])
    (line,) = same_trials([open_source(path) for path in paths])
    assert line.startswith("run-0, run-1, run-2, run-3 have the same trials at the same times, and noise of their own")
    table = tmp_path / "run-3_events.tsv"
    table.write_text(table.read_text().replace("24", "22"))
    assert same_trials([open_source(path) for path in paths[2:]]) == ()


def test_runs_of_one_person_do_not_change_together(shared_data):
    """Real runs, though their trials be said to be the same."""
    folder = shared_data / "haxby2001" / "sub001" / "BOLD"
    paths = sorted(folder.glob("task001_run00?/bold_1slice.nii.gz"))
    changes = [_changes(open_source(path, tr_s=2.5)) for path in paths]
    found = [_together(one, other) for one, other in combinations(changes, 2)]
    assert len(found) >= 10
    assert max(found) < 0.25 < _TOGETHER


def test_runs_that_begin_alike_and_runs_of_one_value_are_no_copies(tmp_path):
    begun = noise(2)
    begun[..., :5] = noise(1)[..., :5]
    data = [noise(1), begun, *2 * [np.zeros((12, 12, 10, 20), np.int16)]]
    check_different([open_source(write_run(tmp_path, f"run-{n}", of)) for n, of in enumerate(data)])
