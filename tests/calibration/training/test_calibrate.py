import hashlib
import json
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.bids import find_runs
from calibration.datasets.runs import RunFiles
from calibration.decoders.settings import DecoderSettings
from calibration.features.extractor import FeatureExtractor
from calibration.features.stimuli import StimulusFiles
from calibration.parallel.workers import workers
from calibration.samples.left_out import LeftOutCounts
from calibration.samples.runs import CleanedRun
from calibration.samples.study import CandidateFeatures, Samples
from calibration.samples.targets import Targets
from calibration.training import calibrate as module
from calibration.training.calibrate import calibrate
from calibration.training.confidence import fit_chances
from calibration.training.decoder_choice import DecoderChoice
from calibration.training.fit import Trained
from calibration.training.held_out_rankings import Learned
from calibration.training.penalty_choice import choose_left_out
from rtgod.bundle import DecoderBundle
from rtgod.errors import InputError
from rtgod.events.table import Trial
from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.messages import Ranking, Run
from rtgod.server.session import Session, replay
from rtgod.settings import NuisanceSettings, PipelineSettings, RankingSettings
from rtgod.sources import open_source
from tests import naive
from tests.calibration.conftest import samples_of

N_CANDIDATES, N_SAMPLES = 80, 100


def quiet(*_):
    pass


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_left_out_runs_are_decoded_above_chance(calibrated):
    summary = calibrated.summary
    assert (summary.n_samples, summary.n_runs, summary.n_candidates) == (100, 2, N_CANDIDATES)
    assert [(one.used, one.left_out) for one in summary.trials] == [(50, {"one-back repeat": 5})] * 2
    assert summary.n_voxels == len(calibrated.made.reference.voxels)
    assert summary.identification_accuracy > 0.65
    for layer in summary.layers.values():
        assert layer.feature_accuracy > 0.1
        assert layer.identification_accuracy > 0.6


def test_new_categories_are_decoded_above_chance(bundle, subject):
    """Of the test run: none of these categories was trained on."""
    run = find_runs(subject, "01", "perceptionTest")[0]
    (samples,) = samples_of([run], bundle)
    decoder, category_index = bundle.decoder(), bundle.category_index()
    position = {candidate.category_id: i for i, candidate in enumerate(bundle.candidates)}
    accuracies = []
    for i, (trial, values) in enumerate(zip(samples.trials, samples.values, strict=True)):
        order, scores = category_index.rank(decoder.decode(i, values))
        accuracies.append(naive.identification_accuracy(scores[np.argsort(order)], position[trial.category]))
    assert np.mean(accuracies) > 0.6


def test_the_saved_bundle_decodes_as_ridge_on_the_training_samples_does(bundle, calibrated, inputs, known_features):
    runs = samples_of(inputs.training, bundle)
    X = np.concatenate([run.values for run in runs]).astype(float)
    names = [trial.stimulus for run in runs for trial in run.trials]
    Y = known_features.extract([inputs.images / "training" / f"{name}.png" for name in names], quiet)
    new = X[7]
    decoded = bundle.decoder().decode(0, new.astype(np.float32)).layers
    for layer, targets in Y.items():
        weights = naive.ridge(X, targets.astype(float), calibrated.summary.layers[layer].penalty)
        z = (new - X.mean(0)) / X.std(0, ddof=1)
        expected = z @ weights * targets.std(0, ddof=1) + targets.mean(0)
        np.testing.assert_allclose(decoded[layer], expected, atol=1e-3 * np.abs(expected).max())


def test_candidates_are_the_data_set_s_categories_with_their_names_and_mean_features(bundle, inputs, network):
    rows = [line.split("\t") for line in inputs.names.read_text().splitlines()[1:]]
    assert {(c.category_id, c.name) for c in bundle.candidates} == {(row[0], row[1]) for row in rows}
    some = bundle.candidates[::20]
    # One image stands behind each.
    paths = [next((inputs.candidates / candidate.category_id).iterdir()) for candidate in some]
    for layer, values in FeatureExtractor(network).extract(paths).items():
        assert values.shape[1] == bundle.layers[layer].n_units == 60
        np.testing.assert_allclose(bundle.candidate_features[layer][::20], values, rtol=1e-4, atol=1e-4)


