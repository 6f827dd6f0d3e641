"""NIfTI runs: values against nibabel's, what BIDS puts beside the file, and files that are broken."""

import contextlib
import gzip
import json
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.errors import InputError
from rtgod.events.trials import remarks_on
from rtgod.messages import VOLUME_DTYPES, Block
from rtgod.settings import EventsSettings
from rtgod.sources import open_source
from rtgod.sources.nifti import NiftiRun

AFFINE = np.array([[-3, 0, 0.5, 90], [0, 3, 0, -126], [0, 0.5, 3, -72], [0, 0, 0, 1.0]])
EVENTS = "onset\tduration\ttrial_type\n6\t9\tface\n"


def make_nifti(path, *, dtype="int16", shape=(5, 4, 3, 6), slope=None, tr=2.0, unit="sec", code=1, order="<", seed=0):
    voxels = np.random.default_rng(seed).integers(0, 100, shape)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(voxels.astype(dtype), AFFINE, header)
    image.header.set_xyzt_units("mm", unit)
    if len(shape) > 3:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr, *(1,) * (len(shape) - 4)))
    image.set_sform(AFFINE, code)
    image.set_qform(None, 0)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [*VOLUME_DTYPES, "uint8", "int8", "uint32", "int64"])
def test_volumes_are_the_voxels_of_the_file(tmp_path, ending, order, dtype):
    path = make_nifti(tmp_path / f"run{ending}", dtype=dtype, order=order)
    source = NiftiRun(path)
    expected = np.asanyarray(nib.load(path).dataobj)
    for _ in range(2):  # a source can be read again from its start
        volumes = list(source)
        assert [volume.index for volume in volumes] == list(range(6))
        assert [volume.acquired_s for volume in volumes] == [2.0 * index for index in range(6)]
        for volume in volumes:
            assert volume.data.dtype == np.dtype(dtype if dtype in VOLUME_DTYPES else "float32").newbyteorder("<")
            np.testing.assert_array_equal(volume.data, expected[..., volume.index])
    assert source.run.shape == (5, 4, 3)
    assert source.run.n_volumes == 6
    np.testing.assert_allclose(source.run.affine, AFFINE)


def test_a_scaled_file_gives_what_its_scale_says(tmp_path):
    path = make_nifti(tmp_path / "run.nii.gz", slope=(0.5, -3.0))
    expected = nib.load(path).get_fdata()
    for volume in NiftiRun(path):
        assert volume.data.dtype == np.float32
        np.testing.assert_allclose(volume.data, expected[..., volume.index], rtol=1e-6)


def test_the_gzip_file_is_decompressed_forwards_once(tmp_path, monkeypatch):
    source = NiftiRun(make_nifti(tmp_path / "run.nii.gz"))
    positions = []
    read = gzip.GzipFile.read

    def watched(self, size=-1):
        positions.append(self.tell())
        return read(self, size)

    monkeypatch.setattr(gzip.GzipFile, "read", watched)
    assert len(list(source)) == 6
    assert all(before < after for before, after in pairwise(positions))


def test_a_fifth_dimension_of_one_is_none(tmp_path):
    assert NiftiRun(make_nifti(tmp_path / "run.nii", shape=(5, 4, 3, 6, 1))).run.n_volumes == 6


# ---------------------------------------------------------------- what lies beside the file


@pytest.fixture
def bids(tmp_path):
    """A run in a BIDS data set whose header gives a TR of 2 s."""
    (tmp_path / "dataset_description.json").write_text("{}")
    return make_nifti(tmp_path / "sub-03/ses-a/func/sub-03_ses-a_task-imagery_run-01_bold.nii.gz")


def test_rows_of_its_events_may_be_one_block(bids):
    rows = "onset\tduration\ttrial_type\n0\t1\tface\n1.1\t1\tface\n4\t1\tface\n"
    bids.with_name("sub-03_ses-a_task-imagery_run-01_events.tsv").write_text(rows)
    assert [block.duration_s for block in open_source(bids).run.blocks] == [1, 1, 1]
    merging = EventsSettings(merge_gap_s=0.5)
    assert [block.duration_s for block in open_source(bids, reading=merging).run.blocks] == [2.1, 1]


