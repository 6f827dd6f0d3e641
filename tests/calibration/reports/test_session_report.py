import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from matplotlib.image import imread

from calibration.datasets.bids import find_runs
from calibration.metrics.identification import permutation_test
from calibration.reports.session_report import (
    DecodedBlock,
    _ranks,
    _sum_up,
    blocks_and_trials,
    read_runs,
    read_spm_motion,
    tables_of,
    write_report,
)
from rtgod.bundle import DecoderBundle
from rtgod.errors import InputError
from rtgod.events.table import Trial, read_trials
from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.messages import NotReady, Ranking, Volume
from rtgod.server.session import Session
from rtgod.sources import open_source
from tests import naive, small
from tests.calibration.conftest import serve_runs

FIGURES = {"reliability.png", "latency.png", "motion.png", "ranks.png", "decoded.png"}


@pytest.fixture(scope="module")
def reported(journal, calibrated, subject, tmp_path_factory):
    """Folder of the report on the session's journal, and what was printed."""
    import io

    from rich.console import Console

    out, console = tmp_path_factory.mktemp("report") / "out", Console(file=io.StringIO(), width=120)
    write_report(journal, out, calibrated.folder, subject, None, console)
    return out, console.file.getvalue()


@pytest.fixture(scope="module")
def blocks(journal, bundle, subject):
    """The last ranking of every first look, beside its trial, straight from the journal."""
    position = {candidate.category_id: i for i, candidate in enumerate(bundle.candidates)}
    latest = {}
    for message in read_journal(journal):
        if isinstance(message, Ranking):
            latest[message.run_id, message.block] = message
    found = []
    for (run_id, block), ranking in sorted(
        latest.items(), key=lambda item: ("imagery" in item[0][0], item[0][0], item[0][1])
    ):
        trial = read_trials(next(subject.rglob(f"{run_id}_events.tsv")))[block]
        if not trial.repeat:
            found.append((trial, ranking, ranking.scores[np.argsort(ranking.order)], position[trial.category]))
    return found


def inked(path):
    """Share of a figure's pixels that are not white."""
    return (imread(path)[..., :3].min(axis=-1) < 0.95).mean()


# ---------------------------------------------------------------- what is in it


def test_every_volume_is_accounted_for(reported, journal):
    out, _ = reported
    summary = json.loads((out / "summary.json").read_text())
    messages = list(read_journal(journal))
    assert summary["runs"] == 3
    assert summary["volumes_received"] == sum(isinstance(m, Volume) for m in messages) == 178 + 178 + 213
    assert summary["volumes_ranked_or_explained"] == summary["volumes_received"]
    assert summary["volumes_ranked"] == sum(isinstance(m, Ranking) for m in messages)
    total = [sum(m.stage_ms.values()) for m in messages if isinstance(m, Ranking | NotReady)]
    assert summary["latency_ms_p50"] == pytest.approx(np.percentile(total, 50))
    assert summary["latency_ms_p99"] == pytest.approx(np.percentile(total, 99))


def kind_of(trial, ranking):
    """Which group a block belongs to: what a decoder was trained on says nothing of how it does on new runs."""
    if "Training" in ranking.run_id:
        return "trained_on"
    return "seen" if trial.kind == "stimulus" else "imagined"


@pytest.mark.parametrize("kind", ["seen", "imagined", "trained_on"])
def test_accuracies_are_those_of_the_journal(reported, blocks, kind):
    summary = json.loads((reported[0] / "summary.json").read_text())
    chosen = [block for block in blocks if kind_of(*block[:2]) == kind]
    ranks = [1 + sum(s >= scores[true] for i, s in enumerate(scores) if i != true) for *_, scores, true in chosen]
    accuracies = [naive.identification_accuracy(scores, true) for *_, scores, true in chosen]
    assert summary[f"{kind}_blocks"] == len(chosen) > 20
    assert summary["n_candidates"] == 80
    assert summary[f"{kind}_identification_accuracy"] == pytest.approx(np.mean(accuracies))
    assert summary[f"{kind}_median_rank"] == np.median(ranks)
    assert summary[f"{kind}_top10"] == pytest.approx(np.mean(np.array(ranks) <= 10))
    if kind == "trained_on":
        assert f"{kind}_p_value" not in summary  # a fit is no test
        assert "Trained on: a fit, no test" in reported[1] or "trained on: a fit, no test" in reported[1]
        return
    scores, true = np.stack([block[2] for block in chosen]), [block[3] for block in chosen]
    assert summary[f"{kind}_p_value"] == pytest.approx(permutation_test(scores, true).p_value, abs=0.01)


def test_seen_categories_are_identified(reported):
    summary = json.loads((reported[0] / "summary.json").read_text())
    assert summary["seen_identification_accuracy"] > 0.65
    assert summary["seen_p_value"] < 0.05