def test_provenance_names_everything_it_was_made_from(calibrated, inputs, network):
    header = json.loads((calibrated.folder / "bundle.json").read_text())
    provenance = header["provenance"]
    assert header["sha256"] == digest(calibrated.folder / "arrays.safetensors")
    assert provenance["subject"] == "01"
    assert provenance["runs"] == {
        run.bold.name: {"sha256": digest(run.bold), "events_sha256": digest(run.events)} for run in inputs.training
    }
    assert provenance["region"] == "VC"
    assert provenance["masks"] == {path.name: digest(path) for path in inputs.region.files}
    assert provenance["network"]["layers"] == dict(network.layers)
    assert (provenance["network"]["weights"], provenance["network"]["n_units"]) == ("random:0", 60)
    assert provenance["packages"]["torch"] == version("torch")
    accuracy = provenance["cross_validation"]["identification_accuracy"]
    assert accuracy == calibrated.summary.identification_accuracy


def test_what_penalties_were_chosen_on_is_said_and_kept(calibrated):
    """Twenty categories of the candidates and more are new, so categories are left out."""
    summary = calibrated.summary
    n_new = len({c.category_id for c in calibrated.made.candidates}) - 50
    said = "penalties are those that decode left-out categories best"
    assert summary.penalty_choice == f"{said}: {n_new} of {N_CANDIDATES} candidates were not shown in training"
    assert summary.known.startswith(
        "accuracy, and the chances of trained categories, are of decoders that were whitened"
    )
    kept = calibrated.made.provenance["cross_validation"]
    assert (kept["penalty_choice"], kept["known"]) == (summary.penalty_choice, summary.known)


def test_progress_comes_to_its_end_in_every_stage(calibrated):
    last = {stage: (done, total) for stage, done, total in calibrated.progress}
    of_runs = {"aligning runs", "learning when responses come", "denoising runs"}
    assert set(last) == of_runs | {"network features", "fitting", "confidence"}
    assert last["network features"] == (N_SAMPLES + N_CANDIDATES,) * 2
    assert all(done == total for done, total in last.values())


@pytest.mark.usefixtures("known_features")
def test_the_number_of_workers_changes_no_byte(calibrated, inputs, network):
    with workers(1) as this_process:
        alone, summary = calibrate(
            inputs, PipelineSettings(), network, DecoderSettings(name="ridge"), this_process, quiet
        )
    arrays, expected = alone._arrays(), calibrated.made._arrays()
    assert arrays.keys() == expected.keys()
    for key, values in arrays.items():
        assert values.tobytes() == expected[key].tobytes(), key
    assert summary == calibrated.summary


@pytest.mark.usefixtures("known_features")
@pytest.mark.parametrize("masked", [True, False], ids=["white matter", "noisiest voxels"])
def test_noise_components_are_learned_saved_and_used(inputs, network, pool, tmp_path, masked):
    """Their voxels are read with the decoder's; a session with the bundle decodes with them."""
    mask = inputs.region.files[0].with_name("sub-01_space-bold_label-WM_mask.nii.gz")
    settings = PipelineSettings(nuisance=NuisanceSettings(n_components=3))
    bundle, summary = calibrate(
        replace(inputs, noise_mask=mask if masked else None),
        settings,
        network,
        DecoderSettings(name="ridge"),
        pool,
        report=quiet,
    )
    assert bundle.noise.courses.loadings.shape == (3, len(bundle.noise.courses.voxels))
    if masked:
        voxels = np.argwhere(np.asarray(nib.load(mask).dataobj) > 0)
        np.testing.assert_array_equal(bundle.noise.courses.voxels, voxels)
    assert summary.identification_accuracy > 0.6
    assert_served(bundle, inputs, tmp_path / "bundle")


@pytest.mark.usefixtures("known_features")
def test_sparse_decoders_are_learned_saved_and_used(inputs, network, pool, tmp_path):
    decoder = DecoderSettings(name="slr", n_voxels=100, max_iterations=200, n_folds=2)
    bundle, summary = calibrate(inputs, PipelineSettings(), network, decoder, pool, report=quiet)
    assert bundle.patterns.shape == (0, len(bundle.reference.voxels))
    assert bundle.provenance["decoder"] == decoder.model_dump()
    assert {layer.penalty for layer in summary.layers.values()} == {None}
    assert summary.identification_accuracy > 0.55
    assert_served(bundle, inputs, tmp_path / "bundle")


