"""The rule that everything else rests on: calibration sees exactly what the server computes."""

from itertools import islice

import nibabel as nib
import numpy as np
import pytest

from calibration.bids import find_runs
from calibration.samples import make_reference, run_samples, window_samples
from rtgod.errors import InputError
from rtgod.events import read_trials
from rtgod.journal import read_journal
from rtgod.messages import Pattern, Run
from rtgod.settings import MotionSettings, PipelineSettings
from rtgod.sources import open_source
from rtgod.window import Window

RUNS = ("Training", "perceptionTest", "imagery")


def patterns_of(journal):
    """Per run: the run, and the patterns that the server journaled."""
    found = {}
    for message in read_journal(journal):
        if isinstance(message, Run):
            found[message.run_id] = (message, [])
        elif isinstance(message, Pattern):
            found[message.run_id][1].append(message)
    return list(found.values())


@pytest.mark.parametrize("position", range(3), ids=RUNS)
def test_samples_are_those_of_the_server_bit_for_bit(journal, bundle, subject, position):
    run, patterns = patterns_of(journal)[position]
    window, latest = Window(run, bundle.settings.window), {}
    for pattern in patterns:
        sample = window.add(pattern)
        if sample is not None:
            latest[sample.block] = sample.values
    files = find_runs(subject, "01", RUNS[position])[0]
    ours = run_samples(files.bold, files.events, bundle.reference, bundle.settings)
    fresh = [block for block, trial in enumerate(read_trials(files.events)) if not trial.repeat]
    assert ours.values.tobytes() == np.stack([latest[block] for block in fresh]).tobytes()
    assert len(ours.values) == len(ours.trials) == len(fresh)
    assert ours.run.run_id == run.run_id
    # Samples that were all the same, or all zero, would agree as well.
    assert len({row.tobytes() for row in ours.values}) == len(ours.values)


def test_the_decoder_s_patterns_are_the_z_scored_samples(inputs, bundle):
    values = np.concatenate(
        [run_samples(run.bold, run.events, bundle.reference, bundle.settings).values for run in inputs.runs]
    ).astype(np.float64)
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    np.testing.assert_allclose(bundle.voxel_mean, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bundle.voxel_sd, sd, rtol=1e-6)
    np.testing.assert_array_equal(bundle.patterns, ((values - mean) / sd).astype(np.float32))


@pytest.fixture(scope="module")
def training(inputs):
    return inputs.runs[0]


def test_one_back_repeats_are_no_samples(training, bundle):
    samples = run_samples(training.bold, training.events, bundle.reference, bundle.settings)
    assert not any(trial.repeat for trial in samples.trials)
    assert len({trial.stimulus for trial in samples.trials}) == 50
    assert samples.n_skipped == 0


def test_trials_without_a_clean_volume_are_counted_not_made_up(training, bundle):
    strict = PipelineSettings(motion=MotionSettings(censor_fd_mm=0.08))
    samples = run_samples(training.bold, training.events, bundle.reference, strict)
    assert samples.n_skipped > 0
    assert len(samples.trials) == len(samples.values) == 50 - samples.n_skipped


def test_partial_samples_come_before_the_whole_one(training, bundle):
    source = open_source(training.bold, events=training.events)
    first = list(islice(window_samples(source, bundle.reference, bundle.settings), 3))
    assert [(s.n_volumes, s.final) for s in first] == [(1, False), (2, False), (3, True)]
    assert first[0].index == 12  # 33 s of rest, 3 s of delay


def test_events_of_another_time_are_refused(training, bundle, tmp_path):
    late = tmp_path / "late_events.tsv"
    late.write_text("onset\tduration\ttrial_type\n5000\t9\tface\n")
    with pytest.raises(InputError, match=r"no trial of late_events\.tsv has a usable volume"):
        run_samples(training.bold, late, bundle.reference, bundle.settings)


def test_the_template_is_the_mean_of_volumes_aligned_to_the_first_settled_one(training, bundle):
    template = bundle.reference.template
    volumes = nib.load(training.bold).get_fdata()[..., 3:13]
    head = volumes[..., 0] > 200
    apart = np.abs(template - volumes[..., 0])[head].mean()
    assert apart < np.abs(volumes[..., 1] - volumes[..., 0])[head].mean()  # averaged: less noise than one volume
    assert np.corrcoef(template[head], volumes.mean(axis=-1)[head])[0, 1] > 0.999
    np.testing.assert_array_equal(bundle.reference.affine, open_source(training.bold).run.affine)


def test_a_run_that_ends_before_it_settled_makes_no_template(training, tmp_path):
    image = nib.load(training.bold)
    short = nib.Nifti1Image(np.asarray(image.dataobj)[..., :3], image.affine, image.header)
    nib.save(short, tmp_path / "short_bold.nii.gz")
    with pytest.raises(InputError, match="no volume after the first 9 s"):
        make_reference(tmp_path / "short_bold.nii.gz", np.zeros((1, 3), np.int32), PipelineSettings())


def test_a_run_that_looks_elsewhere_is_refused(training, bundle):
    elsewhere = bundle.reference.affine.copy()
    elsewhere[2, 3] += 300
    other = bundle.reference._replace(affine=elsewhere)
    with pytest.raises(InputError, match="hold 0 % of the bundle's"):
        run_samples(training.bold, training.events, other, bundle.settings)
