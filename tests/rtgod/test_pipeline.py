"""The signal path on a small head: what every kind of volume is answered, and that bad ones leave no trace."""

import dataclasses
import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from scipy import ndimage

from rtgod.bundle import DecoderBundle
from rtgod.decoding.chances import Chances, Weight
from rtgod.decoding.confidence import ranking_predictors
from rtgod.decoding.picture_index import Pictures, matched_rows
from rtgod.errors import BundleError, InputError
from rtgod.messages import Block, Motion, NotReady, Ranking, Reason, RunEnd
from rtgod.pipeline import Pipeline
from rtgod.preprocessing.alignment import Reference, check_reference, check_run
from rtgod.preprocessing.noise_model import NoiseComponents
from rtgod.preprocessing.preprocessor import Noise, Preprocessor
from rtgod.preprocessing.registration import Registration
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.server.session import Session
from rtgod.settings import PipelineSettings
from tests import naive, small

ALIGN_ONLY = ["convert", "align"]
DISCARDED = [*ALIGN_ONLY, "sample"]
PATTERN = [*DISCARDED, "denoise"]
WINDOW = [*PATTERN, "window"]
RANKING = [*WINDOW, "whiten", "decode", "rank"]
#: Volume 0 is discarded, 1 and 2 teach the baseline; blocks are 4, 5, 6 and 8, 9.
EXPECTED = [
    (Reason.WARMING_UP, DISCARDED),
    *[(Reason.WARMING_UP, PATTERN)] * 2,
    (Reason.BETWEEN_TRIALS, WINDOW),
    *[(0, RANKING)] * 3,
    (Reason.BETWEEN_TRIALS, WINDOW),
    *[(1, RANKING)] * 2,
    *[(Reason.BETWEEN_TRIALS, WINDOW)] * 2,
]


def pipeline(bundle=None, run=None):
    bundle = bundle or small.bundle()
    return bundle.pipeline(run or small.run(), bundle.decoder(), bundle.category_index(), RepeatAverager())


def answers(volumes, **given):
    path = pipeline(**given)
    return {volume.index: path.step(volume) for volume in volumes}


def volumes(indices=range(12), **replaced):
    """The small run's volumes; `v5=data` replaces one's voxels."""
    return [
        dataclasses.replace(small.volume(index), data=replaced[f"v{index}"])
        if f"v{index}" in replaced
        else small.volume(index)
        for index in indices
    ]


def kind(answer):
    return answer.reason if isinstance(answer, NotReady) else answer.block


def same(a, b):
    """Whether two outcomes (answer, pattern) are equal to the last bit, times aside."""

    def plain(outcome):
        answer, pattern = outcome
        fields = [getattr(answer, f.name) for f in dataclasses.fields(answer) if f.name != "stage_ms"]
        values = None if pattern is None else (pattern.values.tobytes(), pattern.motion, pattern.censored)
        return [field.tobytes() if isinstance(field, np.ndarray) else field for field in fields], values

    return plain(a) == plain(b)


def test_every_volume_of_a_run_is_answered_in_its_turn():
    found = answers(volumes())
    assert [(kind(answer), list(answer.stage_ms)) for answer, _ in found.values()] == EXPECTED
    assert all(ms >= 0 for answer, _ in found.values() for ms in answer.stage_ms.values())
    assert [index for index, (_, pattern) in found.items() if pattern is None] == [0, 1, 2]
    rankings = {index: answer for index, (answer, _) in found.items() if isinstance(answer, Ranking)}
    assert {i: (r.index, r.n_volumes, r.final) for i, r in rankings.items()} == {
        4: (4, 1, False), 5: (5, 2, False), 6: (6, 3, True), 8: (8, 1, False), 9: (9, 2, True),
    }  # fmt: skip


def test_a_ranking_names_every_candidate_once_best_first():
    bundle = small.bundle(
        small.SETTINGS.model_copy(update={"ranking": small.SETTINGS.ranking.model_copy(update={"n_top": 3})})
    )
    ranking, _ = answers(volumes(), bundle=bundle)[6]
    assert sorted(ranking.order) == list(range(small.N_CANDIDATES))
    assert (np.diff(ranking.scores) <= 0).all()
    assert ranking.top == tuple(f"category {i}" for i in ranking.order[:3])