def test_names_come_from_bids(bids):
    run = open_source(bids).run
    assert (run.run_id, run.subject, run.blocks) == ("sub-03_ses-a_task-imagery_run-01", "03", ())
    run = open_source(bids, run_id="r1", subject="x").run
    assert (run.run_id, run.subject) == ("r1", "x")


def test_replay_says_where_the_name_of_the_file_calls_the_subject_otherwise(bids):
    def said(subject):
        result = CliRunner().invoke(make_app(), ["replay", str(bids), "--dry-run", "--subject", subject])
        assert result.exit_code == 0
        return " ".join(result.output.split())

    assert "its name calls the subject 03, and --subject says 01: taken for one person, called 01" in said("01")
    assert "taken for one person" not in said("sub-3")


def test_other_names_are_kept_and_the_subject_is_unknown(tmp_path):
    run = NiftiRun(make_nifti(tmp_path / "Localizer.NII.gz")).run
    assert (run.run_id, run.subject) == ("Localizer", "unknown")


def test_a_name_that_is_no_utf_8_is_written_out(tmp_path):
    """It goes onto the wire, into the journal and into tables."""
    path = tmp_path / "sub-01_task-\udcff_bold.nii.gz"
    try:
        make_nifti(path)
    except OSError:
        pytest.skip("this file system takes no such name")
    source = NiftiRun(path)
    assert source.run.run_id == "sub-01_task-\\udcff"
    assert source.acquisition()
    assert NiftiRun(path, run_id="a\udcffb").run.run_id == "a\\udcffb"


def test_the_nearest_and_most_specific_sidecar_wins(bids):
    root = bids.parents[3]
    sidecars = [
        root / "task-imagery_bold.json",
        root / "sub-03" / "sub-03_bold.json",
        bids.parent / "sub-03_task-imagery_bold.json",
        bids.parent / "sub-03_ses-a_task-imagery_run-01_bold.json",
    ]
    (bids.parent / "sub-03_task-perception_bold.json").write_text('{"RepetitionTime": 9}')  # another task's
    (bids.parent / "xtask-imagery_bold.json").write_text('{"RepetitionTime": 9}')
    (root.parent / "bold.json").write_text('{"RepetitionTime": 9}')  # outside of the data set
    assert NiftiRun(bids, tr_s=5.0).run.tr_s == 2.0
    for n, sidecar in enumerate(sidecars):
        sidecar.write_text(json.dumps({"RepetitionTime": 3 + n / 10}))
        assert NiftiRun(bids).run.tr_s == 3 + n / 10
    sidecars[-1].write_text("{}")  # says nothing, so the next one does
    assert NiftiRun(bids).run.tr_s == 3.2


def test_the_coil_is_the_sidecar_s(bids):
    assert NiftiRun(bids).run.coil == ""
    (bids.parent / "sub-03_bold.json").write_text('{"ReceiveCoilName": "Head_32"}')
    assert NiftiRun(bids).run.coil == "Head_32"


def test_events_beside_the_file_become_blocks_unless_others_are_given(bids, tmp_path):
    (bids.parent / "sub-03_ses-a_task-imagery_run-02_events.tsv").write_text("not this run's")
    (bids.parent / "sub-03_ses-a_task-imagery_run-01_events.tsv").write_text(EVENTS)
    face = NiftiRun(bids).run.blocks[0].label
    assert face
    assert NiftiRun(bids).run.blocks == (Block(6.0, 9.0, face),)
    other = tmp_path / "other.tsv"
    other.write_text(EVENTS.replace("6\t9", "10\t3"))
    assert NiftiRun(bids, events=other).run.blocks == (Block(10.0, 3.0, face),)


