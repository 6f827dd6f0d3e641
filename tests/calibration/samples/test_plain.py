"""Plain categories: a localizer's decoder, without images, from calibration to what is decoded live."""

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.commands import calibrate as command
from calibration.datasets.runs import find_plain_runs
from calibration.decoders.ridge import LeaveOneRunOut
from calibration.metrics.identification import identification_accuracy
from calibration.samples.plain import check_repeated, plain_stimuli
from calibration.samples.runs import align_run
from calibration.samples.study import CATEGORIES
from calibration.training.folds import parts_of_one_run
from rtgod.bundle import DecoderBundle
from rtgod.decoding.decoder import response_of
from rtgod.errors import InputError
from rtgod.messages import Ranking
from rtgod.server.session import Session
from rtgod.sources import open_source
from tests.calibration.conftest import sampled

SHAPE, TR_S, N_VOLUMES = (10, 10, 6), 2.0, 70
CATEGORY_OF = ("face", "place", "word")
#: Of blocks of 12 s, and what answers them: a corner of the head each.
ONSETS_S = tuple(16.0 + 20.0 * block for block in range(6))
SETTINGS = "[motion]\nestimate = false\n[nuisance]\nwarm_up_volumes = 4\n"


def write_run(folder, number, categories=CATEGORY_OF, shuffled=False, effect=0.03):
    """A run of six blocks; shuffled labels mean nothing, and without an effect there is noise alone."""
    rng = np.random.default_rng(number)
    shown = rng.permutation(np.repeat(np.arange(len(categories)), len(ONSETS_S) // len(categories)))
    signal = np.zeros((len(categories), N_VOLUMES))
    for onset_s, category in zip(ONSETS_S, shown, strict=True):
        first = int((onset_s + 5) / TR_S)
        signal[category, first : first + 6] = 1
    x = np.indices(SHAPE)
    ball = 900 * (((x - np.array([4.5, 4.5, 2.5])[:, None, None, None]) ** 2).sum(axis=0) < 20) + 20
    data = ball[..., None] * (1 + 0.004 * rng.standard_normal((*SHAPE, N_VOLUMES)))
    for category, course in enumerate(signal):
        data[3 + 2 * category % 4 : 5 + 2 * category % 4, 3 + category : 5 + category, 2:4] *= 1 + effect * course
    image = nib.Nifti1Image(data.astype(np.float32), np.diag([3.0, 3, 3, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3, 3, 3, TR_S))
    path = folder / f"run-{number}_bold.nii"
    nib.save(image, path)
    told = rng.permutation(shown) if shuffled else shown
    rows = [f"{onset_s}\t12\t{categories[one]}\n" for onset_s, one in zip(ONSETS_S, told, strict=True)]
    path.with_name(f"run-{number}_events.tsv").write_text("onset\tduration\ttrial_type\n" + "".join(rows))
    return path


def calibrate(folder, paths, **options):
    (folder / "settings.toml").write_text(SETTINGS)
    out = folder / "bundle"
    command.calibrate(paths, subject="01", out=out, settings=folder / "settings.toml", n_workers=1, **options)
    return DecoderBundle.load(out)


def rankings_of(bundle, path):
    """The last ranking of each block of a run, live, and what was shown."""
    events = path.with_name(path.name.replace("_bold.nii", "_events.tsv"))
    source = open_source(path, events=events)
    session = Session(bundle)
    answers = [answer for message in (source.run, *source) for answer, _ in session.handle(message)]
    shown = [line.split("\t")[2] for line in events.read_text().splitlines()[1:]]
    return [answer for answer in answers if isinstance(answer, Ranking) and answer.final], shown


@pytest.fixture(scope="module")
def localizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("localizer")
    return folder, [write_run(folder, number) for number in range(5)]


@pytest.fixture(scope="module")
def bundle(localizer):
    folder, paths = localizer
    return calibrate(folder, paths[:4])


def test_four_runs_of_three_categories_are_decoded_live_and_said_to_be(bundle, localizer):
    assert bundle.plain_categories
    assert [candidate.category_id for candidate in bundle.candidates] == sorted(CATEGORY_OF)
    assert bundle.provenance["network"] is None
    assert bundle.provenance["cross_validation"]["first"] == 1
    (note,) = bundle.provenance["cross_validation"]["notes"]
    response = bundle.settings.response
    assert note.startswith(f"responses peak {response.peak_s:.1f} ± {response.peak_sd_s:.1f} s")
    assert response.peak_s == pytest.approx(5.0, abs=3 * response.peak_sd_s)
    assert 0 < response.peak_sd_s < 0.5
    found, shown = rankings_of(bundle, localizer[1][4])
    assert len(found) == len(shown) == 6
    assert [ranking.top[0] for ranking in found] == shown
    assert min(ranking.probability[0] for ranking in found) > 0.8
    assert all(ranking.probability[1:] == (1, 1) for ranking in found)
    # Scores are graded, so that a display has something to show.
    assert len({float(score) for ranking in found for score in ranking.scores}) == 18


def test_of_noise_live_a_good_bundle_is_about_as_sure_as_a_guess(bundle, tmp_path):
    runs = [write_run(tmp_path, number, effect=0) for number in range(50, 54)]
    found = [ranking for path in runs for ranking in rankings_of(bundle, path)[0]]
    assert np.mean([ranking.probability[0] for ranking in found]) == pytest.approx(1 / 3, abs=0.12)
    # As bundles say it that do not tell noise from a response.
    found = [ranking for path in runs for ranking in rankings_of(replace(bundle, response=None), path)[0]]
    assert np.mean([ranking.probability[0] for ranking in found]) > 0.48


def test_two_categories_have_graded_scores(tmp_path):
    paths = [write_run(tmp_path, number, ("face", "place")) for number in range(3)]
    found, shown = rankings_of(calibrate(tmp_path, paths[:2]), paths[2])
    assert [ranking.top[0] for ranking in found] == shown
    assert len({float(ranking.scores[0]) for ranking in found}) == 6
    # Twelve trials in two runs: as much as is needed to say how sure.
    assert all(0.7 < ranking.probability[0] < 1 for ranking in found)


def test_shuffled_labels_are_a_guess(tmp_path):
    paths = [write_run(tmp_path, number, shuffled=True) for number in range(10, 15)]
    bundle = calibrate(tmp_path, paths[:4])
    found, _ = rankings_of(bundle, paths[4])
    assert np.mean([ranking.probability[0] for ranking in found]) == pytest.approx(1 / 3, abs=0.2)


def test_of_one_run_blocks_are_left_out_and_nothing_is_known_of_how_sure(localizer, tmp_path, capsys):
    bundle = calibrate(tmp_path, localizer[1][:1])
    assert bundle.chances is None
    printed = " ".join(capsys.readouterr().out.split())
    assert "plain categories no images are given, so the categories themselves are decoded" in printed
    assert "Left-out blocks: 6 samples of 1 run" in printed
    assert "learned from runs that are left out in turn, which needs 2, and there is 1" in printed
    found, _ = rankings_of(bundle, localizer[1][4])
    assert {ranking.probability for ranking in found} == {None}


def test_what_is_no_better_than_chance_is_said_to_be(localizer, tmp_path, capsys):
    """Effects and none: both are told, and the bundle keeps the test; six blocks, all of them right, hardly do."""
    shuffled = [write_run(tmp_path, number, shuffled=True) for number in (21, 22, 23, 24)]
    found = []
    for paths in (localizer[1][:1], localizer[1][:4], shuffled):
        (folder := tmp_path / str(len(found))).mkdir()
        kept = calibrate(folder, paths).provenance["cross_validation"]["test"]
        found.append((kept["p_value"], " ".join(capsys.readouterr().out.split())))
    (one_p, one), (four_p, four), (none_p, none) = found
    assert 1 / 36 < one_p < 0.06
    assert four_p <= 0.05
    assert none_p > 0.05
    assert "left out in 2 parts" in one
    assert "Better than chance: p = 0" in four
    assert f"not found better than chance: p = {none_p:.4f}, of exchanged blocks; too little data" in none


def test_a_category_of_one_run_alone_is_left_out_of_the_accuracy(localizer, tmp_path, capsys):
    other = write_run(tmp_path, 31, ("face", "place", "tool"))
    bundle = calibrate(tmp_path, [*localizer[1][:2], other])
    printed = " ".join(capsys.readouterr().out.split())
    assert "shown in one run only, so no other run tells of them: tool; their 2 samples are left out" in printed
    assert bundle.provenance["cross_validation"]["n_samples"] == 18


def test_of_many_categories_of_one_run_alone_the_first_are_named_and_all_are_counted(localizer, tmp_path, capsys):
    others = [write_run(tmp_path, 31, ("a", "b", "c")), write_run(tmp_path, 32, ("d", "e", "f"))]
    bundle = calibrate(tmp_path, [*localizer[1][:2], *others])
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"shown in one run only, .*: (\w, ){5}… \(6 in all\); their 12 samples are left out", printed)
    assert bundle.provenance["cross_validation"]["n_samples"] == 24


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 10.0])
def test_of_one_run_noise_is_decoded_at_chance_not_below(penalty):
    """Leaving out one block at a time would take noise for the categories that are left: below chance."""
    rng = np.random.default_rng(0)
    alone, in_parts = [], []
    for _ in range(100):
        X, true = rng.standard_normal((12, 200)), rng.permutation(np.repeat(np.arange(6), 2))
        for found, groups in ((alone, range(12)), (in_parts, parts_of_one_run(true.tolist()))):
            predicted = LeaveOneRunOut(X, groups).predict(np.eye(6)[true], penalty * 200)
            found += [identification_accuracy(row, int(of)) for row, of in zip(predicted, true, strict=True)]
    assert np.mean(in_parts) == pytest.approx(0.5, abs=0.05)
    assert np.mean(alone) < 0.45


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
def test_parts_of_one_run_hold_every_category_as_evenly_as_can_be(categories):
    parts = np.array(parts_of_one_run(categories))
    counts = Counter(categories)
    if min(counts.values()) == 1:
        assert len(set(parts)) == len(categories)
        return
    assert len(set(parts)) == min(counts.values())
    for category, n in counts.items():
        own = parts[np.array(categories) == category]
        assert (np.diff(own) >= 0).all()
        assert set(np.bincount(own).tolist()) <= {n // len(set(parts)), -(-n // len(set(parts)))}


def test_a_dry_run_says_what_is_decoded(localizer, tmp_path, capsys):
    (tmp_path / "settings.toml").write_text(SETTINGS)
    command.calibrate(
        localizer[1], subject="01", out=tmp_path / "bundle", settings=tmp_path / "settings.toml", dry_run=True
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "candidates 3 the categories themselves" in printed
    assert re.search(r"trials 30 of 3 categories: (10 (face|place|word)(, )?){3}", printed)
    assert "images shown" not in printed


def test_no_network_is_imported_where_none_is_needed(localizer, tmp_path):
    (tmp_path / "settings.toml").write_text(SETTINGS)
    runs = [str(path) for path in localizer[1][:2]]
    code = (
        "import sys, rtgod.commands.main\n"
        f"sys.argv = ['rtgod', 'calibrate', *{runs}, '--subject', '01', '--out', {str(tmp_path / 'bundle')!r}, "
        f"'--settings', {str(tmp_path / 'settings.toml')!r}, '--workers', '1']\n"
        "try:\n    rtgod.commands.main.main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (tmp_path / "bundle").is_dir(), done.stderr
    assert done.stdout.rstrip().endswith("False")


def test_each_category_is_a_unit():
    stimuli = plain_stimuli(["b", "a", "b"])
    assert stimuli.candidate_ids == ("a", "b")
    np.testing.assert_array_equal(stimuli.candidates[CATEGORIES], np.eye(2))
    with pytest.raises(InputError, match="one category, a, and fewer than two cannot be told apart"):
        plain_stimuli(["a", "a"])


def test_categories_that_are_shown_once_are_named():
    check_repeated(["a", "b", "a", "b"])
    with pytest.raises(InputError, match=r"1 of 2 categories has one trial only \(b\)"):
        check_repeated(["a", "b", "a"])
    with pytest.raises(InputError, match=r"one trial only .*\(left out: 1 of 3 trials: censored\)$"):
        check_repeated(["a", "b", "a"], ["1 of 3 trials: censored"])
    with pytest.raises(InputError, match="2 of 2 categories have one trial only") as refused:
        check_repeated(["a", "b"])
    assert "events.ignore" not in str(refused.value)  # nothing would be left


def test_haxby_is_decoded_live_as_offline(shared_data, tmp_path):
    """Five real runs of eight categories: the sixth live, against its samples offline."""
    bold = shared_data / "haxby2001" / "sub001" / "BOLD"
    files = find_plain_runs([bold], pattern="1slice").runs[:6]
    (tmp_path / "settings.toml").write_text("[motion]\nestimate = false\n")
    command.calibrate(
        [files[i].bold for i in range(5)], subject="001", out=tmp_path / "bundle", n_workers=1,
        settings=tmp_path / "settings.toml", events=[files[i].events for i in range(5)],
    )  # fmt: skip
    bundle = DecoderBundle.load(tmp_path / "bundle")
    source = files[5].open()
    session = Session(bundle)
    answers = [answer for message in (source.run, *source) for answer, _ in session.handle(message)]
    found = [answer for answer in answers if isinstance(answer, Ranking) and answer.final]
    aligned = align_run(files[5], bundle.reference, bundle.noise, bundle.settings)
    offline = sampled(aligned, bundle.reference, bundle.settings, bundle.noise)
    index, decoder = bundle.category_index(), bundle.decoder()
    for ranking, values in zip(found, offline.values, strict=True):
        order, scores = index.rank(decoder.decode(0, values))
        assert (ranking.order.tobytes(), ranking.scores.tobytes()) == (order.tobytes(), scores.tobytes())
        response, trained = response_of(bundle.response, values), np.zeros(len(order), bool)
        assert ranking.probability == bundle.chances.probabilities(
            scores, trained, len(order), ranking.n_volumes, response
        )
    right = [ranking.top[0] == trial.category for ranking, trial in zip(found, offline.trials, strict=True)]
    assert sum(right) >= 4  # by chance, one of eight