def test_a_ranking_is_as_sure_as_the_bundle_has_learned():
    bundle = dataclasses.replace(small.bundle(), confidence=small.CONFIDENCE)
    sure, unsure = (
        [answer for answer, _ in found.values() if isinstance(answer, Ranking)]
        for found in (answers(volumes(), bundle=bundle), answers(volumes()))
    )
    for ours, theirs in zip(sure, unsure, strict=True):
        clues = ranking_predictors(ours.scores, small.N_CANDIDATES, ours.n_volumes, ours.n_blocks)
        assert ours.probability == small.CONFIDENCE.probabilities(clues)
        assert theirs.probability is None
        assert ours.scores.tobytes() == theirs.scores.tobytes()
    assert sure[2].probability > sure[0].probability


def test_candidates_that_were_trained_on_and_new_ones_are_judged_apart():
    trained = tuple(f"n{i:08d}" for i in range(3))
    chances = Chances(trained, (Weight(1.0, 0.5, 0.0), Weight(0.2, 0.5, 0.0)), (0.3, 0.0), (1, 9), (2, 9))
    bundle = dataclasses.replace(small.bundle(), chances=chances)
    found = [answer for answer, _ in answers(volumes(), bundle=bundle).values() if isinstance(answer, Ranking)]
    assert found
    for ranking in found:
        is_new = ranking.order >= 3
        said = chances.probabilities(ranking.scores, is_new, small.N_CANDIDATES, ranking.n_volumes)
        assert ranking.probability == said
    # Of new ones nothing is known: then nothing is said, and the rankings are the same.
    unknown = dataclasses.replace(bundle, chances=dataclasses.replace(chances, weights=(chances.weights[0], None)))
    silent = [answer for answer, _ in answers(volumes(), bundle=unknown).values() if isinstance(answer, Ranking)]
    assert {ranking.probability for ranking in silent} == {None}
    assert [one.scores.tobytes() for one in silent] == [one.scores.tobytes() for one in found]


def test_patterns_and_rankings_are_what_the_parts_written_out_give():
    """Register, interpolate, predict, average, decode and match naively, from the pipeline's own poses only."""
    bundle, found = small.bundle(), answers(volumes())
    reference, settings = bundle.reference, bundle.settings
    registration = Registration(reference.template, reference.affine, small.SHAPE, small.AFFINE, settings.motion)
    values = {}
    middles_s = (np.arange(12) + 0.5) * small.TR_S
    drift = naive.drift_columns(12, settings.nuisance.drift_cutoff_s, small.TR_S)
    trials = [[naive.response(t - b.onset_s, b.duration_s) for t in middles_s] for b in small.run().blocks]
    Z, n_nuisance = np.column_stack([drift, *trials]), drift.shape[1]
    sds = np.array([1e4, *[settings.nuisance.drift_sd] * (n_nuisance - 1), *[settings.response.sd] * len(trials)])
    for volume in volumes():
        pose, motion, *_ = registration.align(volume.data.astype(np.float32))
        to_volume = np.linalg.inv(small.AFFINE) @ pose @ reference.affine
        points = reference.voxels @ to_volume[:3, :3].T + to_volume[:3, 3]
        values[volume.index] = ndimage.map_coordinates(volume.data.astype(float), points.T, order=3, mode="mirror")
        _, pattern = found[volume.index]
        if pattern is None:
            continue
        assert pattern.motion == motion
        seen = list(range(1, volume.index))
        fit = naive.least_squares(Z[seen], np.array([values[i] for i in seen]), sds)
        baseline = Z[volume.index, :n_nuisance] @ fit[:n_nuisance]
        np.testing.assert_allclose(pattern.values, 100 * (values[volume.index] - baseline) / fit[0], atol=2e-3)
    ranking, _ = found[6]
    fit = naive.least_squares(Z[1:7], np.array([values[i] for i in range(1, 7)]), sds)
    covariance = np.linalg.inv(Z[1:7].T @ Z[1:7] + np.diag(1 / sds**2))
    response = 100 * fit[n_nuisance] / fit[0] / (1 - covariance[n_nuisance, n_nuisance] / settings.response.sd**2)
    noise = bundle.noise.shape
    sample = naive.whiten(response, noise.sd, noise.components, noise.shrinkage)
    z = (sample - bundle.voxel_mean) / bundle.voxel_sd
    decoded = {
        name: layer.dual @ (bundle.patterns @ z) * layer.unit_sd + layer.unit_mean
        for name, layer in bundle.layers.items()
    }
    expected = naive.scores(decoded, bundle.candidate_features, bundle.layers)
    np.testing.assert_allclose(ranking.scores, expected[ranking.order], atol=5e-3)


