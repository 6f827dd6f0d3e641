"""NIfTI files that are exported while they are watched: one a volume, or one that grows."""

import gzip
import os
import random
import tracemalloc
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgod.errors import ServerError
from rtgod.messages import RunEnd, Volume
from rtgod.receivers.arrivals import Arrivals
from rtgod.receivers.live_nifti import LiveNifti
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.outbox import Outbox
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.watcher import Watcher
from rtgod.sources import open_source
from rtgod.sources.nifti_series import ORDER
from tests.rtgod.receivers.test_watcher import Server, same_as_replayed
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import save

AFFINE = np.array([[-3, 0, 0.5, 90], [0, 3, 0, -126], [0, 0.5, 3, -72], [0, 0, 0, 1.0]])
SHAPE = (6, 5, 4)
TR_S = 2.0
N_VOLUMES = 6
PLANTED = "Leak-Must-Not_"


class Bridge:
    """A watcher of a folder for DICOM and NIfTI files, whose clock the test moves."""

    def __init__(self, folder, server=None, *, has_identities=False, **options):
        self.server, self.lines, self.now_s = server or Server(), [], 0.0
        self.arrivals = Arrivals(folder, with_events=False, clock=self.clock)
        told = self.lines.append
        rules = RunOptions(**options)
        outbox = Outbox(self.server, told, n_receivers=2)
        runs = LiveRuns(outbox, rules, told, clock=self.clock)
        nifti = LiveNifti(outbox, rules, told, clock=self.clock, has_identities=has_identities)
        self.watcher = Watcher(self.arrivals, runs, told, self.clock, nifti)

    def clock(self):
        return self.now_s

    def step(self, seconds=0.02):
        self.now_s += seconds
        self.watcher.step()

    def stop(self):
        self.watcher.run(lambda: True)

    @property
    def indices(self):
        return [volume.index for volume in self.server.volumes]

    def count(self, words):
        return sum(words in line for line in self.lines)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def image(number, dtype="int16", slope=None, tr=TR_S, unit="sec", affine=AFFINE, shape=SHAPE, n_volumes=None):
    """A volume, or a run of several."""
    numbers = [number] if n_volumes is None else range(number, number + n_volumes)
    volumes = [np.random.default_rng(n).integers(1, 900, shape).astype(dtype) for n in numbers]
    made = nib.Nifti1Image(volumes[0] if n_volumes is None else np.stack(volumes, 3), affine)
    made.header.set_data_dtype(dtype)
    made.header.set_xyzt_units("mm", unit)
    made.header["pixdim"][4] = tr
    made.set_sform(affine, 1)
    if slope is not None:
        made.header.set_slope_inter(*slope)
    return made


def content(made):
    """Return the bytes of an image's file."""
    return made.to_bytes()


def data(number, dtype="int16"):
    return np.random.default_rng(number).integers(1, 900, SHAPE).astype(dtype)


def write(folder, name, raw):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)


def write_pair(folder, name, made):
    nib.Nifti1Pair(made.dataobj, made.affine, made.header).to_filename(folder / name)


def exported(bridge, folder, numbers, name="vol_{}.nii", every_s=TR_S, **how):
    for number in numbers:
        write(folder, name.format(number), content(image(number, **how)))
        bridge.step()
        bridge.step(every_s)


# ---------------------------------------------------------------- one file a volume


@pytest.mark.parametrize("name", ["vol_{}.nii", "vol-{:05d}.nii", "run.{:02d}.nii.gz", "1_bold_{}.NII"])
@pytest.mark.parametrize("start", [0, 1, 8, 97])
@pytest.mark.parametrize("order", [None, [1, 0, 3, 2, 5, 4]], ids=["in order", "swapped"])
def test_what_is_watched_is_what_is_replayed(folder, name, start, order):
    """Numbers pass from 9 to 10 and from 99 to 100, where the order of names is another."""
    bridge = Bridge(folder)
    exported(bridge, folder, [start + number for number in order or range(N_VOLUMES)], name)
    bridge.stop()
    source = open_source(folder)
    (run,) = bridge.server.runs
    assert (run.run_id, run.acquisition, run.tr_s, run.shape) == (
        source.run.run_id, source.acquisition(), source.run.tr_s, source.run.shape,
    )  # fmt: skip
    assert run.run_id.startswith("nifti-")
    np.testing.assert_array_equal(run.affine, source.run.affine)
    same_as_replayed(bridge.server.volumes, list(source))
    assert [volume.data.tolist() for volume in bridge.server.volumes] == [
        data(start + number).tolist() for number in range(N_VOLUMES)
    ]
    assert bridge.server.messages[-1] == RunEnd(run.run_id, N_VOLUMES)
    assert bridge.lines.count(ORDER) == 1
    assert sum(ORDER in note for note in source.notes) == 1


@pytest.mark.parametrize(
    ("dtype", "slope"), [("uint8", None), ("float32", None), (">i2", None), ("int16", (0.5, -3.0))]
)
def test_scaled_and_other_numbers_are_those_of_a_replay(folder, dtype, slope):
    bridge = Bridge(folder)
    exported(bridge, folder, range(3), dtype=dtype, slope=slope)
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(open_source(folder)))
    expected = nib.load(folder / "vol_2.nii").get_fdata()
    np.testing.assert_allclose(bridge.server.volumes[2].data, expected, rtol=1e-6)