def test_trials_beyond_the_run_are_counted_and_a_run_without_others_is_refused(bids):
    table = bids.with_name("sub-03_ses-a_task-imagery_run-01_events.tsv")
    table.write_text(EVENTS + "15\t9\tface\n30\t9\tface\n")  # of a run of 12 s
    source = NiftiRun(bids)
    assert (len(source.read.trials), source.read.n_beyond) == (3, 2)
    assert remarks_on([source.read]) == [
        f"trials that begin after the end of their run: 2 of 3 in {table.name}, the last at 30 s; left out",
        "1 trial cut at the end of their run",
    ]
    assert remarks_on([source.read], beyond=False) == ["1 trial cut at the end of their run"]
    table.write_text(EVENTS + "1\t2\tface\n11\t9\tface\n")
    assert NiftiRun(bids).read.n_cut == 2
    assert remarks_on([NiftiRun(bids).read]) == [
        f"1 pair of trials at the same time, in part or in whole: face at 6 s and face at 11 s in {table.name}; kept",
        "2 trials cut at the end of their run",
    ]
    table.write_text("onset\tduration\ttrial_type\n0\t2000\tface\n4\t2000\tface\n")
    with pytest.raises(InputError, match="the longest lasts 2000 s; are the durations in milliseconds"):
        NiftiRun(bids)
    table.write_text(EVENTS.replace("6\t9", "6000\t9000"))
    with pytest.raises(InputError, match=r"run-01_events.tsv: run .*: its only trial begins after its 12 s, at 6000"):
        NiftiRun(bids)


@pytest.mark.parametrize("content", ["{", "[]", '{"RepetitionTime": "3"}', '{"RepetitionTime": 2000}', "\xff"])
def test_a_sidecar_that_cannot_be_used_is_named(bids, content):
    sidecar = bids.parent / "sub-03_bold.json"
    sidecar.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"sub-03_bold\.json"):
        NiftiRun(bids)


@pytest.mark.parametrize(("tr", "unit", "tr_s"), [(1.97, "sec", 1.97), (1970, "msec", 1.97), (1.97e6, "usec", 1.97)])
def test_the_header_gives_the_tr_in_any_unit_of_time(tmp_path, tr, unit, tr_s):
    assert NiftiRun(make_nifti(tmp_path / "run.nii", tr=tr, unit=unit), tr_s=5.0).run.tr_s == tr_s


@pytest.mark.parametrize(("tr", "unit"), [(2.0, "unknown"), (0.0, "sec")])
def test_a_header_without_a_tr_needs_one_from_outside(tmp_path, tr, unit):
    path = make_nifti(tmp_path / "run.nii", tr=tr, unit=unit)
    assert NiftiRun(path, tr_s=5.0).run.tr_s == 5.0
    with pytest.raises(InputError, match="--tr"):
        NiftiRun(path)
    with pytest.raises(InputError, match="--tr"):
        NiftiRun(path, tr_s=-1.0)


# ---------------------------------------------------------------- what the files say of the repetition time


def with_sidecar(path, tr):
    path.with_name(path.name.replace(".nii", ".json")).write_text(json.dumps({"RepetitionTime": tr}))
    return path


@pytest.mark.parametrize(
    ("tr", "unit", "says"),
    [
        (2.0, "msec", r"run.nii, pixdim\[4\]: 0.002 is not a repetition time in seconds \(0.05 to 60\); its unit says "
                      "msec, was 2 s meant\\? Give --tr or correct the header"),
        (2000.0, "sec", r"pixdim\[4\]: 2000.0 is not .*; was 2 s meant\? If so, give --tr or correct it"),
        (2000.0, "usec", r"0.002 is not a repetition time .* was 2 s meant\?"),
        (0.04, "sec", r"0.04 is not a repetition time in seconds \(0.05 to 60\); give --tr"),  # nobody means 40 s
    ],
)  # fmt: skip
def test_a_repetition_time_that_cannot_be_is_a_question(tmp_path, tr, unit, says):
    path = make_nifti(tmp_path / "run.nii", tr=tr, unit=unit)
    with pytest.raises(InputError, match=says):
        open_source(path)
    source = open_source(path, tr_s=2.5)
    assert source.run.tr_s == 2.5
    assert source.notes
    assert "so it does not count" in source.notes[0]
    # A sidecar is believed, as ever, and the impossible header is told.
    source = open_source(with_sidecar(path, 2.0))
    assert source.run.tr_s == 2.0
    assert "so it does not count" in source.notes[0]