def test_the_front_half_gives_the_samples_that_are_ranked():
    bundle = small.bundle()
    whole = pipeline(bundle)
    front = Preprocessor(bundle.reference, small.run(), bundle.settings, bundle.noise, RepeatAverager())
    decoder, category_index = bundle.decoder(), bundle.category_index()
    for volume in volumes():
        (pattern, outcome), (answer, theirs) = front.step(volume, Stopwatch()), whole.step(volume)
        assert (pattern is None) == (theirs is None)
        if pattern is not None:
            assert pattern.values.tobytes() == theirs.values.tobytes()
        if isinstance(answer, Ranking):
            order, scores = category_index.rank(decoder.decode(outcome.index, outcome.values))
            assert (order.tobytes(), scores.tobytes()) == (answer.order.tobytes(), answer.scores.tobytes())


def test_threads_and_repetition_change_no_byte():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    previous, found = numba.get_num_threads(), []
    try:
        for n_threads in (1, 2, 2):
            numba.set_num_threads(n_threads)
            found.append(answers(volumes()))
    finally:
        numba.set_num_threads(previous)
    for other in found[1:]:
        assert all(same(found[0][index], other[index]) for index in found[0])


def bad_voxels():
    noise = np.abs(np.random.default_rng(0).normal(0, 800, small.SHAPE))
    nan, inf, huge = small.head(), small.head(), small.head().astype(np.float64)
    nan[3, 4, 5], inf[3, 4, 5], huge[3, 4, 5] = np.nan, -np.inf, 1e300
    return {
        "nan": (nan, Reason.BAD_VOLUME, "not finite"),
        "infinite": (inf, Reason.BAD_VOLUME, "not finite"),
        "beyond single precision": (huge, Reason.BAD_VOLUME, "not finite"),
        "constant": (np.full(small.SHAPE, 7, np.int16), Reason.BAD_VOLUME, "constant"),
        "zero": (np.zeros(small.SHAPE, np.float32), Reason.BAD_VOLUME, "constant"),
        "another shape": (small.head()[:-1], Reason.BAD_VOLUME, "17 × 20 × 16"),
        "noise": (noise.astype(np.float32), Reason.MOTION, "could not be found"),
    }


@pytest.mark.parametrize("fault", bad_voxels())
@pytest.mark.parametrize("at", [1, 5])
def test_a_bad_volume_is_answered_and_leaves_no_trace(fault, at):
    data, reason, detail = bad_voxels()[fault]
    with_it = answers(volumes(**{f"v{at}": data}))
    without = answers(volumes([index for index in range(12) if index != at]))
    answer, pattern = with_it.pop(at)
    assert pattern is None
    assert answer.reason == reason
    assert detail in answer.detail
    assert "\n" not in answer.detail
    assert list(answer.stage_ms) == (ALIGN_ONLY if reason == Reason.MOTION else ["convert"])
    assert all(same(with_it[index], without[index]) for index in without)


@pytest.mark.parametrize("at", [3, 5])
def test_a_jump_is_censored(at):
    """Between trials it is said, within a block the ranking rests on those before it; the baseline learns nothing."""
    jump = small.head((0.0, 3.0, 0.0)) + np.random.default_rng(0).normal(0, 4, small.SHAPE)
    found = answers(volumes(**{f"v{at}": jump.astype(np.float32)}))
    answer, pattern = found[at]
    assert pattern.censored
    assert pattern.motion.framewise_displacement_mm > 1.5
    if at == 3:
        assert (answer.reason, answer.motion) == (Reason.MOTION, pattern.motion)
        assert "mm in one volume" in answer.detail
    else:
        undisturbed = answers(volumes())
        assert (answer.n_volumes, answer.final) == (1, False)
        assert answer.scores.tobytes() == undisturbed[4][0].scores.tobytes()
        assert found[6][0].n_volumes == 1  # moving back is a jump, too
    # At the end the baseline has learned from all but the jump and the return.
    clean = answers(volumes([index for index in range(12) if index not in (at, at + 1)]))
    np.testing.assert_allclose(found[11][1].values, clean[11][1].values, atol=0.02)