def test_pairs_of_header_and_image_are_watched_and_replayed(folder):
    bridge = Bridge(folder)
    for number in range(3):
        write_pair(folder, f"vol{number}.img", image(number))
        whole = (folder / f"vol{number}.img").read_bytes()
        header = (folder / f"vol{number}.hdr").read_bytes()
        (folder / f"vol{number}.hdr").unlink()
        (folder / f"vol{number}.img").write_bytes(whole[:-1])
        bridge.step()
        (folder / f"vol{number}.hdr").write_bytes(header)
        bridge.step()
        assert len(bridge.indices) == (number if number > 1 else 0)
        (folder / f"vol{number}.img").write_bytes(whole)
        bridge.step()
    bridge.stop()
    assert bridge.indices == [0, 1, 2]
    same_as_replayed(bridge.server.volumes, list(open_source(folder)))


@pytest.mark.parametrize("later_s", [0.1, 5.0])
def test_a_pair_whose_header_comes_after_its_image_is_read_once_it_is_there(folder, later_s):
    bridge = Bridge(folder)
    for number in range(4):
        write_pair(folder.parent, f"vol{number}.img", image(number))
        (folder.parent / f"vol{number}.img").replace(folder / f"vol{number}.img")
        for _ in range(4):
            bridge.step(later_s / 4)
        (folder.parent / f"vol{number}.hdr").replace(folder / f"vol{number}.hdr")
        bridge.step()
        assert len(bridge.indices) == (number + 1 if number else 0)
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(open_source(folder)))
    assert bridge.count("lacks a header that can be read; it is waited for") == (4 if later_s > 1 else 0)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_is_sent_with_its_last_byte_and_not_before(folder, ending):
    """No time is waited: one look after the last byte it is on its way."""
    bridge = Bridge(folder)
    exported(bridge, folder, [1, 2], f"vol_{{}}{ending}", every_s=0.0)
    write(folder, f"vol_3{ending}", content(image(3)))
    path = folder / f"vol_3{ending}"
    whole = path.read_bytes()
    path.unlink()
    assert bridge.indices == [0, 1]
    for n_bytes in (0, 20, 100, len(whole) // 2, len(whole) - 40, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:n_bytes])
        bridge.step()
        assert bridge.indices == [0, 1]
    path.write_bytes(whole)
    bridge.step()
    assert bridge.indices == [0, 1, 2]


def test_what_is_lost_late_or_doubled_is_said_once(folder):
    bridge = Bridge(folder, patience_tr=2.0)
    exported(bridge, folder, [1, 2, 4], every_s=0.5)
    assert bridge.indices == [0, 1]
    bridge.step(2 * TR_S)
    assert bridge.indices == [0, 1, 3]
    exported(bridge, folder, [3], every_s=0.1)
    write(folder, "vol_04.nii", content(image(4)))
    write(folder, "vol_002.nii", content(image(7)))
    bridge.step()
    exported(bridge, folder, [5, 900])
    bridge.stop()
    assert bridge.indices == [0, 1, 3, 4]
    for words in (
        "volume 3 did not come: lost", "volume 3 came after volume 4, or twice: not sent",
        "volume 4 came twice, with the same voxels", "volume 2 came twice, with different voxels",
        "number lies far from those before",
    ):  # fmt: skip
        assert bridge.count(words) == 1, (words, bridge.lines)


def test_a_late_volume_within_the_patience_is_not_lost(folder):
    bridge = Bridge(folder, patience_tr=2.0)
    exported(bridge, folder, [1, 2, 4, 5], every_s=0.5)
    exported(bridge, folder, [3])
    assert bridge.indices == [0, 1, 2, 3, 4]
    assert not bridge.count("lost")


def test_old_files_are_never_opened(folder):
    for number in range(3):
        write(folder, f"vol_{number}.nii", content(image(number)))
    bridge = Bridge(folder)
    exported(bridge, folder, range(3, 6))
    bridge.stop()
    assert [volume.data.tolist() for volume in bridge.server.volumes] == [data(n).tolist() for n in range(3, 6)]
    assert bridge.indices == [0, 1, 2]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "next_{}.nii"},
        {"name": "second/vol_{}.nii"},
        {"shape": (6, 5, 3)},
        {"affine": AFFINE + np.eye(4) * 0.1},
    ],
    ids=["stem", "folder", "matrix", "place"],
)
def test_the_next_files_are_the_next_run(folder, other):
    other = dict(other)
    if "affine" in other:
        other["affine"] = other["affine"].copy()
        other["affine"][3] = 0, 0, 0, 1
    bridge = Bridge(folder)
    exported(bridge, folder, range(3))
    exported(bridge, folder, range(10, 13), **{"name": "vol_{}.nii", **other})
    bridge.stop()
    kinds = [type(message).__name__ for message in bridge.server.messages]
    assert kinds == ["Run", *["Volume"] * 3, "RunEnd", "Run", *["Volume"] * 3, "RunEnd"]
    first, second = bridge.server.runs
    assert first.run_id != second.run_id
    assert bridge.indices == [0, 1, 2, 0, 1, 2]
    exported(bridge, folder, [3])


def test_volumes_of_a_run_that_has_ended_are_left_out(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, range(3), "a_{}.nii")
    exported(bridge, folder, range(4), "b_{}.nii")
    exported(bridge, folder, [3, 4], "a_{}.nii")
    bridge.stop()
    assert bridge.indices == [0, 1, 2, 0, 1, 2, 3]
    assert bridge.count("NIfTI files came after their run had ended: left out") == 1


