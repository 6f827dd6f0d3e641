"""Real exports of every kind, checked: what dcm2niix says of each, at the scanner's pace and as a copy, and no name."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime

import dcm2niix
import nibabel as nib
import numpy as np
import pydicom
import pytest

from rtgod.inspection.page import page_of
from rtgod.inspection.wording import rows_of
from tests.archives import unpacked
from tests.rtgod.inspection.exports import checked, first, known
from tests.rtgod.inspection.test_page import in_terminal

#: Series with a file a volume or a slice, and how many volumes each has.
SERIES = {
    "siemens-run/dicom": 155,
    "siemens-mosaic": 10,
    "siemens-cmrr-mosaic/dicom": 6,
    "siemens-xa30/dicom": 20,
    "ge-epirt/dicom": 3,
    "ge-hb3/dicom": 3,
}
#: Elements whose values are looked for in what is said: any that name a person, a study, a place or a date.
PRIVATE = (
    "PatientName", "PatientID", "PatientBirthDate", "StudyDescription", "SeriesDescription", "ProtocolName",
    "StationName", "InstitutionName", "InstitutionAddress", "DeviceSerialNumber", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "AcquisitionDate", "StudyDate", "AcquisitionTime", "StudyTime",
    "ReferringPhysicianName", "FrameOfReferenceUID", "RequestedProcedureDescription", "PerformedProcedureStepID",
)  # fmt: skip
#: Leeway of times that dcm2niix rounds, seconds.
ROUNDED_S = 0.003


def reference_of(folder, out):
    """What dcm2niix says of a series: JSON, shape and voxel size."""
    out.mkdir()
    subprocess.run([dcm2niix.bin, "-f", "run", "-o", out, folder], check=True, stdout=subprocess.DEVNULL)
    image = nib.load(out / "run.nii")
    return json.loads((out / "run.json").read_text()), image.shape, image.header.get_zooms()[:3]


def dicoms_in(folder):
    return [path for path in sorted(folder.iterdir()) if path.read_bytes()[128:132] == b"DICM"]


def both_of(report):
    return page_of(report) + in_terminal(report, 100) + in_terminal(report, 1000)


def assert_tells_nothing(both, paths):
    header = pydicom.dcmread(paths[0], stop_before_pixels=True)
    for keyword in PRIVATE:
        value = str(header.get(keyword) or "").strip()
        if len(value) > 3:
            assert value not in both, keyword
    for path in paths:
        assert path.name not in both
    assert str(paths[0].parent) not in both


@pytest.mark.parametrize("name", SERIES)
def test_a_real_series_is_described_as_dcm2niix_describes_it(name, shared_data, tmp_path):
    folder = shared_data / name
    said, shape, zooms = reference_of(folder, tmp_path / "reference")
    report = checked(folder, n_volumes=None)
    assert first(report) == []
    (run,) = report.runs
    facts = run.facts
    assert (facts.vendor, facts.model) == (said["Manufacturer"], said["ManufacturersModelName"])
    assert facts.field_t == said["MagneticFieldStrength"]
    assert facts.sequence == said["SequenceName"]
    assert bool(facts.software) == ("SoftwareVersions" in said)
    assert facts.software in said.get("SoftwareVersions", "")
    assert run.run.tr_s == pytest.approx(said["RepetitionTime"])
    assert run.echoes_ms == pytest.approx((1000 * said["EchoTime"],))
    assert run.run.shape == shape[:3]
    assert (run.n_sent, run.volumes.n_whole, run.volumes.missing) == (SERIES[name], SERIES[name], ())
    assert dict(rows_of(run))["voxel size"] == " × ".join(f"{round(float(mm), 3):g}" for mm in zooms) + " mm"
    assert (run.timing.n_bands, run.n_bands) == (said.get("MultibandAccelerationFactor", 1),) * 2
    np.testing.assert_allclose(run.timing.times_s, said["SliceTiming"], atol=ROUNDED_S)
    if "ReceiveCoilActiveElements" in said:
        assert facts.elements == said["ReceiveCoilActiveElements"]
    if said["Manufacturer"] == "GE":
        assert (facts.coil, facts.table_mm) == (said["CoilString"], said["TablePosition"][2])
    else:
        assert -1500 < facts.table_mm < -1000  # dcm2niix gives it from where the scan was planned
    assert_tells_nothing(both_of(report), dicoms_in(folder))


@pytest.mark.parametrize("name", [name for name in SERIES if not name.startswith("ge")])
def test_a_real_series_at_the_scanners_pace_has_no_complaint(name, shared_data, tmp_path):
    """Each file as late as 0.3 s after the end of its volume, to 0.5 s: that, and nothing else, is said."""
    delays_s = {}
    for path in dicoms_in(shared_data / name):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        both = header.get("AcquisitionDateTime") or header.AcquisitionDate + header.AcquisitionTime
        tr_s = float(header.get("RepetitionTime") or 1000) / 1000
        began = datetime.strptime(both, "%Y%m%d%H%M%S.%f").timestamp()  # the scanner says no zone
        delay_s = 0.3 + 0.2 * (int(header.InstanceNumber) * 7 % 10) / 10
        delays_s[int(header.InstanceNumber)] = delay_s
        copy = tmp_path / path.name
        shutil.copyfile(path, copy)
        os.utime(copy, (began + tr_s + delay_s,) * 2)
    report = checked(tmp_path, n_volumes=SERIES[name])
    assert first(report) == []
    assert report.verdict() == "Fit for live use"
    assert not any("copy and delays" in text for text in known(report))
    found = dict(report.runs[0].volumes.delays_s)
    assert len(found) == SERIES[name]
    order = {number: place for place, number in enumerate(sorted(delays_s))}
    assert [found[place] for place in sorted(found)] == pytest.approx([delays_s[number] for number in order], abs=0.03)
    assert_tells_nothing(both_of(report), dicoms_in(tmp_path))


def test_the_planted_names_of_a_real_series_are_nowhere(shared_data):
    both = both_of(checked(shared_data / "siemens-mosaic"))
    for planted in ("Leak", "LEAK", "Must", "MUST", "19010203", "1901", "Doctor"):
        assert planted not in both


def test_real_philips_files_with_all_volumes_in_one_are_no_live_export(shared_data, tmp_path):
    for path in (shared_data / "philips-enhanced").glob("*.dcm.gz"):
        (tmp_path / f"{path.name[:4]}.dcm").write_bytes(gzip.decompress(path.read_bytes()))
    report = checked(tmp_path, n_volumes=None)
    (run,) = report.runs
    assert (run.facts.vendor, run.facts.model, run.run.tr_s) == ("Philips", "Ingenia Elition X", 4.25)
    assert (run.run.shape, run.n_sent, run.echoes_ms) == ((96, 96, 40), 6, (9.0,))
    assert any("its 6 volumes come in 1 file" in text for text in first(report))
    fates = {series.number: series.fate for series in report.series}
    assert fates[2001] == "left out: no echo-planar images"
    assert_tells_nothing(both_of(report), dicoms_in(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_thousands_of_real_files_are_checked_in_little_memory(shared_data, tmp_path):
    """A whole Philips run; its clock goes back after volume 140, which is told, and costs no volume."""
    unpacked(shared_data / "studyforrest-localizer" / "dicoms.tar.xz", tmp_path / "dicoms")
    page = tmp_path / "page.html"
    code = (
        "import re, sys; from rtgod.commands.main import _run; code = _run(sys.argv[1:]); "
        "print('peak', int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024, code)"
    )
    arguments = ["watch", "--check", tmp_path / "dicoms", "--html", page]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=240, check=True
    )
    peak_mb, exit_code = map(int, re.search(r"peak (\d+) (\d+)", done.stdout).groups())
    assert peak_mb < 300
    assert exit_code == 0  # the clock is to be known, and nothing to be settled
    said = page.read_text()
    for text in ("Philips Achieva dStream, 3 T", "<dd>2 s</dd>", "80 × 80 × 35", "3 × 3 × 3.3 mm", "FEEPI"):
        assert text in said
    assert "156 (156 planned)" in said
    assert "the scanner&#x27;s clock has jumped" in said
    assert "lost" not in said
    assert_tells_nothing(said + done.stdout.replace(str(page), ""), dicoms_in(tmp_path / "dicoms")[:50])