def test_voxels_outside_the_field_of_view_have_no_change():
    bundle = small.bundle()
    corner = bundle.reference.voxels.copy()
    corner[:3] = [[8, 19, 8], [8, 0, 8], [9, 19, 9]]
    bundle = dataclasses.replace(bundle, reference=bundle.reference._replace(voxels=corner))
    ahead = {f"v{i}": (small.head((0, 0.9, 0)) + np.random.default_rng(i).normal(0, 4, small.SHAPE)).astype(np.float32)
             for i in range(5, 12)}  # fmt: skip
    found = answers(volumes(**ahead), bundle=bundle)
    for index in range(5, 12):
        answer, pattern = found[index]
        assert pattern.n_outside == 2
        assert np.isfinite(pattern.values).all()
        assert (pattern.values[[0, 2]] == 0).all()
        assert (pattern.values[3:] != 0).all()
        if isinstance(answer, Ranking):
            assert np.isfinite(answer.scores).all()


def affine(**changes):
    changed = small.AFFINE.copy()
    for name, value in changes.items():
        axis = "xyz".index(name[-1])
        changed[(axis, axis) if name.startswith("size") else (axis, 3)] += value
    return changed


@pytest.mark.parametrize(
    "changes", [{"affine": affine(shift_y=120.0)}, {"shape": (18, 20, 9), "affine": affine(shift_z=90.0)}]
)
def test_a_run_that_does_not_hold_the_decoder_s_voxels_is_refused_in_one_line(changes):
    run, bundle = small.run(**changes), small.bundle()
    for make in (lambda: check_run(run, bundle.reference, bundle.settings.motion), lambda: pipeline(bundle, run)):
        with pytest.raises(InputError) as caught:
            make()
        assert "hold 0 % of the bundle's" in str(caught.value)
        assert "run-1" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_run_with_other_voxels_and_flipped_axes_gives_the_same_patterns():
    """Half the voxel size along z and x running the other way: the same head, prescribed otherwise."""
    shape, changed = (small.SHAPE[0], small.SHAPE[1], 2 * small.SHAPE[2]), small.AFFINE.copy()
    changed[0, 0], changed[0, 3] = -4.0, 34.0
    changed[2, 2], changed[2, 3] = 2.0, small.AFFINE[2, 3] - 1.0
    to_usual = np.linalg.inv(small.AFFINE) @ changed
    where = to_usual[:3, :3] @ np.indices(shape).reshape(3, -1) + to_usual[:3, 3:]

    def prescribed(index):
        usual = small.volume(index)
        data = ndimage.map_coordinates(usual.data.astype(float), where, order=3, mode="nearest").reshape(shape)
        return dataclasses.replace(usual, data=data.astype(np.float32))

    path, straight = pipeline(run=small.run(shape=shape, affine=changed)), answers(volumes())
    for index in range(12):
        _, pattern = path.step(prescribed(index))
        if pattern is not None:
            assert np.corrcoef(pattern.values, straight[index][1].values)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": np.full(small.SHAPE, 7, np.float32)}, "no contrast"),
        ({"template": np.zeros(small.SHAPE, np.float32)}, "no contrast"),
        ({"voxels": np.argwhere(small.head() < 30)[:40].astype(np.int32)}, "only 0 % of the decoder's voxels lie in"),
        ({"voxels": np.array([[0, 0, 99]], np.int32)}, "outside the template"),
    ],
)
def test_a_bundle_that_nothing_can_be_aligned_to_or_decoded_with_is_refused(change, says):
    bundle = small.bundle()
    bad = bundle.reference._replace(**change)
    with pytest.raises(InputError, match=says):
        check_reference(bad, bundle.settings.motion)
    with pytest.raises(InputError, match=says):
        Session(dataclasses.replace(bundle, reference=bad))