def test_numbers_that_come_again_after_a_run_are_another_run(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, range(4), every_s=0.1)
    bridge.step(2 * TR_S)
    bridge.step(2 * TR_S)
    for number in range(3):
        (folder / "vol.tmp").write_bytes(content(image(50 + number)))
        (folder / "vol.tmp").replace(folder / f"vol_{number}.nii")
        bridge.step(0.3)
    bridge.stop()
    assert bridge.indices == [0, 1, 2, 3, 0, 1, 2]
    assert len({run.run_id for run in bridge.server.runs}) == 2
    assert bridge.count("come again after a run, with other voxels: taken for another run") == 1


def test_a_run_that_comes_at_once_after_another_is_not_taken_for_one_beside_it(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, range(3), every_s=0.1)
    for number in range(15):
        write(folder, f"next_{number}.nii", content(image(number + 20)))
    for _ in range(4):
        bridge.step(TR_S)
    bridge.stop()
    assert bridge.indices == [*range(3), *range(15)]


def test_the_next_files_are_a_run_though_many_of_them_came_with_the_last_volume(folder):
    bridge = Bridge(folder, n_volumes=3)
    exported(bridge, folder, range(2))
    for number in range(9):
        write(folder, f"next_{number}.nii", content(image(number + 20)))
    bridge.step()
    write(folder, "next_9.nii", content(image(29)))
    write(folder, "vol_2.nii", content(image(2)))
    bridge.step()
    bridge.step()
    assert bridge.count("come beside") == 0
    assert len(bridge.server.runs) == 2
    assert bridge.indices == [*range(3)] * 2


def test_files_beside_are_left_out_and_end_no_run(folder):
    bridge = Bridge(folder)
    for number in range(12):
        write(folder, f"vol_{number}.nii", content(image(number)))
        bridge.step()
        write(folder, f"rvol_{number}.nii", content(image(number + 50)))
        write(folder, f"vol_{number}.json", b"{" + b" " * 200 + b"}")
        bridge.step(TR_S)
    write(folder, "anatomy.nii.gz", content(image(99)))
    write(folder, "T1_2.nii", content(image(99, shape=(9, 9, 9))))
    write(folder, "echoes_e2.nii.gz", content(image(99)))
    write(folder, "colours_1.nii", content(image(1, dtype="complex64")))
    write(folder, "bold.nii.gz", content(image(1, n_volumes=4)))
    bridge.step(TR_S)
    bridge.stop()
    assert len(bridge.server.runs) == 1
    assert [volume.data.tolist() for volume in bridge.server.volumes] == [data(n).tolist() for n in range(12)]
    for words in (
        "come beside nifti-", "whose names do not end in a number", "complex or colours",
        "compressed 4-D NIfTI files, and pairs, cannot be followed", "1 volume, too few for a run",
    ):  # fmt: skip
        assert bridge.count(words) == 1, (words, bridge.lines)


def test_one_kind_of_files_is_sent_at_a_time(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, range(3))
    for number in range(1, 4):
        save(test_mosaic.dicom(number), folder / f"{number}.dcm")
        bridge.step()
    assert len(bridge.server.runs) == 1
    assert bridge.count("DICOM images come beside NIfTI files, which are sent: left out") == 1

    bridge = Bridge(folder)
    for number in range(1, 4):
        save(test_mosaic.dicom(number), folder / "second" / f"{number}.dcm")
        bridge.step()
    exported(bridge, folder, range(3, 6))
    assert [run.run_id[:8] for run in bridge.server.runs] == ["series-7"]
    assert bridge.count("NIfTI files come beside DICOM images, which are sent: left out") == 1


def test_one_kind_after_the_other_is_sent_in_that_order_though_the_server_was_away(folder):
    bridge = Bridge(folder, n_volumes=3)
    bridge.server.error = ServerError("away")
    for number in range(1, 4):
        save(test_mosaic.dicom(number), folder / f"{number}.dcm")
        bridge.step(TR_S)
    exported(bridge, folder, range(2))
    assert not bridge.server.messages
    bridge.server.error = None
    bridge.step()
    exported(bridge, folder, [2])
    bridge.stop()
    kinds = [type(message).__name__ for message in bridge.server.messages]
    assert kinds == ["Run", *["Volume"] * 3, "RunEnd", "Run", *["Volume"] * 3, "RunEnd"]
    assert [run.run_id[:6] for run in bridge.server.runs] == ["series", "nifti-"]


def test_what_both_kinds_leave_when_it_is_stopped_without_a_server_is_counted_once(folder):
    bridge = Bridge(folder, n_volumes=3)
    bridge.server.error = ServerError("away")
    for number in range(1, 4):
        save(test_mosaic.dicom(number), folder / f"{number}.dcm")
        bridge.step(TR_S)
    exported(bridge, folder, range(2))
    bridge.stop()
    assert [line for line in bridge.lines if "could not be sent" in line] == [
        "5 volumes could not be sent: lost, but where files are kept `rtgod replay` sends them later"
    ]


@pytest.mark.parametrize("has_identities", [False, True])
def test_an_identity_table_gets_no_row_of_nifti_files_and_that_is_said_once(folder, has_identities):
    bridge = Bridge(folder, has_identities=has_identities)
    exported(bridge, folder, range(3))
    exported(bridge, folder, range(20, 23), "next_{}.nii")
    bridge.stop()
    assert len(bridge.server.runs) == 2
    assert bridge.count("their runs get no row in the identity table") == has_identities