def test_volumes_at_uneven_times_are_refused(tmp_path):
    path = make_nifti(tmp_path / "run.nii")
    path.with_name("run.json").write_text(json.dumps({"VolumeTiming": [0, 2, 5], "RepetitionTime": 2.0}))
    with pytest.raises(InputError, match=r"run.json: VolumeTiming: volumes that do not follow each other at one"):
        open_source(path)


@pytest.mark.parametrize("value", [None, 0.002, 2000, True, "2.0", [2], -2, 0, float("nan"), float("inf"), 1e300])
def test_a_sidecar_says_a_number_of_seconds_or_is_refused(tmp_path, value):
    path = with_sidecar(make_nifti(tmp_path / "run.nii"), value)
    with pytest.raises(InputError, match=r"run.json, RepetitionTime: .* is not a repetition time in seconds"):
        open_source(path)


@pytest.mark.parametrize("tr", [0.002, 2000.0, float("nan")])
def test_the_command_line_says_a_number_of_seconds_or_is_refused(tmp_path, tr):
    with pytest.raises(InputError, match=r"--tr: .* is not a repetition time in seconds"):
        open_source(make_nifti(tmp_path / "run.nii"), tr_s=tr)


def test_a_sidecar_that_contradicts_the_header_is_refused_with_both_numbers_and_files(tmp_path):
    path = with_sidecar(make_nifti(tmp_path / "run.nii", tr=2.0), 3.0)
    says = (
        r"run.nii: its repetition time is 3 s in .*run.json, RepetitionTime, and 2 s in .*run.nii, pixdim\[4\]; correct"
    )
    with pytest.raises(InputError, match=says):
        open_source(path)
    # Who knows says which of the two it is.
    for right in (2.0, 3.0):
        source = open_source(path, tr_s=right)
        assert source.run.tr_s == right
        assert len(source.notes) == 1
    with pytest.raises(InputError, match=r"--tr 2.5 s contradicts"):
        open_source(path, tr_s=2.5)


@pytest.mark.parametrize(("sidecar", "n_notes"), [(2.0, 0), (2.0000001, 0), (2.01, 1), (1.99, 1)])
def test_a_small_difference_is_told_and_the_sidecar_counts(tmp_path, sidecar, n_notes):
    source = open_source(with_sidecar(make_nifti(tmp_path / "run.nii", tr=2.0), sidecar))
    assert source.run.tr_s == sidecar
    assert len(source.notes) == n_notes
    for note in source.notes:
        assert "run.json" in note
        assert "run.nii, pixdim[4] says 2 s" in note


def test_a_header_without_a_unit_contradicts_nobody(tmp_path):
    source = open_source(with_sidecar(make_nifti(tmp_path / "run.nii", tr=1.0, unit="unknown"), 3.0))
    assert (source.run.tr_s, source.notes) == (3.0, ())


def test_a_repetition_time_on_the_command_line_must_not_contradict_the_file(tmp_path):
    path = make_nifti(tmp_path / "run.nii", tr=2.0)
    with pytest.raises(InputError, match=r"--tr 3 s contradicts the 2 s of .*run.nii, pixdim\[4\]; leave --tr out"):
        open_source(path, tr_s=3.0)
    source = open_source(path, tr_s=2.01)
    assert source.run.tr_s == 2.0
    assert "--tr says 2.01 s" in source.notes[0]


# ---------------------------------------------------------------- files that cannot be used


def test_files_of_another_shape_or_without_orientation_are_refused(tmp_path):
    for keywords, says in [
        ({"shape": (5, 4, 3)}, "not \\(x, y, z, volumes\\)"),
        ({"shape": (5, 4, 3, 2, 2)}, "not \\(x, y, z, volumes\\)"),
        ({"code": 0}, "sform_code and qform_code are both 0"),
        ({"dtype": "complex64"}, "complex"),
    ]:
        with pytest.raises(InputError, match=says):
            NiftiRun(make_nifti(tmp_path / "run.nii", **keywords))


def test_an_affine_that_flattens_the_volume_is_refused(tmp_path):
    path = make_nifti(tmp_path / "run.nii")
    raw = bytearray(path.read_bytes())
    raw[280:328] = bytes(48)  # srow_x, srow_y and srow_z
    path.write_bytes(raw)
    with pytest.raises(InputError, match="affine"):
        NiftiRun(path)