def test_another_field_of_view_gives_the_same_patterns():
    """A run prescribed 4 mm, one voxel, to the side: the head's voxels are the same, one further along the array."""
    run = small.run(affine=affine(shift_x=-4.0))
    rolled = {f"v{i}": np.roll(small.volume(i).data, 1, axis=0) for i in range(12)}
    found, straight = answers(volumes(**rolled), run=run), answers(volumes())
    for index in range(3, 12):
        np.testing.assert_allclose(found[index][1].values, straight[index][1].values, atol=0.02)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_the_voxels_type_does_not_matter(dtype):
    typed = {f"v{i}": small.volume(i).data.clip(0).astype(dtype) for i in range(8)}
    as_float = {f"v{i}": small.volume(i).data.clip(0).astype(np.float32) for i in range(8)}
    found, expected = answers(volumes(range(8), **typed)), answers(volumes(range(8), **as_float))
    assert all(same(found[index], expected[index]) for index in expected)


def test_without_a_decoder_motion_is_all():
    reference = Reference(small.head(), small.AFFINE, np.empty((0, 3), np.int32))
    path = Pipeline(reference, Noise(), None, None, (), small.run(), small.SETTINGS, RepeatAverager())
    for volume in volumes(range(4)):
        answer, pattern = path.step(volume)
        assert (answer.reason, pattern, list(answer.stage_ms)) == (Reason.NO_DECODER, None, ALIGN_ONLY)
        assert isinstance(answer.motion, Motion)


def test_a_stage_that_fails_is_timed_all_the_same():
    stopwatch = Stopwatch()
    with pytest.raises(ZeroDivisionError), stopwatch("align"):
        raise ZeroDivisionError
    with stopwatch("align"):
        pass
    assert list(stopwatch.stage_ms) == ["align"]


# ------------------------------------------------------------------------------------------------ other settings


def with_settings(**parts):
    """The small bundle with some settings changed, by part."""
    values = small.SETTINGS.model_dump()
    for part, some in parts.items():
        values[part] |= some
    return small.bundle(PipelineSettings.model_validate(values))


def rankings(bundle, run=None, indices=range(12)):
    found = answers(volumes(indices), bundle=bundle, run=run)
    return {index: answer for index, (answer, _) in found.items() if isinstance(answer, Ranking)}


@pytest.mark.parametrize(
    "parts",
    [
        {"window": {"estimate": "mean"}},
        {"scaling": {"unit": "zscore"}},
        {"scaling": {"baseline": "frozen"}},
        {"scaling": {"smoothing_fwhm_mm": 9.0}},
        {"scaling": {"demean": True}},
        {"nuisance": {"motion_parameters": 24}},
        {"nuisance": {"drift_sd": 0.0}},
        {"nuisance": {"global_signal": True}},
        {"sampling": {"interpolation": "linear"}},
        {"motion": {"correct": False}},
        {"response": {"peak_s": 6, "most_crosstalk": 1.0}},
    ],
    ids=str,
)
def test_every_setting_is_heeded_and_answers_the_same_volumes(parts):
    usual, changed = rankings(small.bundle()), rankings(with_settings(**parts))
    assert list(usual) == [4, 5, 6, 8, 9]
    assert list(changed) == list(usual)
    if parts == {"scaling": {"baseline": "frozen"}}:
        usual = {9: usual[9]}  # only later does it differ from a running one
    assert all((changed[i].scores != usual[i].scores).any() for i in usual)


def test_motion_that_is_not_corrected_is_reported_all_the_same():
    found = answers(volumes(), bundle=with_settings(motion={"correct": False}))
    usual = answers(volumes())
    assert all(found[i][0].motion == usual[i][0].motion for i in range(12))


def test_settings_of_before_say_that_voxels_are_freed_and_can_say_nothing_else():
    assert with_settings(nuisance={"of": "voxels"}).settings == with_settings().settings
    with pytest.raises(ValueError, match="voxels alone; leave it out, and calibrate again"):
        with_settings(nuisance={"of": "features"})


