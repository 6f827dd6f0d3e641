"""The rule that everything else rests on: calibration sees exactly what the server computes."""

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.bids import find_runs
from calibration.datasets.runs import RunFiles
from calibration.evaluation.ablation import variant_of
from calibration.samples.runs import align_run, make_reference
from rtgod.errors import InputError
from rtgod.events.table import read_trials
from rtgod.journal.journal import read_journal
from rtgod.messages import Pattern, Ranking, Run
from rtgod.preprocessing.preprocessor import Noise, VolumeCleaner
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.settings import PipelineSettings
from rtgod.sources import open_source
from tests.calibration.conftest import sampled, samples_of

RUNS = ("Training", "perceptionTest", "imagery")


def answers_of(journal):
    """Per run: the patterns that the server journaled, by volume, and its last ranking of each trial."""
    found = {}
    for message in read_journal(journal):
        if isinstance(message, Run):
            found[message.run_id] = ({}, {})
        elif isinstance(message, Pattern):
            found[message.run_id][0][message.index] = message
        elif isinstance(message, Ranking):
            found[message.run_id][1][message.block] = message
    return found


@pytest.mark.parametrize("name", RUNS)
def test_samples_are_those_of_the_server_bit_for_bit(journal, bundle, subject, name):
    """What the server ranked, decoded and matched again from calibration's samples: the same bytes."""
    files = find_runs(subject, "01", name)[0]
    (ours,) = samples_of([files], bundle)
    _, rankings = answers_of(journal)[ours.run.run_id]
    fresh = [block for block, trial in enumerate(read_trials(files.events)) if not trial.repeat]
    assert len(ours.values) == len(ours.trials) == len(fresh)
    decoder, category_index = bundle.decoder(), bundle.category_index()
    for block, values in zip(fresh, ours.values, strict=True):
        order, scores = category_index.rank(decoder.decode(0, values))
        assert (order.tobytes(), scores.tobytes()) == (
            rankings[block].order.tobytes(),
            rankings[block].scores.tobytes(),
        )
    # Samples that were all the same, or all zero, would agree as well.
    assert len({row.tobytes() for row in ours.values}) == len(ours.values)


def test_patterns_are_those_of_the_server_bit_for_bit(journal, bundle, subject):
    files = find_runs(subject, "01", "perceptionTest")[0]
    aligned = align_run(files, bundle.reference, bundle.noise, bundle.settings)
    patterns, _ = answers_of(journal)[aligned.run.run_id]
    cleaner = VolumeCleaner(bundle.reference, aligned.run, bundle.settings, bundle.noise, RepeatAverager())
    n_compared = 0
    for volume in aligned.volumes:
        pattern, *_ = cleaner.clean(volume, Stopwatch())
        if pattern is not None:
            theirs = patterns[pattern.index]
            assert pattern.values.tobytes() == theirs.values.tobytes()
            assert (pattern.motion, pattern.censored) == (theirs.motion, theirs.censored)
            n_compared += 1
    assert n_compared == len(patterns) > 150


def test_the_decoder_s_patterns_are_the_z_scored_samples(inputs, bundle):
    values = np.concatenate([run.values for run in samples_of(inputs.training, bundle)]).astype(np.float64)
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    np.testing.assert_allclose(bundle.voxel_mean, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bundle.voxel_sd, sd, rtol=1e-6)
    np.testing.assert_array_equal(bundle.patterns, ((values - mean) / sd).astype(np.float32))


@pytest.fixture(scope="module")
def training(inputs):
    return inputs.training[0]


def test_one_back_repeats_are_no_samples(training, bundle):
    (samples,) = samples_of([training], bundle)
    assert not any(trial.repeat for trial in samples.trials)
    assert len({trial.stimulus for trial in samples.trials}) == 50
    assert samples.left_out == ("one-back repeat",) * 5


def test_trials_without_a_clean_volume_are_counted_not_made_up(training, bundle):
    strict = variant_of(bundle.settings, {"censoring": {"fd_mm": 0.08}})
    (samples,) = samples_of([training], bundle, strict)
    n_censored = samples.left_out.count("no usable volume: censored")
    assert n_censored > 0
    # With fewer volumes, responses are told apart later, or never.
    mixed = "its response is not to be seen, or cannot be told from that to another trial"
    assert set(samples.left_out) <= {"no usable volume: censored", "one-back repeat", mixed}
    assert len(samples.trials) == len(samples.values) == 50 - n_censored - samples.left_out.count(mixed)


def test_noise_is_what_is_left_without_the_responses(training, bundle):
    """Most of a simulated voxel's course is noise; what its trials add is not in it."""
    plain = variant_of(bundle.settings, {"noise": {"n_components": 0}})
    aligned = align_run(training, bundle.reference, Noise(), plain)
    samples = sampled(aligned, bundle.reference, plain)
    cleaner = VolumeCleaner(bundle.reference, aligned.run, plain, Noise(), RepeatAverager())
    patterns = [p for v in aligned.volumes for p in [cleaner.clean(v, Stopwatch()).pattern] if p is not None]
    clean = np.stack([p.values for p in patterns if not p.censored])
    assert samples.noise.shape == clean.shape
    assert samples.noise.std() < 0.97 * clean.std()
    evoked = clean.mean(axis=1)  # all voxels respond to any image
    assert samples.noise.mean(axis=1).std() < 0.6 * evoked.std()


def test_training_is_on_single_trials_even_where_repeats_are_averaged(training, bundle):
    repeats = variant_of(bundle.settings, {"window": {"mode": "repeats"}})
    (single,), (same,) = samples_of([training], bundle), samples_of([training], bundle, repeats)
    assert single.values.tobytes() == same.values.tobytes()


def test_training_for_a_sliding_window_is_on_means_of_trials(training, bundle):
    sliding = variant_of(bundle.settings, {"window": {"mode": "sliding"}})
    means = variant_of(bundle.settings, {"window": {"mode": "block", "estimate": "mean"}})
    (ours,), (expected,) = samples_of([training], bundle, sliding), samples_of([training], bundle, means)
    assert ours.values.tobytes() == expected.values.tobytes()


def test_events_of_another_time_are_refused(training, bundle, tmp_path):
    late = tmp_path / "late_events.tsv"
    late.write_text("onset\tduration\ttrial_type\n5000\t9\tface\n")
    with pytest.raises(
        InputError, match=r"late_events\.tsv: run .*: its only trial begins after its .* s, at 5000 s; are"
    ):
        samples_of([RunFiles(training.bold, late)], bundle)


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
    (tmp_path / "short_events.tsv").write_text("onset\tduration\ttrial_type\n0\t9\tface\n")
    with pytest.raises(InputError, match="no volume after the first 9 s"):
        make_reference(
            RunFiles(tmp_path / "short_bold.nii.gz", tmp_path / "short_events.tsv"),
            np.zeros((1, 3), np.int32),
            PipelineSettings(),
        )


def test_a_run_that_looks_elsewhere_is_refused(training, bundle):
    elsewhere = bundle.reference.affine.copy()
    elsewhere[2, 3] += 300
    other = bundle.reference._replace(affine=elsewhere)
    with pytest.raises(InputError, match="hold 0 % of the bundle's"):
        align_run(training, other, bundle.noise, bundle.settings)


def test_a_mask_outside_the_head_makes_no_reference(training):
    corner = np.argwhere(np.ones((3, 3, 3), bool)).astype(np.int32)
    with pytest.raises(InputError, match="only 0 % of the decoder's voxels lie in the head"):
        make_reference(training, corner, PipelineSettings())