def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path):
    path = make_nifti(tmp_path / "run.nii")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="too short"):
        NiftiRun(path)


def test_a_truncated_gzip_file_gives_its_good_volumes_and_names_the_bad_one(tmp_path):
    path = make_nifti(tmp_path / "run.nii.gz", shape=(20, 20, 20, 6))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])
    volumes = iter(NiftiRun(path))
    good = []
    with pytest.raises(InputError, match=r"run\.nii\.gz: volume [34] cannot be read"):
        good.extend(volume.index for volume in volumes)
    path.write_bytes(raw[:100])
    with pytest.raises(InputError):
        NiftiRun(path)


def test_damage_that_still_decompresses_is_found_by_the_checksum(tmp_path):
    path = make_nifti(tmp_path / "run.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # in the trailer's CRC
    path.write_bytes(raw)
    with pytest.raises(InputError, match="checksum"):
        list(NiftiRun(path))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "content", [b"", b"not an image", bytes(1000), gzip.compress(b"neither", mtime=0), gzip.compress(b"", mtime=0)]
)
def test_files_that_are_no_nifti_are_refused(tmp_path, ending, content):
    path = tmp_path / f"run{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.nii"):
        NiftiRun(path)


@given(at=st.integers(0, 351), value=st.integers(0, 255))
@example(at=327, value=127)  # a signalling NaN in the affine
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_no_damaged_header_raises_anything_but_an_input_error(tmp_path, at, value):
    path = tmp_path / "run.nii"
    if not path.exists():
        make_nifti(path)
        make_nifti(tmp_path / "good.nii")
    raw = bytearray((tmp_path / "good.nii").read_bytes())
    raw[at] = value
    path.write_bytes(raw)
    with contextlib.suppress(InputError):
        for volume in NiftiRun(path):
            assert volume.data.ndim == 3


def test_only_a_nifti_file_or_a_folder_is_a_source(tmp_path):
    (tmp_path / "run.txt").write_text("")
    for name in ("run.txt", "absent.nii"):
        with pytest.raises(InputError, match=r"4-D NIfTI file .* or a folder"):
            open_source(tmp_path / name)
    with pytest.raises(InputError, match="series"):
        open_source(make_nifti(tmp_path / "run.nii"), series=3)


# ---------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("name", "run_id", "tr_s", "n_volumes", "n_blocks", "dtype"),
    [
        ("haxby2001/sub001/BOLD/task001_run001/bold_25mm.nii.gz", "bold_25mm", 2.5, 121, 8, "int16"),
        ("siemens-cmrr-mosaic/8_cmrr_Int.nii", "8_cmrr_Int", 3.2, 6, 0, "uint16"),
        (
            "philips-enhanced/1903_WIP_SOURCE_-_3DpCASL_enh.nii.gz",
            "1903_WIP_SOURCE_-_3DpCASL_enh",
            51.0,
            6,
            0,
            "float32",
        ),
    ],
)
def test_real_files(shared_data, name, run_id, tr_s, n_volumes, n_blocks, dtype):
    source = open_source(shared_data / name)
    run = source.run
    assert (run.run_id, run.tr_s, run.n_volumes, len(run.blocks)) == (run_id, tr_s, n_volumes, n_blocks)
    expected = nib.load(shared_data / name)
    np.testing.assert_allclose(run.affine, expected.affine)
    for volume in source:
        assert volume.data.dtype == dtype
        np.testing.assert_allclose(volume.data, np.asanyarray(expected.dataobj[..., volume.index]), rtol=1e-6)


def test_the_real_localizer_is_found_with_its_events(shared_data):
    source = open_source(shared_data / "studyforrest-localizer" / "sub-02_task-oneback_run-1_bold.nii.gz")
    run = source.run
    assert (run.run_id, run.subject, run.tr_s) == ("sub-02_task-oneback_run-1", "02", 2.0)
    assert (run.shape, run.n_volumes, len(run.blocks)) == ((80, 80, 35), 156, 12)  # of 16 pictures each
    assert next(iter(source)).data.dtype == np.int16