def test_noise_components_are_read_from_their_voxels():
    voxels = np.argwhere(small.head() > 900).astype(np.int32)[:30]
    with_one = with_settings(nuisance={"n_components": 1})
    found = []
    for weight in (0.0, 0.3):
        courses = NoiseComponents(voxels, np.full((1, 30), weight / 30, np.float32))
        found.append(rankings(dataclasses.replace(with_one, noise=Noise(small.NOISE, courses))))
    nothing, something = found
    usual = rankings(small.bundle())
    assert all(nothing[i].scores.tobytes() == usual[i].scores.tobytes() for i in usual)
    assert all((something[i].scores != usual[i].scores).any() for i in usual)


def labelled(run_id, labels=("dog", "dog")):
    run = small.run(run_id)
    blocks = tuple(dataclasses.replace(b, label=label) for b, label in zip(run.blocks, labels, strict=True))
    return dataclasses.replace(run, blocks=blocks)


@pytest.mark.parametrize(("weigh_repeats", "weights"), [("equally", (1, 1)), ("by_volumes", (3, 2))])
def test_repeats_are_averaged_over_a_session_s_runs(weigh_repeats, weights):
    bundle = with_settings(window={"mode": "repeats", "weigh_repeats": weigh_repeats})
    session, found = Session(bundle), []
    for run_id in ("run-1", "run-2"):
        for message in (labelled(run_id), *(small.volume(i, run_id) for i in range(12)), RunEnd(run_id, 12)):
            found += [answer for answer, _ in session.handle(message) if isinstance(answer, Ranking) and answer.final]
    assert [(a.block, a.n_blocks, a.n_volumes) for a in found] == [(0, 1, 3), (1, 2, 5), (0, 3, 8), (1, 4, 10)]
    alone = rankings(small.bundle())
    assert found[0].scores.tobytes() == alone[6].scores.tobytes()
    # Decoding is affine: what is decoded from a mean is the mean of what is decoded.
    front = Preprocessor(bundle.reference, small.run(), small.SETTINGS, bundle.noise, RepeatAverager())
    samples = {}
    for volume in volumes():
        _, outcome = front.step(volume, Stopwatch())
        if not isinstance(outcome, NotReady):
            samples[outcome.block] = outcome.values
    mean = np.average([samples[0], samples[1]], axis=0, weights=weights).astype(np.float32)
    np.testing.assert_allclose(
        found[1].scores, bundle.category_index().rank(bundle.decoder().decode(0, mean))[1], rtol=1e-3, atol=1e-4
    )


def test_a_trial_that_a_run_s_end_cut_short_counts_in_the_next_run():
    """Also where the next run has a trial of the same label in the same place, as those of a protocol have."""
    session, found = Session(with_settings(window={"mode": "repeats"})), []
    for run_id, indices in (("run-1", [*range(9), 10, 11]), ("run-2", range(12))):
        for message in (labelled(run_id, ("cat", "dog")), *(small.volume(i, run_id) for i in indices)):
            found += [answer for answer, _ in session.handle(message) if isinstance(answer, Ranking)]
        found += [answer for answer, _ in session.handle(RunEnd(run_id, 12)) if isinstance(answer, Ranking)]
    of_dogs = [(a.run_id, a.index, a.n_blocks, a.n_volumes) for a in found if a.block == 1]
    assert of_dogs == [("run-1", 8, 1, 1), ("run-2", 8, 2, 2), ("run-2", 9, 2, 3)]


def test_what_is_freed_from_drift_and_motion_is_averaged_over_repeats():
    found = {}
    for mode in ("repeats", "block"):
        bundle = with_settings(window={"mode": mode})
        found[mode] = [
            answer
            for answer, _ in answers(volumes(), bundle=bundle, run=labelled("run-1")).values()
            if isinstance(answer, Ranking)
        ]
    assert [(a.block, a.n_blocks) for a in found["repeats"]] == [(a.block, 1 + a.block) for a in found["block"]]
    for averaged, alone in zip(found["repeats"], found["block"], strict=True):
        assert (averaged.scores.tobytes() == alone.scores.tobytes()) == (alone.block == 0)