def test_many_files_that_appear_at_once_take_little_memory_and_are_sent_in_order(folder):
    """As when a share is back: their order in the folder is any, and their times are those of the copy."""
    shape, n_volumes, taken = (96, 96, 60), 90, []

    def take(message):
        taken.append((getattr(message, "index", None), message.data[0, 0, 0] if isinstance(message, Volume) else None))

    bridge, away = Bridge(folder, SimpleNamespace(send=take)), folder.parent / "away"
    away.mkdir()
    voxels = np.ones(shape, np.int16)
    for number in random.Random(0).sample(range(n_volumes), n_volumes):  # noqa: S311 # no secret
        voxels[0, 0, 0] = number + 1
        made = nib.Nifti1Image(voxels, AFFINE)
        made.header.set_xyzt_units("mm", "sec")
        made.header["pixdim"][4] = TR_S
        write(away, f"vol_{number}.nii", content(made))
    away.rename(folder / "back")
    tracemalloc.start()
    bridge.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken == [(None, None), *((number, number + 1) for number in range(n_volumes))]
    assert peak < 64e6


def test_the_repetition_time_is_the_header_s_or_given(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, range(3), tr=1500.0, unit="msec")
    assert bridge.server.runs[0].tr_s == 1.5
    for how in ({"unit": "unknown"}, {"tr": 0.0}, {"tr": 2000.0}):
        name = f"{len(bridge.lines)}x_{{}}.nii"
        exported(bridge, folder, range(3), name, **how)
    bridge.stop()
    assert len(bridge.server.runs) == 1
    assert bridge.count("it does not say its TR; give it with --tr") == 1
    given = Bridge(folder, tr_s=2.5)
    exported(given, folder, range(3), "y_{}.nii", unit="unknown")
    assert given.server.runs[0].tr_s == 2.5
    exported(given, folder, range(3), "z_{}.nii", tr=2.0)
    given.stop()
    assert given.server.runs[1].tr_s == 2.0
    assert given.count("say TR 2 s, which counts, not --tr") == 1


def test_a_run_falls_silent_and_goes_on(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, range(3), every_s=0.1)
    bridge.step(2 * TR_S)
    bridge.step(2 * TR_S)
    exported(bridge, folder, [3])
    assert bridge.count("no volume for 2 TR, since volume 3") == 1
    assert bridge.count("volumes come again") == 1
    assert bridge.indices == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["vol_1.nii", "bold.nii", "vol_1.nii.gz"])
@pytest.mark.parametrize("tr_s", [1.5, 4.0])
def test_one_volume_and_then_silence_is_told_within_two_repetition_times(folder, name, tr_s):
    bridge = Bridge(folder)
    write(folder, name, content(image(1, tr=tr_s)))
    bridge.step()
    while bridge.now_s < 2 * tr_s:
        assert not bridge.count("no volume for 2 TR")
        bridge.step(0.1)
    bridge.step(0.1)
    for _ in range(50):
        bridge.step(1)
    assert bridge.count("no volume for 2 TR, since volume 1") == 1
    bridge.stop()


def test_a_volume_beside_a_run_that_goes_on_is_not_taken_for_silence(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, range(2))
    exported(bridge, folder, [1], "T1_{}.nii", every_s=0.1)
    exported(bridge, folder, range(2, 6))
    assert not bridge.count("no volume for 2 TR")
    bridge.stop()


def test_a_planned_number_of_volumes_ends_a_run(folder):
    bridge = Bridge(folder, n_volumes=3)
    exported(bridge, folder, range(3))
    bridge.step(2 * TR_S)
    assert bridge.server.messages[-1] == RunEnd(bridge.server.runs[0].run_id, 3)


def test_nothing_in_the_folder_is_changed_and_no_name_is_told(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, [1, 2, 4, 3], f"{PLANTED}{{}}.nii", every_s=5.0)
    exported(bridge, folder, [1, 2], f"{PLANTED}other_{{}}.nii.gz")
    write(folder, f"{PLANTED}run.nii", content(image(1, n_volumes=3)))
    write(folder, f"{PLANTED}.img", b"no image")
    (folder / f"{PLANTED}9.nii").write_bytes(b"\0" * 400)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    bridge.step(1)
    bridge.step(1)
    bridge.stop()
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before
    assert bridge.server.volumes
    said = repr(bridge.server.messages) + "\n".join(bridge.lines)
    assert PLANTED[:5] not in said
    assert str(folder) not in said


def test_a_blank_file_is_waited_for_and_one_that_is_never_whole_is_told(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, [1, 2], every_s=0.0)
    whole = content(image(3))
    (folder / "vol_3.nii").write_bytes(whole[:352] + bytes(len(whole) - 352))
    bridge.step(0.1)
    (folder / "vol_3.nii").write_bytes(whole)
    bridge.step(0.1)
    assert bridge.indices == [0, 1, 2]
    assert all(volume.data.any() for volume in bridge.server.volumes)
    (folder / "vol_4.nii").write_bytes(whole[:-20])
    (folder / "vol_5.nii").write_bytes(b"")
    for _ in range(3):
        bridge.step(1)
    bridge.stop()
    assert bridge.count("a NIfTI file lacks the rest of its voxels; it is waited for") == 1
    assert bridge.count("2 files not written to the end by now") == 1