def test_the_table_of_ranks_is_that_of_the_journal(reported, blocks, bundle):
    header, *rows = [line.split("\t") for line in (reported[0] / "ranks.tsv").read_text().splitlines()]
    assert header == [
        "kind", "onset_s", "category_id", "category", "first", "rank", "identification_accuracy", "n_volumes", "run",
    ]  # fmt: skip
    expected = []
    for trial, ranking, scores, true in blocks:
        best = int(np.argmax(scores))
        expected.append(
            (kind_of(trial, ranking), trial.onset_s, trial.category,
             bundle.candidates[true].name, bundle.candidates[best].name,
             1 + sum(s >= scores[true] for i, s in enumerate(scores) if i != true),
             round(naive.identification_accuracy(scores, true), 6), ranking.n_volumes, ranking.run_id)
        )  # fmt: skip
    found = [(k, float(o), c, n, f, int(r), float(a), int(v), run) for k, o, c, n, f, r, a, v, run in rows]
    assert sorted(found) == sorted(expected)


def test_it_is_printed_for_people(reported):
    printed = reported[1]
    for text in ("Latency in the server", "Seen: rank among 80 categories", "Imagined: rank", "chance 50 %", "p = "):
        assert text in printed


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_figures_are_drawn(reported, name):
    assert {path.name for path in reported[0].glob("*.png")} == FIGURES
    assert imread(reported[0] / name).shape[1] > 800
    assert inked(reported[0] / name) > 0.01


# ---------------------------------------------------------------- less to go on


def test_without_bundle_and_data_set_there_is_latency_and_motion(journal, tmp_path, console):
    write_report(journal, tmp_path / "new" / "out", None, None, None, console)
    names = {path.name for path in (tmp_path / "new" / "out").iterdir()}
    assert names == {"summary.json", "left_out.tsv", "latency.png", "motion.png"}
    assert not {key for key in json.loads((tmp_path / "new/out/summary.json").read_text()) if "seen" in key}


def test_volumes_that_never_came_are_explained_not_received(tmp_path, console):
    session = Session(small.bundle())
    with JournalWriter(tmp_path / "lossy.rtgod") as writer:
        writer.append(session.hello())
        for message in small.messages(indices=[0, 1, 2, 3, 4, 6, 7, 8, 9, 11]):
            writer.append(message)
            for answer, _ in session.handle(message):
                writer.append(replace(answer, stage_ms={"receive": 1.0, **answer.stage_ms}))
    write_report(tmp_path / "lossy.rtgod", tmp_path / "out", None, None, None, console)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["volumes_received"], summary["volumes_ranked_or_explained"]) == (10, 12)


def test_another_bundle_than_the_session_s_is_refused(journal, subject, tmp_path, console):
    small.bundle().save(tmp_path / "other")
    with pytest.raises(InputError, match="was recorded with bundle"):
        write_report(journal, tmp_path / "out", tmp_path / "other", subject, None, console)


def test_another_data_set_than_the_session_s_is_refused(journal, calibrated, tmp_path, console):
    with pytest.raises(InputError, match=r"no sub-01_.*_events.tsv; give the data set that was replayed"):
        write_report(journal, tmp_path / "out", calibrated.folder, tmp_path, None, console)


def test_a_journal_without_runs_is_refused(tmp_path, console):
    with JournalWriter(tmp_path / "empty.rtgod") as writer:
        writer.append(Session(None, small.AT_ONCE).hello())
    with pytest.raises(InputError, match="no run in it; was anything sent"):
        write_report(tmp_path / "empty.rtgod", tmp_path / "out", None, None, None, console)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- motion against SPM


class First:
    """The first volumes of a run."""

    def __init__(self, source, n_volumes):
        self.run = replace(source.run, n_volumes=n_volumes)
        self._source, self._n_volumes = source, n_volumes

    def __iter__(self):
        return islice(iter(self._source), self._n_volumes)


def test_motion_of_a_real_run_agrees_with_spm(shared_data, tmp_path, console):
    folder = shared_data / "siemens-run"
    source = First(open_source(folder / "dicom"), 20)
    journal = serve_runs(Session(None, small.AT_ONCE), tmp_path / "align.rtgod", [source])
    table = (folder / "spm_motion.tsv").read_text().splitlines()
    (tmp_path / "spm.tsv").write_text("\n".join(table[:21]) + "\n")
    write_report(journal, tmp_path / "out", None, None, tmp_path / "spm.tsv", console)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["volumes_received"] == 20
    assert 0 < summary["spm_median_diff_mm"] < 0.05
    assert summary["spm_median_diff_mm"] <= summary["spm_max_diff_mm"] < 0.1
    assert "head motion against SPM's" in console.file.getvalue()
    _, (record,) = read_runs(journal)
    assert [index for index, _ in record.motions()] == list(range(20))
    (tmp_path / "short.tsv").write_text("\n".join(table[:11]) + "\n")
    with pytest.raises(InputError, match="where 20 volumes × 6 are needed"):
        write_report(journal, tmp_path / "out", None, None, tmp_path / "short.tsv", console)


ROWS = np.array([[1.5, -2, 0.25, 0.01, -0.02, 0.03], [0, 0, 0, 0, 0, 0], [-1e-3, 2e-5, 3, 1e-4, 0.2, -0.1]])