def test_a_pipeline_that_is_made_changes_nothing_outside_itself():
    bundle, found = with_settings(window={"mode": "repeats"}), []
    for n_others in (0, 1):
        repeats = RepeatAverager()
        parts = labelled("run-1"), bundle.decoder(), bundle.category_index(), repeats
        path, outcomes = bundle.pipeline(*parts), []
        for volume in volumes():
            for _ in range(n_others):
                bundle.pipeline(*parts)
            outcomes.append(path.step(volume))
        found.append(outcomes)
    assert all(same(a, b) for a, b in zip(*found, strict=True))


def test_trials_without_labels_are_not_averaged():
    assert {r.n_blocks for r in rankings(with_settings(window={"mode": "repeats"})).values()} == {1}


def test_a_volume_in_a_trial_of_which_nothing_can_be_seen_yet_says_so():
    bundle, run = with_settings(window={"hrf_shift_s": 0.0}), small.run(blocks=(Block(8.0, 4.0),))
    found = answers(volumes(), bundle=bundle, run=run)
    assert (found[4][0].reason, found[4][0].detail) == (Reason.WARMING_UP, "nothing of the response can be seen yet")
    assert isinstance(found[5][0], Ranking)


def test_a_volume_that_flickers_is_censored_by_dvars():
    rng = np.random.default_rng(0)
    flicker = (small.volume(9).data * rng.uniform(0.93, 1.07, small.SHAPE)).astype(np.float32)
    found = answers(volumes(v9=flicker))
    answer, pattern = found[9]
    assert pattern.censored
    assert (answer.n_volumes, answer.final) == (1, True)


# -------------------------------------------------------------------------------------- compiled and not compiled

_COMPILES_NOTHING = """
import json, sys
from pathlib import Path
from rtgod.decoding import decoder
from rtgod.preprocessing import registration, sampling, splines
from rtgod.bundle import DecoderBundle
from rtgod.server.session import Session
from rtgod.settings import PipelineSettings
from rtgod.server.warmup import warm_up
from rtgod.protocol.frames import from_frames, to_frames
from tests import small

kernels = [splines.convolve, registration._accumulate, sampling._cubic, decoder._rows_dot]
count = lambda: [len(kernel.signatures) for kernel in kernels]
warm_up()
warm = count()
session, rankings = Session(DecoderBundle.load(Path(sys.argv[1]))), 0
for message in small.messages():
    for answer, _ in session.handle(from_frames([bytes(frame) for frame in to_frames(message)])):
        rankings += hasattr(answer, "scores")
print(json.dumps({"warm": warm, "after": count(), "rankings": rankings}))
"""