def test_a_file_whose_time_is_set_after_it_was_taken_is_no_copy(folder):
    bridge = Bridge(folder)
    exported(bridge, folder, [1, 2], every_s=0.0)
    os.utime(folder / "vol_2.nii", (1e9, 1e9))
    bridge.step(1)
    bridge.step(1)
    assert not bridge.count("twice")
    altered = content(image(8))
    (folder / "vol_2.nii").write_bytes(altered)  # it is known, so this is noticed by its second look alone
    exported(bridge, folder, [3])
    (folder / "vol_3.nii").write_bytes(altered)
    bridge.step(1)
    bridge.step(1)
    assert bridge.indices == [0, 1, 2]


# ---------------------------------------------------------------- files that are written anew, or filled


def put(folder, number, raw, is_in_place, name="vol_{}.nii"):
    """Write a file in place of one that is there, or replace that by another."""
    if is_in_place:
        (folder / name.format(number)).write_bytes(raw)
    else:
        (folder / ".next").write_bytes(raw)
        (folder / ".next").replace(folder / name.format(number))


def by_run(bridge):
    return [
        [(volume.index, volume.data.tolist()) for volume in bridge.server.volumes if volume.run_id == run.run_id]
        for run in bridge.server.runs
    ]


def expected(first, indices):
    return [(index, data(first + index).tolist()) for index in indices]


@pytest.mark.parametrize("is_in_place", [False, True], ids=["by another file", "in place"])
@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize("pause_s", [0.0, 3 * TR_S])
@pytest.mark.parametrize("n_before", [2, 4])
def test_a_run_that_is_started_again_under_its_names_is_another_run_from_its_first_volume(
    folder, is_in_place, start, pause_s, n_before
):
    bridge = Bridge(folder)
    exported(bridge, folder, range(start, start + n_before))
    bridge.step(pause_s)
    for index in range(6):
        put(folder, start + index, content(image(60 + index)), is_in_place)
        for _ in range(20):
            bridge.step(TR_S / 20)
        if index:
            assert len(bridge.server.volumes) == n_before + index + 1
    bridge.stop()
    assert by_run(bridge) == [expected(start, range(n_before)), expected(60, range(6))]


@pytest.mark.parametrize("lost", [[0], [0, 1], [1]])
def test_a_run_that_is_started_again_and_lacks_its_first_volumes_counts_by_its_names(folder, lost):
    bridge = Bridge(folder)
    exported(bridge, folder, range(8))
    for index in (index for index in range(8) if index not in lost):
        put(folder, index, content(image(60 + index)), is_in_place=False)
        bridge.step(TR_S)
    bridge.stop()
    assert by_run(bridge)[1] == expected(60, [index for index in range(8) if index not in lost])
    assert bridge.count("did not come: lost") == 1


def test_a_run_that_is_started_again_from_before_the_first_file_that_was_seen_is_another_run(folder):
    """As when the watch began within the run before."""
    bridge = Bridge(folder)
    exported(bridge, folder, range(3, 7))
    for index in range(9):
        put(folder, index, content(image(60 + index)), is_in_place=False)
        bridge.step(TR_S)
    bridge.stop()
    assert by_run(bridge) == [expected(3, range(4)), expected(60, range(9))]


def test_files_of_a_run_that_goes_on_and_are_altered_are_named_and_end_no_run(folder):
    """As by a program that works on them where they are."""
    bridge = Bridge(folder)
    exported(bridge, folder, range(2))
    for number in range(2, 14):
        exported(bridge, folder, [number], every_s=TR_S / 2)
        put(folder, number - 2, content(image(90 + number)), is_in_place=True)
        bridge.step(TR_S / 4)
        bridge.step(TR_S / 4)
    exported(bridge, folder, [14])
    bridge.stop()
    assert by_run(bridge) == [expected(0, range(15))]
    assert bridge.count("came twice, with different voxels: the first is kept") == 12


def test_a_file_that_is_altered_before_its_run_begins_counts_as_it_is_then(folder):
    """A scan that was restarted after its first volume is one of these."""
    bridge = Bridge(folder)
    exported(bridge, folder, [0])
    put(folder, 0, content(image(60)), is_in_place=True)
    bridge.step(TR_S)
    bridge.step(TR_S)
    for number in range(1, 4):
        write(folder, f"vol_{number}.nii", content(image(60 + number)))
        bridge.step(TR_S)
    bridge.stop()
    assert by_run(bridge) == [expected(60, range(4))]
    assert bridge.count("volume 1: its file was written to before it was sent") == 1