@pytest.mark.parametrize("header", ["", "trans_x_mm\ttrans_y_mm\ttrans_z_mm\trot_x_rad\trot_y_rad\trot_z_rad\n"])
@pytest.mark.parametrize("form", ["%.8f", "%.7e", "  %16.7e"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_spm_s_table_is_read_with_and_without_a_header(tmp_path, header, form, order):
    rows = ROWS[order]
    path = tmp_path / "rp_run.txt"
    path.write_text(header + "".join("\t".join(form % x for x in row) + "\n" for row in rows))
    poses = read_spm_motion(path, 3)
    for pose, row in zip(poses, rows, strict=True):
        np.testing.assert_allclose(np.linalg.inv(pose), naive.spm_matrix(row[:3], row[3:]), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "what"),
    [(None, "cannot be read"), ("", "cannot be read"), ("a b c\nd e f\n", "cannot be read"), ("1 2 3\n", "volumes × 6"),
     ("1 2 3 4 5 6\n", "volumes × 6")],
)  # fmt: skip
def test_a_motion_table_that_cannot_be_used_is_refused(tmp_path, content, what):
    if content is not None:
        (tmp_path / "rp.txt").write_text(content)
    with pytest.raises(InputError, match=what):
        read_spm_motion(tmp_path / "rp.txt", 3)


def test_a_session_that_ranked_some_candidates_is_reported_among_these(bundle, subject, tmp_path, console):
    ids = [candidate.category_id for candidate in bundle.candidates]
    run = find_runs(subject, "01", "perceptionTest")[0]
    shown = {trial.category for trial in run.trials(bundle.settings.events)}
    chosen = tuple(sorted(shown))[:7]
    ranking = bundle.settings.ranking.model_copy(update={"candidates": chosen})
    few = replace(bundle, settings=bundle.settings.model_copy(update={"ranking": ranking}))
    few.save(tmp_path / "few")
    journal = serve_runs(Session(DecoderBundle.load(tmp_path / "few")), tmp_path / "s.rtgod", [run.open()])
    write_report(journal, tmp_path / "out", tmp_path / "few", subject, None, console)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["n_candidates"] == 7 < len(ids)
    assert 0.5 < summary["seen_identification_accuracy"] <= 1
    ranks = [line.split("\t") for line in (tmp_path / "out" / "ranks.tsv").read_text().splitlines()[1:]]
    assert {row[2] for row in ranks} == set(chosen)
    assert max(int(row[5]) for row in ranks) <= 7


@pytest.mark.parametrize("name", ["{}", "{}_bold.nii.gz"])
def test_runs_that_were_trained_on_are_known_by_either_name(bundle, journal, subject, name):
    """By that of their file, or by their own where files are called alike."""
    _, records = read_runs(journal)
    run_id = records[1].run.run_id
    trained = replace(bundle, provenance={"runs": {name.format(run_id): {}}})
    for record in records:
        blocks, *_ = blocks_and_trials([record], trained, tables_of([record], subject))
        assert {block.trained_on for block in blocks} == {record.run.run_id == run_id}


def of_two_categories(n_blocks):
    """Sixteen blocks in which one of two categories was shown, and is ranked first."""
    rng, blocks = np.random.default_rng(0), []
    for i in range(16):
        true, scores = i % 2, rng.normal(size=2).astype(np.float32)
        scores[true] += 3
        order = np.argsort(-scores).astype(np.int32)
        names = tuple(("a", "b")[k] for k in order)
        ranking = Ranking("run-1", i, 3, i, True, names, order, scores[order], None, n_blocks=n_blocks)
        trial = Trial(9.0 * i, 9.0, "stimulus", ("a", "b")[true], None)
        blocks.append(DecodedBlock(trial, ranking, "ab"[true], scores, true, trained_on=False, shown=(ranking,)))
    return blocks


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_trials_averaged_with_those_before_them_or_of_new_categories_are_tested_by_category(n_blocks, new):
    """Two categories are two samples then, however many trials they have: nothing of them is significant."""
    parts = []
    summary = _sum_up("seen", of_two_categories(n_blocks), ("a", "b"), parts, new=new)
    if n_blocks == 1 and not new:
        assert summary["seen_p_value"] < 0.01
        assert "over blocks" in str(parts)
        assert "50.0 % with labels shuffled" in str(parts)
    else:
        assert summary["seen_p_value"] == 0.5
        assert "over categories" in str(parts)
    assert 0 <= summary["seen_low"] <= summary["seen_identification_accuracy"] <= summary["seen_high"] <= 1


@pytest.mark.parametrize(("trained", "over"), [(("b", "c"), "blocks"), (("c", "d"), "categories")])
def test_a_report_knows_from_the_bundle_whether_categories_are_new(bundle, tmp_path, trained, over):
    candidates = tuple(replace(bundle.candidates[0], category_id=name, name=name) for name in "ab")
    known = replace(bundle, candidates=candidates, chances=replace(bundle.chances, trained=trained))
    parts = []
    _ranks(of_two_categories(1), known, None, tmp_path, parts)
    assert f"90 % interval over {over}" in str(parts)