def python(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_after_the_warm_up_a_real_run_compiles_nothing(tmp_path):
    small.bundle().save(tmp_path / "bundle")
    found = python(_COMPILES_NOTHING, tmp_path / "bundle")
    assert found["rankings"] == 5
    assert found["warm"] == found["after"]
    assert min(found["warm"]) >= 1


_SESSION = """
import json, os
import numpy as np
from rtgod.decoding import decoder
from rtgod.messages import Ranking
from rtgod.server.session import Session
from tests import small

assert hasattr(decoder._rows_dot, "signatures") == (os.environ.get("NUMBA_DISABLE_JIT") != "1")
session, found = Session(small.bundle(n_units={"conv": 300, "fc": 200})), []
for message in small.messages()[:8]:
    for answer, pattern in session.handle(message):
        found.append(
            {
                "index": answer.index,
                "motion": [*answer.motion.translation_mm, *answer.motion.rotation_deg],
                "pattern": pattern.values.tolist() if pattern else [],
                "scores": answer.scores[np.argsort(answer.order)].tolist() if isinstance(answer, Ranking) else [],
            }
        )
print(json.dumps(found))
"""


def test_without_compilation_a_session_is_the_same():
    compiled, plain = python(_SESSION), python(_SESSION, NUMBA_DISABLE_JIT="1")
    assert [len(answer["scores"]) for answer in compiled] == [0, 0, 0, 0, 7, 7, 7]
    for ours, theirs in zip(compiled, plain, strict=True):
        assert ours["index"] == theirs["index"]
        np.testing.assert_allclose(theirs["motion"], ours["motion"], atol=1e-5)
        np.testing.assert_allclose(theirs["pattern"], ours["pattern"], atol=1e-4)  # percent: 1e-6 of the signal
        np.testing.assert_allclose(theirs["scores"], ours["scores"], atol=1e-5)


def test_chances_of_what_is_imagined_are_those_of_imagined_trials_or_unknown():
    """What was learned from trials that were seen is too sure for imagined ones, and is not said of them."""
    run = small.run()
    imagined = dataclasses.replace(run, blocks=tuple(dataclasses.replace(b, imagined=True) for b in run.blocks))
    ids = tuple(candidate.category_id for candidate in small.bundle().candidates)
    surer, less = (Chances(ids, (Weight(level, 0.5, 0.0), None), (0.0, 0.0), (1, 9), (2, 9)) for level in (2.0, 0.0))
    of_seen = dataclasses.replace(small.bundle(), chances=surer)
    of_both = dataclasses.replace(of_seen, imagined_chances=less)
    of_imagined = dataclasses.replace(small.bundle(), imagined_chances=less)

    def said(bundle, run):
        return [answer.probability for answer in rankings(bundle, run).values()]

    assert all(said(of_seen, run))
    assert set(said(of_seen, imagined)) == {None}
    assert said(of_both, run) == said(of_seen, run)
    assert said(of_both, imagined) == said(of_imagined, imagined)
    assert all(few[0] < many[0] for few, many in zip(said(of_both, imagined), said(of_both, run), strict=True))
    assert set(said(of_imagined, run)) == {None}


def test_every_ranking_names_the_nearest_pictures_and_is_otherwise_as_without(tmp_path):
    """Those of the saved bundle, too, with its codes left in their file."""
    bare, layers = small.bundle(), small.bundle().layers
    weights = {"conv": 2.0, "fc": 1.0}
    rows = matched_rows(
        {name: small.normal(20, layer.n_units, seed=5) for name, layer in layers.items()}, layers, weights
    )
    basis = small.orthonormal(6, rows.shape[1])
    chances = Chances((), (None, Weight(1.0, 0.0, 0.0)), (0.0, 0.0), (1, 9), (2, 300))
    pictures = Pictures(tuple(f"{i}.png" for i in range(20)), rows @ basis.T, weights, basis, chances)
    dataclasses.replace(bare, pictures=pictures).save(tmp_path / "bundle")
    loaded = DecoderBundle.load(tmp_path / "bundle")
    assert not loaded.pictures.codes.flags.writeable
    assert (loaded.pictures.names, loaded.pictures.weights, loaded.pictures.chances) == (
        pictures.names,
        weights,
        chances,
    )
    given = volumes()
    plain, first, again = (answers(given, bundle=b) for b in (bare, loaded, DecoderBundle.load(tmp_path / "bundle")))
    rankings = [index for index, (answer, _) in plain.items() if isinstance(answer, Ranking)]
    assert rankings
    for index in rankings:
        near = first[index][0].pictures
        assert len(near) == 4
        assert 0 < sum(picture.probability for picture in near) <= 1
        assert near == again[index][0].pictures
        assert list(first[index][0].stage_ms) == [*RANKING, "pictures"]
        assert plain[index][0].pictures == ()
        assert first[index][0].order.tobytes() == plain[index][0].order.tobytes()
        assert first[index][0].scores.tobytes() == plain[index][0].scores.tobytes()


@pytest.mark.parametrize(
    ("weights", "n_units", "said"),
    [({"conv": 1.0}, 14, "14 units, and the decoder's layers 9"), ({"x": 1.0}, 9, "lacks")],
)
def test_pictures_of_another_decoder_are_refused(tmp_path, weights, n_units, said):
    pictures = Pictures(("a", "b"), small.normal(2, n_units), weights)
    dataclasses.replace(small.bundle(), pictures=pictures).save(tmp_path / "bundle")
    with pytest.raises(BundleError, match=said):
        DecoderBundle.load(tmp_path / "bundle")


def test_a_server_has_its_pictures_at_hand_before_the_first_volume_and_says_their_letters():
    weights = {"conv": 1.0}
    pictures = Pictures(("猫.png", "dog.png"), small.normal(2, 9), weights)
    session = Session(dataclasses.replace(small.bundle(), pictures=pictures))
    assert "search" in vars(pictures)
    assert session.hello().letters == "猫"
