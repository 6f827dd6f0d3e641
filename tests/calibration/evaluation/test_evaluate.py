"""A whole evaluation of the small simulated subject, beside what calibration and server make of the same runs."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest

from calibration.datasets.dataset_files import DatasetOptions, find_study
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation import evaluate as module
from calibration.evaluation.evaluate import evaluate, index_of
from calibration.evaluation.homology import areas_of
from calibration.evaluation.predictions import CandidateScores, decode_kind, fit_fold, penalty_choice_of
from calibration.evaluation.semantic_distance import Hypernyms
from calibration.features.stimuli import pictures_of
from calibration.metrics.identification import permutation_test
from calibration.reports.evaluation_report import print_evaluation, write_evaluation
from calibration.reports.provenance import notes_on_runs
from calibration.samples.assemble import folds_of, gather_study
from calibration.samples.preparation import gather_runs
from calibration.samples.study import CandidateFeatures, Fold, Samples
from rtgod.errors import InputError
from rtgod.journal.journal import read_journal
from rtgod.messages import Features, Ranking
from rtgod.settings import PipelineSettings, RankingSettings
from tests import naive
from tests.calibration.conftest import NETWORK, RememberingExtractor

SETTINGS = PipelineSettings()
AREAS = ("V1", "V4", "LOC")


def quiet(*_):
    pass


def found_inputs(subject, **changes):
    split = changes.pop("split", "runs")
    return find_study(DatasetOptions(**{"paths": [subject], "subject": "01", "areas": AREAS, **changes}), split)


@pytest.fixture(scope="module")
def study(subject, calibrated, pool):  # noqa: ARG001 # features are computed by then
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.samples.targets.FeatureExtractor", RememberingExtractor)
        return gather_study(found_inputs(subject), SETTINGS, NETWORK, pool, quiet)


@pytest.fixture(scope="module")
def hypernyms(study, tmp_path_factory):
    """Two kinds of categories below one root."""
    path = tmp_path_factory.mktemp("words") / "is_a.txt"
    links = [f"kind{i % 2} {category}" for i, category in enumerate(study.candidates.ids)]
    path.write_text("\n".join(["root kind0", "root kind1", *links]))
    return Hypernyms.read(path)


@pytest.fixture(scope="module")
def evaluation(study, hypernyms, pool):
    return evaluate(study, SETTINGS, DecoderSettings(name="ridge"), hypernyms, pool, quiet)


def test_the_decoder_is_that_of_calibration(study, bundle):
    fold = study.folds[0].select_voxels(study.regions["VC"])
    choice = penalty_choice_of(fold, study.candidates)
    fitted = fit_fold(fold, SETTINGS.noise, DecoderSettings(name="ridge"), choice)
    np.testing.assert_array_equal(fitted.trained.patterns, bundle.patterns)
    for layer, decoder in fitted.trained.layers.items():
        np.testing.assert_array_equal(decoder.dual, bundle.layers[layer].dual)


def test_blocks_are_ranked_as_the_server_ranked_them(study, evaluation, journal):
    blocks, windows = evaluation.decoded["seen"].blocks, evaluation.decoded["seen"].windows
    run = next(iter(study.folds[0].tests["seen"].runs))
    answers = [m for m in read_journal(journal) if isinstance(m, Ranking) and m.run_id == run]
    scores = []
    for answer in answers:
        in_order = np.empty_like(answer.scores)
        in_order[answer.order] = answer.scores
        scores.append(in_order)
    from_server = {row.tobytes() for row in scores}
    # One-back repeats are ranked online and not evaluated.
    assert len(from_server) > len(windows.scores) > len(blocks.scores)
    assert all(row.tobytes() in from_server for row in windows.scores)
    assert all(row.tobytes() in from_server for row in blocks.scores)


def test_what_was_seen_and_imagined_is_identified(evaluation):
    found = {(one.kind, one.aggregation): one for one in evaluation.identification}
    assert {kind for kind, _ in found} == {"seen", "imagined"}
    seen = found["seen", "single block"]
    assert seen.accuracy > 0.6
    assert seen.p_value < 0.01
    assert found["seen", "average of repeats"].n_samples == 20
    assert found["imagined", "single block"].n_samples == 25
    assert {one.layer for one in evaluation.features} == {"low", "high"}


def test_every_region_is_decoded_by_a_decoder_of_its_own(study, evaluation):
    assert evaluation.regions == ("VC", *AREAS)
    assert evaluation.areas == AREAS
    accuracy = evaluation.by_region["seen"]
    assert accuracy.shape == (4, 2)
    fold = study.folds[0].select_voxels(study.regions["V4"])
    fitted = fit_fold(fold, SETTINGS.noise, DecoderSettings(name="ridge"), penalty_choice_of(fold, study.candidates))
    whole = replace(fold.tests["seen"], windows=None)
    decoded = decode_kind(whole, fitted, index_of(study.candidates, fitted, SETTINGS.ranking), study.candidates)
    from calibration.evaluation.accuracy import feature_accuracy

    averages = [one for one in feature_accuracy("seen", decoded) if one.aggregation == "average of repeats"]
    np.testing.assert_allclose(accuracy[2], [one.profile for one in averages], atol=1e-6)


def test_regions_that_hold_others_are_no_areas():
    regions = {"VC": np.arange(6), "V1": np.arange(2), "V2": np.arange(2, 4), "LVC": np.arange(4), "same": np.arange(2)}
    assert areas_of(regions) == ("V1", "V2", "same")


def test_the_time_course_is_of_each_layers_best_area(evaluation):
    course = evaluation.course
    assert set(course.areas) <= set(AREAS)
    best = evaluation.homology.kinds["seen"].accuracy.argmax(axis=0)
    assert course.areas == tuple(AREAS[i] for i in best)
    assert course.times_s[0] < 0 < course.times_s[-1]
    assert course.accuracy.shape == (2, len(course.times_s))


def test_confidence_is_learned_and_tested(evaluation, bundle):
    """What calibration learns is what evaluation tests: probabilities of every ranking that the tests gave."""
    chances = evaluation.learned[0].confidence.chances
    assert set(chances.trained) == set(bundle.chances.trained)
    for ours, theirs in zip(chances.weights, bundle.chances.weights, strict=True):
        assert (ours.level, ours.volumes, ours.candidates) == pytest.approx(
            (theirs.level, theirs.volumes, theirs.candidates), rel=1e-3, abs=1e-3
        )
    assert bundle.confidence is None
    assert evaluation.learned[0].layer_weights.weights == pytest.approx(bundle.layer_weights, rel=1e-6)
    assert sum(bundle.layer_weights.values()) == pytest.approx(1)
    for kind, of in evaluation.confidence.items():
        assert of.probability.shape == of.hit.shape == (len(evaluation.decoded[kind].windows.true), 3)
        assert (np.diff(of.probability, axis=1) >= 0).all()
        assert (np.diff(of.hit.astype(int), axis=1) >= 0).all()
    seen = evaluation.confidence["seen"]
    assert seen.probability[:, 2].mean() == pytest.approx(seen.hit[:, 2].mean(), abs=0.2)


def test_rankings_that_were_learned_from_are_of_categories_not_trained_on(evaluation):
    """Held-out rankings of shown categories must not be better than those of new ones."""
    of_runs, of_categories = (hit[:, 2].mean() for hit in evaluation.learned[0].confidence.hit)
    assert of_categories < 0.6
    assert of_categories < of_runs


def test_the_cue_is_where_the_events_have_it(evaluation, study):
    assert evaluation.course.cue_lead_s == 3.0
    assert "seen" not in study.folds[0].courses


def test_layers_that_are_not_ranked_by_are_predicted_all_the_same(study, pool, hypernyms):
    ranking = SETTINGS.ranking.model_copy(update={"layers": ("high",)})
    settings = SETTINGS.model_copy(update={"ranking": ranking})
    found = evaluate(study, settings, DecoderSettings(name="ridge"), hypernyms, pool, quiet)
    alone = {one.layer: one for one in found.features if (one.kind, one.aggregation) == ("seen", "single block")}
    assert np.isnan(alone["low"].identification)
    block = next(one for one in found.identification if (one.kind, one.aggregation) == ("seen", "single block"))
    assert alone["high"].identification == pytest.approx(block.accuracy)
    assert alone["low"].profile > 0


def test_raw_correlations_rank_tests_and_left_out_trials_alike(study, evaluation, bundle, pool):
    """Confidence is learned of raw rankings; with the categories shuffled over the trials these say nothing."""
    settings = PipelineSettings(ranking=RankingSettings(match="raw"))
    found = evaluate(study, settings, DecoderSettings(name="ridge"), None, pool, quiet)
    seen, z_scored = found.decoded["seen"], evaluation.decoded["seen"]
    candidates = {layer: values.astype(float) for layer, values in study.candidates.features.items()}
    for row in (0, 7, 21):
        decoded = {layer: values[row].astype(float) for layer, values in seen.predicted.items()}
        np.testing.assert_allclose(seen.blocks.scores[row], naive.raw_scores(decoded, candidates), rtol=1e-3, atol=1e-3)
        assert not np.allclose(seen.blocks.scores[row], z_scored.blocks.scores[row], atol=0.01)
    served = replace(bundle, settings=settings).category_index()
    features = Features(0, {layer: values[7] for layer, values in seen.predicted.items()})
    assert served.scores(features).tobytes() == seen.blocks.scores[7].tobytes()
    block = next(one for one in found.identification if (one.kind, one.aggregation) == ("seen", "single block"))
    assert block.accuracy > 0.55
    assert block.p_value < 0.05
    confidence = found.confidence["seen"]
    assert confidence.probability[:, 2].mean() == pytest.approx(confidence.hit[:, 2].mean(), abs=0.2)
    rng = np.random.default_rng(0)
    p = []
    for _ in range(40):
        names = rng.permutation(np.unique(seen.blocks.true))
        of = dict(zip(np.unique(seen.blocks.true).tolist(), names.tolist(), strict=True))
        shuffled = replace(seen.blocks, true=np.array([of[true] for true in seen.blocks.true.tolist()], np.int32))
        p.append(permutation_test(shuffled.scores, shuffled.true.tolist()).p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.15
    assert 0.3 < np.mean(p) < 0.7


@pytest.mark.parametrize("trained_on", [("a", "c", "d"), ("c", "d", "e")], ids=["one known", "all new"])
def test_few_new_categories_are_the_units_of_accuracy_against_runs(monkeypatch, trained_on):
    """As they are of the accuracies that are compared with it, for every number of runs."""
    rng = np.random.default_rng(0)
    true = np.arange(16) % 2

    def scores(_fold, candidates, *_):
        values = rng.normal(size=(16, len(candidates.ids)))
        values[:, 0] += 1
        return {"seen": CandidateScores(values, true, np.ones(16), np.ones(16))}

    monkeypatch.setattr(module, "score_blocks", scores)
    monkeypatch.setattr(module, "in_pool", lambda _pool, _stage, _report, call, all_of: [call(*a) for a in all_of])
    training = Samples(np.zeros((12, 2)), tuple("123" * 4), trained_on * 4, {})
    tests = {"seen": Samples(np.zeros((16, 2)), ("4",) * 16, ("a", "b") * 8, {})}
    candidates = CandidateFeatures(tuple("abcde"), tuple("abcde"), {"layer": np.zeros((5, 2), np.float32)})
    fold = Fold(training, {}, tests, {})
    sizes, by_runs = module._against_runs([fold], candidates, SETTINGS, DecoderSettings(name="ridge"), None, quiet)
    assert sizes == (2, 3)
    for mean, low, high in by_runs["seen"]:
        assert 0 <= low <= mean <= high <= 1
        # Two units have t of one degree of freedom.
        assert (high - low > 0.9) == ("a" not in trained_on)


def test_semantic_errors_are_found(evaluation):
    errors = evaluation.semantic["seen"]
    wrong = (evaluation.decoded["seen"].blocks.scores.argmax(axis=1) != evaluation.decoded["seen"].blocks.true).sum()
    assert errors.n_errors == wrong
    assert 2 <= errors.observed <= 4
    assert not errors.missing


def test_the_report_says_what_the_tables_say(subject, evaluation, tmp_path, console):
    inputs = found_inputs(subject)
    notes, pictures = notes_on_runs(inputs, SETTINGS, NETWORK), pictures_of(inputs.candidates)
    write_evaluation(evaluation, tmp_path / "out", "An evaluation", notes, {"training": 1.25}, pictures)
    page = (tmp_path / "out" / "report.html").read_text()
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    for title in ("Identification", "Features", "Areas and layers", "Time course of imagery", "Meaning of errors"):
        assert title in titles
    assert "alexnet" in page
    assert "Penalties are those that decode left-out categories best: " in page
    assert "1.2" in page
    with (tmp_path / "out" / "identification.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(
        [o.accuracy for o in evaluation.identification], rel=1e-5
    )
    assert all(f"{100 * one.accuracy:.1f}" in page for one in evaluation.identification)
    for name, n_rows in {
        "blocks.tsv": sum(len(of.categories) for of in evaluation.decoded.values()),
        "regions.tsv": 16,
        "semantic.tsv": 2,
        "lags.tsv": 3,
        "areas.tsv": 12,
        "features.tsv": 8,
    }.items():
        assert len((tmp_path / "out" / name).read_text().splitlines()) == n_rows + 1, name
    print_evaluation(evaluation, console)
    assert "average of repeats" in console.file.getvalue()


def test_without_images_the_categories_are_decoded(subject, pool):
    inputs = replace(found_inputs(subject, split="leave-one-run-out"), images=None, candidates=None, regions={})
    study = gather_study(inputs, SETTINGS, None, pool, quiet)
    assert list(study.regions) == ["head"]
    assert list(study.candidates.features) == ["category"]
    assert len(study.folds) == 2
    n_categories = len(study.candidates.ids)
    np.testing.assert_array_equal(study.candidates.features["category"], np.eye(n_categories))
    found = evaluate(study, SETTINGS, DecoderSettings(name="ridge"), None, pool, quiet)
    block = next(one for one in found.identification if one.aggregation == "single block")
    assert block.n_samples == 100
    assert block.low > 0.52
    assert block.p_value < 0.05
    assert found.n_runs == ()
    assert found.course is None


def test_halves_share_no_noise(subject, calibrated, pool):  # noqa: ARG001 # compiled by then
    inputs = found_inputs(subject, split="halves")
    gathered = gather_runs(replace(inputs, training=inputs.training[:1]), None, SETTINGS, pool, quiet)
    with pytest.raises(InputError, match="no category has two blocks in a run"):
        folds_of(gathered, lambda trials: {"x": np.zeros((len(trials), 1))}, "halves")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": "Test"}, "share"),
        ({"split": "halves", "test": "Test"}, "leave out --test"),
        ({"region": "V9"}, "no region 'V9'"),
    ],
)
def test_what_does_not_fit_together_is_refused(subject, changes, message):
    with pytest.raises(InputError, match=message):
        found_inputs(subject, **changes)


def test_runs_without_a_data_set_need_to_be_told_apart(subject):
    run = next(subject.rglob("*Training*run-01_bold.nii.gz"))
    with pytest.raises(InputError, match="--split"):
        find_study(DatasetOptions(paths=[run], subject="01"), "runs")