@pytest.mark.usefixtures("known_features")
@pytest.mark.parametrize("combine", ["fisher", "weighted"])
def test_what_ranks_raw_has_learned_from_raw_rankings(inputs, network, pool, tmp_path, calibrated, combine):
    """Chances, weights and accuracy are of raw correlations; server, journal and bundle rank by the same bytes."""
    raw = PipelineSettings(ranking=RankingSettings(match="raw", combine=combine))
    bundle, summary = calibrate(inputs, raw, network, DecoderSettings(name="ridge"), pool, report=quiet)
    z_scored = calibrated.made
    for layer, decoder in bundle.layers.items():  # only the matching differs
        assert decoder.dual.tobytes() == z_scored.layers[layer].dual.tobytes()
    assert summary.identification_accuracy != calibrated.summary.identification_accuracy
    assert summary.identification_accuracy > 0.6
    assert bundle.chances.weights[0] is not None
    assert bundle.chances.weights != z_scored.chances.weights
    if combine == "weighted":
        assert bundle.layer_weights != z_scored.layer_weights
    assert_served(bundle, inputs, tmp_path / "bundle")
    served = DecoderBundle.load(tmp_path / "bundle")
    assert served.settings.ranking.match == "raw"
    source = open_source(inputs.training[0].bold, events=inputs.training[0].events)
    with JournalWriter(tmp_path / "j.rtgod") as writer:
        session, answers = Session(served), []
        for message in (source.run, *islice(source, 20)):
            writer.append(message)
            answers += [answer for answer, _ in session.handle(message) if isinstance(answer, Ranking)]
    replayed = [a for a in replay(read_journal(tmp_path / "j.rtgod"), Session(served)) if isinstance(a, Ranking)]
    assert answers
    for one, two in zip(answers, replayed, strict=True):
        assert (one.order.tobytes(), one.scores.tobytes()) == (two.order.tobytes(), two.scores.tobytes())
        assert one.probability == two.probability


@pytest.mark.usefixtures("known_features")
def test_nearest_pictures_are_learned_saved_served_and_replayed(inputs, network, pool, tmp_path, calibrated):
    """The user's folder is that of all training images; everything else of the bundle stays as it is without it."""
    bundle, summary = calibrate(
        replace(inputs, pictures=inputs.images / "training"),
        PipelineSettings(),
        network,
        DecoderSettings(name="ridge"),
        pool,
        report=quiet,
    )
    plain = calibrated.made
    assert all(
        array.tobytes() == plain._arrays()[key].tobytes()
        for key, array in bundle._arrays().items()
        if "pictures/" not in key
    )
    assert bundle.pictures.chances is not None
    assert any(note.startswith("pictures: of 100 trials") for note in summary.notes)
    bundle.save(tmp_path / "bundle")
    served = DecoderBundle.load(tmp_path / "bundle")
    source = open_source(inputs.training[0].bold, events=inputs.training[0].events)
    with JournalWriter(tmp_path / "j.rtgod") as writer:
        session, answers = Session(served), []
        for message in (source.run, *islice(source, 30)):
            writer.append(message)
            answers += [answer for answer, _ in session.handle(message) if isinstance(answer, Ranking)]
    again = [a for a in replay(read_journal(tmp_path / "j.rtgod"), Session(served)) if isinstance(a, Ranking)]
    assert answers
    assert [one.pictures for one in answers] == [one.pictures for one in again]
    assert all(len(one.pictures) == 4 and one.pictures[0].probability > 0 for one in answers)
    assert {picture.name for one in answers for picture in one.pictures} <= set(served.pictures.names)


def test_accuracy_is_of_runs_that_were_left_out(inputs, network, pool):
    with pytest.raises(InputError, match="n_folds = 0 leaves no run out"):
        calibrate(inputs, PipelineSettings(), network, DecoderSettings(name="slr", n_folds=0), pool, report=quiet)


def assert_served(bundle, inputs, folder):
    """A session with the saved bundle ranks the first trials of a run, as the bundle does their samples."""
    bundle.save(folder)
    session = Session(DecoderBundle.load(folder))
    source = open_source(inputs.training[0].bold, events=inputs.training[0].events)
    (ours,) = samples_of(inputs.training[:1], bundle)
    rankings = {}
    for message in (source.run, *islice(source, 20)):
        for answer, _ in session.handle(message):
            if isinstance(answer, Ranking) and answer.final:
                rankings[answer.block] = answer
    assert len(rankings) == 2
    order, scores = bundle.category_index().rank(bundle.decoder().decode(0, ours.values[0]))
    assert (rankings[0].order.tobytes(), rankings[0].scores.tobytes()) == (order.tobytes(), scores.tobytes())


