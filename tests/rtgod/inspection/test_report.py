"""What the check of a finished export says: nothing of a clean one, and each fault of a faulty one by its name."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import RLELossless

from rtgod.errors import InputError
from rtgod.events.table import events_table, label_of
from rtgod.inspection.comparison import compared
from rtgod.inspection.report import with_fits
from rtgod.inspection.wording import delays_in_words, rows_of
from rtgod.messages import Block
from rtgod.settings import EventsSettings
from rtgod.sources.dicom import file as dicom_file
from rtgod.sources.echoes import Combine
from tests import small
from tests.rtgod.inspection.exports import (
    DELAY_S,
    N_VOLUMES,
    arrive,
    arrived_s,
    checked,
    enhanced_files,
    first,
    interoperability,
    known,
    mosaic,
    mosaics,
    slices,
)
from tests.rtgod.sources.dicom.dicoms import MM_X, MM_Y, MM_Z, N_X, N_Y, N_Z, TR_S, enhanced, save

FORMATS = [mosaics, slices, enhanced_files, interoperability]


@pytest.mark.parametrize("make", FORMATS)
def test_a_clean_export_has_no_complaint(make, tmp_path):
    """The null of every test below."""
    report = checked(make(tmp_path))
    assert report.findings == ()
    assert report.is_fit
    assert report.verdict() == "Fit for live use"
    (run,) = report.runs
    found = run.n_sent, run.volumes.n_whole, run.volumes.missing, run.volumes.n_doubled
    assert found == (N_VOLUMES, N_VOLUMES, (), 0)
    assert run.run.shape == (N_X, N_Y, N_Z)
    last_s = DELAY_S + ((N_Z - 1) / 100 if make is slices else 0)
    assert dict(run.volumes.delays_s) == pytest.approx(dict.fromkeys(range(N_VOLUMES), last_s), abs=0.021)
    rows = dict(rows_of(run))
    assert rows["voxel size"] == f"{MM_X:g} × {MM_Y:g} × {MM_Z:g} mm"
    assert rows["TR"] == "2 s"
    assert rows["volumes"] == f"{N_VOLUMES} ({N_VOLUMES} planned)"


@pytest.mark.parametrize("make", FORMATS)
def test_a_copy_is_played_in_the_order_of_its_acquisition(make, tmp_path):
    """Whatever the order in which it was copied; nothing is lost, and delays are not made up."""
    (tmp_path / "export").mkdir()
    paths = sorted(make(tmp_path / "export").iterdir())
    (tmp_path / "copy").mkdir()
    for place in np.random.default_rng(0).permutation(len(paths)):
        shutil.copyfile(paths[place], tmp_path / "copy" / paths[place].name)
    report = checked(tmp_path / "copy")
    assert first(report) == []
    (remark,) = known(report)
    assert "this is a copy and delays are unknown" in remark
    assert report.verdict() == "Fit for live use, as far as a copy can tell"
    assert report.runs[0].n_sent == N_VOLUMES
    assert report.runs[0].volumes.delays_s == ()
    assert delays_in_words(report.runs[0], report) == "unknown"


def test_volumes_that_are_missing_are_lost(tmp_path):
    report = checked(mosaics(tmp_path, [number for number in range(1, N_VOLUMES + 1) if number not in (5, 6)]))
    assert "series 7: volumes 5 to 6 did not come in time: lost" in first(report)
    assert report.runs[0].volumes.missing == (4, 5)
    assert dict(rows_of(report.runs[0]))["missing"] == "volumes 5, 6"
    assert not report.is_fit


def test_a_slice_that_is_missing_costs_its_volume(tmp_path):
    (slices(tmp_path) / f"{4 * N_Z + 2}.dcm").unlink()
    report = checked(tmp_path)
    assert "series 7: volume 4 did not come in time: lost; slices are missing" in first(report)
    assert report.runs[0].volumes.missing == (3,)


def test_late_volumes_are_counted_and_the_worst_is_named(tmp_path):
    late_s = {4: 3.5, 9: 2.5}
    report = checked(mosaics(tmp_path, delay_s=lambda number: late_s.get(number, DELAY_S)))
    said = f"2 of {N_VOLUMES} volumes came more than a TR after the end of their acquisition, at worst 3.5 s"
    assert any(said in text for text in first(report))
    assert "at worst 3.5" in delays_in_words(report.runs[0], report)
    assert "(volume 4)" in delays_in_words(report.runs[0], report)


def test_a_volume_that_comes_after_it_was_given_up_is_named(tmp_path):
    report = checked(mosaics(tmp_path, delay_s=lambda number: 12.0 if number == 4 else DELAY_S))
    assert "series 7: volume 4 did not come in time: lost" in first(report)
    assert "series 7: volume 4 came after later ones were given: not sent" in first(report)
    patient = checked(tmp_path, patience_tr=20.0)
    assert not any("lost" in text for text in first(patient))


def test_a_pause_is_told_and_silence_after_the_last_volume_is_not(tmp_path):
    (tmp_path / "paused").mkdir()
    report = checked(mosaics(tmp_path / "paused", delay_s=lambda number: DELAY_S if number < 6 else DELAY_S + 15.0))
    assert any(text.startswith("series 7: no volume came for 17.0 s after volume 5") for text in first(report))
    (tmp_path / "two").mkdir()
    mosaics(tmp_path / "two")
    mosaics(tmp_path / "two", SeriesNumber=9, SeriesInstanceUID="1.2.9", delay_s=lambda _: 60.0)
    assert not any("no volume came" in text for text in first(checked(tmp_path / "two", n_volumes=None)))


def test_copies_are_taken_once_and_those_with_other_voxels_are_named(tmp_path):
    mosaics(tmp_path)
    arrive(save(mosaic(3), tmp_path / "copy.dcm"), 5)
    report = checked(tmp_path)
    assert first(report) == []
    assert known(report) == ["series 7: 1 file came twice: taken once"]
    other = mosaic(6)
    other.PixelData = bytes(len(other.PixelData) - 2) + b"\1\0"
    arrive(save(other, tmp_path / "other.dcm"), 8)
    assert "series 7: an image came twice, with different voxels: the first is kept" in first(checked(tmp_path))


def test_a_file_that_is_cut_is_named(tmp_path):
    mosaics(tmp_path)
    path = next(path for path in tmp_path.iterdir() if abs(path.stat().st_mtime - arrived_s(7)) < 0.01)
    path.write_bytes(path.read_bytes()[:-100])
    arrive(path, 7)
    report = checked(tmp_path)
    assert "a file of series 7 lacks 100 bytes of its voxels; it is waited for" in first(report)
    assert "series 7: volume 7 did not come in time: lost" in first(report)


def test_what_is_left_out_is_counted_by_rule_and_no_complaint(tmp_path):
    mosaics(tmp_path)
    for number, kinds in enumerate(
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED", "PRIMARY", "MOSAIC"], ["ORIGINAL", "PRIMARY", "M", "MOCO"])
    ):
        mosaics(tmp_path, range(1, 4), SeriesNumber=20 + number, SeriesInstanceUID=f"1.9.{number}", ImageType=kinds)
    mosaics(tmp_path, [1], SeriesNumber=30, SeriesInstanceUID="1.9.9", SeriesDescription="bold_SBRef")
    (tmp_path / "physio.log").write_text(100 * "0 1 2\n")
    arrive(tmp_path / "physio.log", 2)
    report = checked(tmp_path)
    assert report.findings == ()
    assert {series.number: (series.n_files, series.fate) for series in report.series} == {
        7: (N_VOLUMES, f"a run, {N_VOLUMES} volumes"),
        20: (3, "left out: a localizer"),
        21: (3, "left out: derived images"),
        22: (3, "left out: images that the scanner corrected for motion (--corrected takes them)"),
        30: (1, "left out: a single-band reference"),
    }


def test_two_subjects_in_one_folder_are_told_apart(tmp_path):
    mosaics(tmp_path)
    other = {"SeriesNumber": 8, "SeriesInstanceUID": "1.2.8", "PatientID": "ANOTHER"}
    mosaics(tmp_path, delay_s=lambda _: 60.0, **other)
    report = checked(tmp_path)
    assert [run.number for run in report.runs] == [7]
    assert any("another patient's" in text for text in first(report))
    both = checked(tmp_path, several_patients=True)
    assert [run.number for run in both.runs] == [7, 8]


def test_a_run_that_is_started_again_is_known_for_one(tmp_path):
    mosaics(tmp_path, range(1, 5))
    mosaics(tmp_path, SeriesNumber=8, SeriesInstanceUID="1.2.8", delay_s=lambda _: 60.0)
    report = checked(tmp_path, n_volumes=None)
    assert [(run.number, run.n_sent) for run in report.runs] == [(7, 4), (8, N_VOLUMES)]
    assert any(text.startswith("series 8 has the protocol of series 7") for text in known(report))


def test_no_repetition_time_is_no_run(tmp_path):
    report = checked(mosaics(tmp_path, RepetitionTime=None))
    assert "series 7: an image is left out: no repetition time in its images; give it with --tr" in first(report)
    assert any("no functional run in it" in text for text in first(report))
    assert checked(tmp_path, tr_s=TR_S).is_fit


def test_a_repetition_time_that_the_clock_contradicts_is_told(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    report = checked(mosaics(tmp_path / "a", RepetitionTime=1600))
    assert any("acquired every 2 s, and TR is 1.6 s: which is true?" in text for text in first(report))
    told = checked(mosaics(tmp_path / "b"), tr_s=1.6)
    assert any("its images say TR 2 s, which counts, not --tr" in text for text in first(told))


def test_several_echoes_without_a_choice_are_refused(tmp_path):
    for number in range(1, N_VOLUMES + 1):
        arrive(save(enhanced([number], echoes_ms=(12.0, 30.0)), tmp_path / f"{number}.dcm"), number)
    refused = "series 7: an image is left out: it has 2 echoes; choose one with --echo N"
    assert any(text.startswith(refused) for text in first(checked(tmp_path)))
    report = checked(tmp_path, echo=2)
    assert first(report) == []
    assert dict(rows_of(report.runs[0]))["TE"] == "30 ms"


def test_compression_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for number in range(1, N_VOLUMES + 1):
        dataset = mosaic(number)
        dataset.compress(RLELossless, generate_instance_uid=False)
        arrive(save(dataset, tmp_path / f"{number}.dcm"), number)
    assert first(checked(tmp_path)) == []
    monkeypatch.setattr(dicom_file, "_has_decoder", lambda _: False)
    assert any("pip install 'rtgod[compressed]'" in text for text in first(checked(tmp_path)))


def test_volumes_of_one_file_are_no_live_export(tmp_path):
    arrive(save(enhanced(range(1, N_VOLUMES + 1)), tmp_path / "all.dcm"), N_VOLUMES)
    said = f"its {N_VOLUMES} volumes come in 1 file, and none before its file is whole"
    assert any(said in text for text in first(checked(tmp_path)))


def test_an_unknown_length_is_advice_and_a_number_is_proposed(tmp_path):
    report = checked(mosaics(tmp_path), n_volumes=None)
    assert report.is_fit
    assert any(f"--volumes {N_VOLUMES}" in text for text in known(report))


def test_an_empty_folder_and_one_without_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="no files in it"):
        checked(tmp_path)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / ".hidden").write_text("none")
    with pytest.raises(InputError, match="no DICOM files in it"):
        checked(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        checked(tmp_path / "none")


def test_runs_are_compared_with_a_bundle_by_the_servers_rules(tmp_path):
    report = checked(mosaics(tmp_path))
    (fit,) = [compared(run, small.bundle()) for run in report.runs]
    rows = {what: (here, there) for what, here, there in fit.rows}
    assert rows["matrix"] == ("6 × 4 × 5", "18 × 20 × 16")
    assert rows["voxel size"] == ("2.5 × 3 × 4 mm", "4 × 4 × 4 mm")
    assert any("the bundle cannot decode it: its voxels of" in finding.text for finding in fit.findings)
    assert not with_fits(report, [fit]).is_fit


@pytest.mark.parametrize(
    ("names", "is_fit", "said"),
    [
        (("n00000000", "n00000001"), True, ""),
        (("n00000000", "tone"), True, "1 of its 2 trials are of categories that the decoder was not trained on"),
        (("odd", "tone"), False, "2 of its 2 trials are of categories that the decoder was not trained on"),
    ],
    ids=["the bundle's", "one other", "another run's table"],
)
def test_a_table_of_another_run_is_not_fit_for_a_bundle_of_plain_categories(tmp_path, names, is_fit, said):
    report = checked(mosaics(tmp_path))
    blocks = tuple(Block(6.0 * k, 4.0, label_of(name)) for k, name in enumerate(names, 1))
    (run,) = [replace(run, run=small.run(blocks=blocks)) for run in report.runs]
    fit = compared(run, replace(small.bundle(), plain_categories=True))
    told = [finding for finding in fit.findings if "trials" in finding.text]
    assert [(said in finding.text, finding.is_first) for finding in told] == ([(True, not is_fit)] if said else [])
    assert not any("trials" in finding.text for finding in compared(run, small.bundle()).findings)  # any can be decoded


def of_two_echoes(folder, **numbered):
    for number in range(1, N_VOLUMES + 1):
        for echo, echo_ms in enumerate((12.0, 30.0), 1):
            counted = {"InstanceNumber": 2 * (number - 1) + echo, "AcquisitionNumber": number, "EchoTime": echo_ms}
            dataset = mosaic(number, SOPInstanceUID=f"1.{number}.{echo}", **counted)
            if numbered:
                dataset.EchoNumbers = echo
            arrive(save(dataset, folder / f"{number}-{echo}.dcm"), number)
    return folder


@pytest.mark.parametrize("numbered", [{}, {"by": "EchoNumbers"}], ids=["unnumbered", "numbered"])
@pytest.mark.parametrize("echo", [1, 2, Combine()], ids=["first", "second", "combined"])
def test_several_echoes_that_were_chosen_are_no_complaint(tmp_path, numbered, echo):
    report = checked(of_two_echoes(tmp_path, **numbered), echo=echo)
    assert first(report) == []
    assert report.runs[0].n_sent == report.runs[0].volumes.n_whole == N_VOLUMES
    said = "2 echoes (1: 12 ms, 2: 30 ms) are combined" if isinstance(echo, Combine) else f"echo {echo} is taken of"
    if isinstance(echo, Combine) or not numbered:
        assert [said in text for text in known(report)] == [True]


def test_an_echo_that_is_lost_or_comes_too_late_to_be_chosen_is_a_complaint(tmp_path):
    of_two_echoes(tmp_path)
    for name in ("3-2.dcm", "7-1.dcm"):
        (tmp_path / name).unlink()
    report = checked(tmp_path, echo=Combine())
    assert [text for text in first(report) if "volume 3 did not come in time: lost" in text]
    assert report.runs[0].n_sent == N_VOLUMES - 2
    arrive(save(mosaic(12, EchoTime=99, InstanceNumber=99), tmp_path / "other.dcm"), 12)
    assert [text for text in first(checked(tmp_path, echo=Combine())) if "its echo of 99 ms came first after" in text]


def test_a_restarted_series_is_two_runs_each_counted_by_itself(tmp_path):
    for begins, n_volumes in ((0, 5), (50, 8)):
        for number in range(1, n_volumes + 1):
            dataset = mosaic(begins + number, InstanceNumber=number, AcquisitionNumber=number)
            arrive(save(dataset, tmp_path / f"{begins + number}.dcm"), begins + number)
    (tmp_path / "53.dcm").unlink()
    report = checked(tmp_path, n_volumes=None)
    assert [(run.n_sent, run.volumes.n_whole, run.volumes.missing) for run in report.runs] == [(5, 5, ()), (7, 7, (2,))]
    assert [series.fate for series in report.series] == ["a run, 5 volumes, restarted: a run, 7 volumes"]
    told = " ".join(first(report))
    assert "it was restarted" in told
    assert "volume 3 did not come in time: lost" in told
    assert "cannot be counted" not in told


def test_what_becomes_of_trials_and_discarded_volumes_is_to_be_known(tmp_path):
    table = tmp_path / "events.tsv"
    table.write_text("onset\tduration\ttrial_type\n4\t2\ta\n8\t2\tb\n")
    rules = EventsSettings(discard_volumes=2, count_from=3)
    (tmp_path / "export").mkdir()
    report = checked(mosaics(tmp_path / "export"), events=events_table(table), rules=rules)
    assert first(report) == []
    (said,) = known(report)
    assert "2 volumes are discarded; onset 0 is the start of volume 3" in said
    assert "the first trial, at 4 s, begins in volume 5" in said
    rows = dict(rows_of(report.runs[0]))
    assert (rows["trials"], rows["volumes"]) == ("2", "10 (10 planned, 2 before them discarded)")
    table.write_text("onset\tduration\ttrial_type\n4\t2\ta\n800\t2\tb\n")
    late = checked(tmp_path / "export", events=events_table(table), rules=rules)
    assert [text for text in first(late) if "trial" in text]


def test_a_run_of_which_all_is_discarded_is_a_complaint(tmp_path):
    report = checked(mosaics(tmp_path), rules=EventsSettings(discard_volumes=50), n_volumes=None)
    assert first(report) == ["series 7: all of its volumes would be discarded: nothing of it would be sent"]
    assert report.runs[0].n_sent == 0


@pytest.mark.parametrize(
    ("onsets", "said"),
    [
        ((2, 8), ""),
        ((2, 9000), "1 of 2 trials begin after its 24 s: left out"),
        ((9000, 20000), "all 2 trials begin after its 24 s, the first at 9000 s; are these milliseconds"),
    ],
    ids=["within", "partly beyond", "milliseconds"],
)
def test_trials_are_compared_with_the_volumes_that_came(tmp_path, onsets, said):
    """Where the files do not say how many volumes are planned, so that nothing can be said live."""
    (tmp_path / "export").mkdir()
    table = tmp_path / "events.tsv"
    rows = "".join(f"{onset}\t2\t{name}\n" for onset, name in zip(onsets, "ab", strict=True))
    table.write_text(f"onset\tduration\ttrial_type\n{rows}")
    report = checked(mosaics(tmp_path / "export"), events=events_table(table), n_volumes=None)
    assert [said in text for text in first(report)] == ([True] if said else [])