@pytest.mark.parametrize("pause_s", [0.1, 1.5])
def test_a_file_that_has_its_full_length_before_its_content_is_taken_once_it_is_filled(folder, pause_s):
    bridge = Bridge(folder, patience_tr=1e6)
    exported(bridge, folder, range(3))
    whole = content(image(3))
    for n_written in (0, 352, 400, len(whole) // 2, len(whole) - 40, len(whole)):
        (folder / "vol_3.nii").write_bytes(whole[:n_written] + bytes(len(whole) - n_written))
        for _ in range(3):
            bridge.step(pause_s / 3)
    exported(bridge, folder, [4])
    bridge.stop()
    assert by_run(bridge) == [expected(0, range(5))]


@pytest.mark.parametrize("pause_s", [0.1, 1.5])
def test_a_4d_file_that_has_its_full_length_is_read_as_far_as_it_is_filled(folder, pause_s):
    bridge = Bridge(folder)
    whole, n_bytes = grown(N_VOLUMES, N_VOLUMES), int(np.prod(SHAPE)) * 2
    for n_written in range(352, len(whole) + 1, n_bytes // 3):
        (folder / "bold.nii").write_bytes(whole[:n_written] + bytes(len(whole) - n_written))
        for _ in range(3):
            bridge.step(pause_s / 3)
    bridge.step(2)
    bridge.stop()
    assert by_run(bridge) == [expected(0, range(N_VOLUMES))]


def test_an_old_4d_file_that_is_written_anew_in_place_is_a_run(folder):
    (folder / "bold.nii").write_bytes(grown(N_VOLUMES, N_VOLUMES))
    bridge = Bridge(folder)
    bridge.step(1)
    (folder / "bold.nii").write_bytes(rewritten(4, first=50))
    for _ in range(3):
        bridge.step(0.2)
    bridge.stop()
    assert by_run(bridge) == [expected(50, range(4))]


@pytest.mark.parametrize("name", ["vol_{}.nii", "bold.nii"], ids=["a file a volume", "one that grows"])
def test_a_run_goes_on_when_its_folder_is_renamed(folder, name):
    bridge = Bridge(folder)

    def export(place, numbers):
        for number in numbers:
            if name == "bold.nii":
                (folder / place).mkdir(exist_ok=True)
                with (folder / place / name).open("ab") as file:
                    file.write(grown(0, number + 1, 0, 12)[0 if number == 0 else 352 + number * data(0).nbytes :])
            else:
                write(folder, f"{place}/{name.format(number)}", content(image(number)))
            bridge.step()
            bridge.step(TR_S)

    export("new", range(4))
    (folder / "new").rename(folder / "kept")
    bridge.step(TR_S)
    export("kept", range(4, 8))
    bridge.stop()
    assert by_run(bridge) == [expected(0, range(8))]
    assert not bridge.count("came twice")


# ---------------------------------------------------------------- one file that grows


def grown(header_says, n_there, n_more=0, n_volumes=N_VOLUMES):
    """Return the bytes of a file that has some volumes and a part of the next, with a header that says a number."""
    whole = bytearray(content(image(0, n_volumes=n_volumes)))
    whole[40:42] = (3 if header_says == 0 else 4).to_bytes(2, "little")
    whole[48:50] = max(header_says, 1).to_bytes(2, "little")
    n_bytes = int(np.prod(SHAPE)) * 2
    return bytes(whole[: 352 + n_there * n_bytes + n_more])


@pytest.mark.parametrize("says", ["all", "as many as there are", "one", "a volume"])
@pytest.mark.parametrize("name", ["bold.nii", "run_3.nii"])
def test_a_file_that_grows_is_followed(folder, says, name):
    """Volumes are sent with their last bytes, once there are two."""
    bridge = Bridge(folder)
    n_volumes = 12
    for n_there in range(n_volumes + 1):
        header = {"all": n_volumes, "as many as there are": max(n_there, 1), "one": 1, "a volume": 0}[says]
        for n_more in (0, 7, int(np.prod(SHAPE)) * 2 - 1):
            (folder / name).write_bytes(grown(header, n_there, n_more, n_volumes))
            bridge.step(0.3)
            assert bridge.indices == list(range(n_there if n_there > 1 else 0))
    bridge.stop()
    source = open_source(folder / name) if says != "a volume" and says != "one" else None
    (run,) = bridge.server.runs
    assert [volume.data.tolist() for volume in bridge.server.volumes] == [data(n).tolist() for n in range(n_volumes)]
    assert run.n_volumes == (n_volumes if says == "all" else None)
    assert bridge.server.messages[-1] == RunEnd(run.run_id, n_volumes)
    assert ORDER not in bridge.lines
    if source is not None:
        assert (run.tr_s, run.shape, run.affine.tolist()) == (
            source.run.tr_s, source.run.shape, source.run.affine.tolist(),
        )  # fmt: skip
        assert [(v.index, v.acquired_s, v.data.tobytes()) for v in bridge.server.volumes] == [
            (v.index, v.acquired_s, v.data.tobytes()) for v in source
        ]


def test_a_file_that_has_its_full_length_from_the_start_is_followed(folder):
    bridge = Bridge(folder)
    whole, n_bytes = grown(N_VOLUMES, N_VOLUMES), int(np.prod(SHAPE)) * 2
    for n_there in range(N_VOLUMES):
        for part in (n_bytes // 2, n_bytes):
            n_written = 352 + n_there * n_bytes + part
            (folder / "bold.nii").write_bytes(whole[:n_written] + bytes(len(whole) - n_written))
            bridge.step(0.1)
            bridge.step(0.1)
    bridge.step(0.6)
    bridge.stop()
    assert [volume.data.tolist() for volume in bridge.server.volumes] == [data(n).tolist() for n in range(N_VOLUMES)]


def test_a_file_that_is_begun_anew_is_another_run(folder):
    bridge = Bridge(folder)
    (folder / "bold.nii").write_bytes(grown(1, 4))
    bridge.step()
    (folder / "bold.nii").write_bytes(grown(1, 0))
    bridge.step()
    bridge.step(0.6)
    (folder / "bold.nii").write_bytes(grown(1, 3))
    bridge.step(5)
    (folder / "bold.tmp").write_bytes(grown(1, 2))
    (folder / "bold.tmp").replace(folder / "bold.nii")
    for _ in range(4):
        bridge.step(TR_S)
    bridge.stop()
    assert bridge.indices == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert bridge.count("has become shorter: its run ends") == 2


def rewritten(n_there, first=0):
    """Return the bytes of a whole file with some volumes, as tools write it that write it anew for each volume."""
    return content(image(first, n_volumes=n_there))


@pytest.mark.parametrize("how", ["by another file", "by a file that is filled after it took the name", "in place"])
@pytest.mark.parametrize("name", ["bold.nii", "run_3.nii"])
def test_a_file_that_is_written_anew_for_each_volume_is_one_run(folder, how, name):
    bridge, path = Bridge(folder), folder / name
    for n_there in range(1, 13):
        whole = rewritten(n_there)
        if how == "in place":
            path.write_bytes(whole[: len(whole) // 3])
            bridge.step(0.1)
            path.write_bytes(whole)
        elif how == "by another file":
            (folder / ".next").write_bytes(whole)
            (folder / ".next").replace(path)
        else:
            (folder / ".next").write_bytes(whole[:100])
            (folder / ".next").replace(path)
            bridge.step(0.1)
            path.write_bytes(whole)
        bridge.step()
        assert bridge.indices == list(range(n_there if n_there > 1 else 0))
        bridge.step(TR_S)
    bridge.stop()
    assert [volume.data.tolist() for volume in bridge.server.volumes] == [data(n).tolist() for n in range(12)]
    assert [type(message).__name__ for message in bridge.server.messages].count("Run") == 1
    assert bridge.server.messages[-1] == RunEnd(bridge.server.runs[0].run_id, 12)
    assert len(bridge.lines) == 2, bridge.lines  # that it begins, and that it ended


@pytest.mark.parametrize("n_steps", [0, 3])
@pytest.mark.parametrize("is_in_place", [False, True])
def test_another_file_with_other_volumes_in_the_place_of_one_that_grew_is_another_run(folder, is_in_place, n_steps):
    """It is longer than the one before it, so that its length tells nothing."""
    bridge, path = Bridge(folder), folder / "bold.nii"
    path.write_bytes(rewritten(4))
    bridge.step()
    if is_in_place:
        path.write_bytes(b"")
        bridge.step(0.1)
        path.write_bytes(rewritten(5, first=50))
    else:
        (folder / ".next").write_bytes(rewritten(5, first=50))
        (folder / ".next").replace(path)
    for _ in range(n_steps):
        bridge.step(0.1)
    bridge.stop()
    assert bridge.indices == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert bridge.server.volumes[4].data.tolist() == data(50).tolist()
    assert bridge.count("has other volumes now: its run ends, and it is followed from its start") == 1


@pytest.mark.parametrize("away_s", [0.1, 30.0])
@pytest.mark.parametrize("is_copied", [False, True], ids=["same file", "copy"])
def test_a_file_that_grows_and_whose_share_is_away_for_a_while_is_one_run(folder, away_s, is_copied):
    bridge, whole = Bridge(folder), rewritten(8)
    (folder / "bold.nii").write_bytes(whole[: len(whole) // 2])
    bridge.step()
    away = folder.parent / "away"
    folder.rename(away)
    bridge.step(away_s)
    bridge.step(away_s)
    (away / "bold.nii").write_bytes(whole)
    if is_copied:  # inodes of a share can be others once it is back
        (away / "copy").write_bytes(whole)
        (away / "copy").replace(away / "bold.nii")
    away.rename(folder)
    for _ in range(3):
        bridge.step(0.1)
    bridge.stop()
    assert bridge.indices == list(range(8))
    (run,) = bridge.server.runs
    assert bridge.server.messages[-1] == RunEnd(run.run_id, 8)
    assert bridge.count("no volume for 2 TR") == bridge.count("volumes come again") == (away_s > TR_S)


def test_a_file_whose_header_cannot_be_read_for_a_while_is_followed_from_its_start_once_it_can(folder):
    bridge, path = Bridge(folder), folder / "bold.nii"
    path.write_bytes(grown(1, 3))
    bridge.step()
    path.write_bytes(bytes(352) + grown(1, 4)[352:])
    for _ in range(4):
        bridge.step(1)
    path.write_bytes(grown(1, 5))
    for _ in range(3):
        bridge.step(1)
    bridge.stop()
    assert bridge.indices == [0, 1, 2, 0, 1, 2, 3, 4]
    assert bridge.count("cannot be read any more: its run ends") == 1


def test_volumes_that_come_to_a_file_whose_run_has_ended_are_named_once(folder):
    bridge = Bridge(folder)
    (folder / "bold.nii").write_bytes(grown(1, 3))
    bridge.step()
    bridge.step(2 * TR_S)
    exported(bridge, folder, range(20, 23))
    assert not bridge.count("came after their run had ended")
    for n_there in (4, 5):
        (folder / "bold.nii").write_bytes(grown(1, n_there))
        bridge.step(0.1)
    bridge.stop()
    assert bridge.indices == [0, 1, 2, 0, 1, 2]
    assert bridge.count("NIfTI files came after their run had ended: left out") == 1


def test_a_file_that_has_much_at_once_takes_little_memory_and_all_of_it_is_sent(folder):
    shape, n_volumes = (64, 64, 36), 250
    taken = []
    bridge = Bridge(folder, SimpleNamespace(send=lambda message: taken.append(getattr(message, "index", None))))
    made = nib.Nifti1Image(np.zeros((*shape, 1), np.int16), AFFINE)
    made.header.set_xyzt_units("mm", "sec")
    made.header["pixdim"][4] = TR_S
    rng = np.random.default_rng(0)
    with (folder / "bold.nii").open("wb") as file:
        file.write(made.to_bytes()[:352])
        for _ in range(n_volumes):
            file.write(rng.bytes(2 * int(np.prod(shape))))
    tracemalloc.start()
    bridge.step()
    assert taken[1:]
    bridge.stop()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken == [None, *range(n_volumes), None]
    assert peak < 64e6


@pytest.mark.parametrize("begins_anew", [False, True])
def test_a_file_whose_run_is_whole_is_another_run_only_if_it_is_begun_anew(folder, begins_anew):
    bridge = Bridge(folder)
    for n_there in range(2, 13):
        (folder / "bold.nii").write_bytes(grown(12, n_there, 0, 12))
        bridge.step(0.1)
    for _ in range(6):
        bridge.step(1)
    assert bridge.server.messages[-1] == RunEnd(bridge.server.runs[0].run_id, 12)
    if begins_anew:
        (folder / "bold.nii").write_bytes(grown(12, 1, 0, 12))
        bridge.step()
        (folder / "bold.nii").write_bytes(grown(12, 3, 0, 12))
    for _ in range(6):
        bridge.step(1)
    bridge.stop()
    assert bridge.indices == [*range(12), *([0, 1, 2] if begins_anew else [])]


def test_a_header_that_changes_its_scale_ends_the_run(folder):
    bridge = Bridge(folder)
    (folder / "bold.nii").write_bytes(grown(1, 3))
    bridge.step()
    raw = bytearray(grown(1, 4))
    raw[112:116] = np.float32(0.5).tobytes()  # scl_slope
    (folder / "bold.nii").write_bytes(raw)
    bridge.step(5)
    bridge.step(5)
    bridge.stop()
    assert bridge.indices == [0, 1, 2, 0, 1, 2, 3]
    assert bridge.count("has changed") == 1


# ---------------------------------------------------------------- real and damaged files


def test_volumes_of_a_real_run_in_any_order(folder, shared_data):
    real = open_source(shared_data / "haxby2001" / "sub001" / "BOLD" / "task001_run001" / "bold_25mm.nii.gz")
    volumes = [volume.data for volume in real][:40]
    pairs = [list(range(n, min(n + 3, 40))) for n in range(0, 40, 3)]
    for pair in pairs:
        random.Random(pair[0]).shuffle(pair)  # noqa: S311 # no secret
    bridge = Bridge(folder, patience_tr=1e6)
    for number in [number for pair in pairs for number in pair]:
        made = nib.Nifti1Image(volumes[number], real.run.affine)
        made.header.set_xyzt_units("mm", "sec")
        made.header["pixdim"][4] = real.run.tr_s
        write(folder, f"s{number + 1}.nii.gz", content(made))
        bridge.step()
    bridge.stop()
    first = min(pairs[0][:2])
    assert [volume.index + first for volume in bridge.server.volumes] == list(range(first, 40))
    assert [volume.data.tobytes() for volume in bridge.server.volumes] == [v.tobytes() for v in volumes[first:]]
    np.testing.assert_allclose(bridge.server.runs[0].affine, real.run.affine, atol=1e-5)


@given(at=st.integers(0, 600), value=st.integers(0, 255), cut=st.integers(0, 700), ending=st.sampled_from(["", ".gz"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_no_bytes_break_it(tmp_path, at, value, cut, ending):
    for path in tmp_path.iterdir():
        path.unlink()
    bridge = Bridge(tmp_path)
    for number in range(3):
        raw = bytearray(content(image(number)))
        raw[min(at, len(raw) - 1)] = value
        write(tmp_path, f"vol_{number}.nii{ending}", bytes(raw[:-cut] if cut else raw))
        bridge.step(1)
    packed = bytearray(gzip.compress(content(image(4)), mtime=0))
    packed[at % len(packed)] = value
    (tmp_path / "vol_4.nii.gz").write_bytes(packed[: len(packed) - cut % 40])
    bridge.step(1)
    bridge.step(1)
    bridge.stop()
    assert all(volume.data.ndim == 3 for volume in bridge.server.volumes)


@given(
    damage=st.lists(st.tuples(st.integers(0, 360), st.integers(0, 255)), max_size=3),
    sizes=st.lists(st.integers(0, 1800), min_size=1, max_size=6),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_no_file_that_grows_or_shrinks_breaks_it(tmp_path, damage, sizes):
    for path in tmp_path.iterdir():
        path.unlink()
    bridge = Bridge(tmp_path)
    for turn, size in enumerate(sizes):
        raw = bytearray(grown(6, 6))
        for at, value in damage if turn % 2 else ():
            raw[at] = value
        (tmp_path / "bold.nii").write_bytes(raw[:size])
        bridge.step(0.3)
    bridge.stop()
    assert all(volume.data.ndim == 3 for volume in bridge.server.volumes)
    assert str(tmp_path) not in "".join(bridge.lines)