@pytest.mark.usefixtures("known_features")
def test_shuffled_labels_are_decoded_at_chance(inputs, network, pool, tmp_path):
    """A held-out run that leaked into training would be decoded even so."""
    rng = np.random.default_rng(0)
    runs = []
    for run in inputs.training:
        header, *rows = [line.split("\t") for line in run.events.read_text().splitlines()]
        shown = list(dict.fromkeys(row[5] for row in rows if row[3] == "stimulus"))
        names = dict(zip(shown, rng.permutation(shown).tolist(), strict=True))
        for row in rows:
            row[5] = names.get(row[5], row[5])
        shuffled = tmp_path / run.events.name
        shuffled.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))
        runs.append(RunFiles(run.bold, shuffled))
    shuffled = replace(inputs, training=tuple(runs))
    _, summary = calibrate(shuffled, PipelineSettings(), network, DecoderSettings(name="ridge"), pool, quiet)
    assert summary.identification_accuracy == pytest.approx(0.5, abs=0.08)
    assert max(abs(layer.feature_accuracy) for layer in summary.layers.values()) < 0.1


# ---------------------------------------------------------------- what cannot be calibrated on


def trials_of(samples):
    return {run.run.run_id: run.trials for run in samples}


def test_runs_without_shown_images_are_refused(bundle, subject, inputs):
    imagery = samples_of(find_runs(subject, "01", "imagery"), bundle)
    with pytest.raises(InputError, match="trials name no image; calibrate on runs in which images were shown"):
        StimulusFiles(inputs.images, inputs.candidates).features(trials_of(imagery), None, quiet)


def test_a_shown_image_without_a_file_is_named(bundle, inputs):
    training = samples_of(inputs.training, bundle)
    missing = replace(training[0].trials[3], stimulus="n00000000_1")
    training[0] = replace(training[0], trials=(*training[0].trials[:3], missing, *training[0].trials[4:]))
    with pytest.raises(InputError, match=r"show n00000000_1, of which there is no image file; .*--images"):
        StimulusFiles(inputs.images, inputs.candidates).features(trials_of(training), None, quiet)


def test_what_is_shown_need_not_be_a_candidate(bundle):
    """Accuracy of identification is then unknown, that of features is not."""
    held_out = {layer: np.tile(model.unit_mean, (3, 1)) for layer, model in bundle.layers.items()}
    trained = Trained(
        bundle.patterns, bundle.voxel_mean, bundle.voxel_sd, bundle.layers, dict.fromkeys(bundle.layers, 1.0), held_out
    )
    others = tuple(f"other{i}" for i in range(N_CANDIDATES))
    targets = Targets(None, CandidateFeatures(others, others, bundle.candidate_features))
    trials = tuple(Trial(9.0 * i, 9.0, "stimulus", "unknown", f"image{i}") for i in range(4))
    header = Run("run-1", "01", 3.0, (2, 2, 2), np.eye(4))
    windows, nothing = {0: (), 1: (), 2: ()}, np.zeros((0, 5), np.float32)
    run = CleanedRun(Path("run-1"), header, trials, windows, (), nothing, (), {}, without_sample={3: "censored"})
    learned = Learned(fit_chances(None, "there is one category", ("unknown",)), None)
    samples = Samples(np.zeros((3, 5), np.float32), ("run-1",) * 3, ("unknown",) * 3, held_out)
    choice = choose_left_out(samples.categories, samples.runs, targets.candidates)
    chosen = DecoderChoice(DecoderSettings(name="ridge"))
    summary = module._summarise(
        trained, samples, samples.runs, targets, [run], learned, choice, chosen, PipelineSettings()
    )
    assert summary.identification_accuracy is None
    assert summary.trials == (LeftOutCounts("run-1", "trials", 3, {"censored": 1}),)
    assert summary.notes == ("how sure a ranking of new categories may be is unknown: there is one category",)
    assert {layer.identification_accuracy for layer in summary.layers.values()} == {None}
