"""Phase, real and imaginary images of each maker are told from magnitudes, live and replayed alike."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from rtgod.errors import InputError
from rtgod.sources.dicom.image_kinds import no_magnitude
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.receivers.test_watcher import N_VOLUMES, Bridge, folder, same_as_replayed, written
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, enhanced, save, single_slice, voxels

__all__ = ["folder"]
KINDS = {"phase images": 1, "real images": 2, "imaginary images": 3}


def of_ge(dataset, kind, vr="SS", block=0x10):
    dataset.add_new((0x0043 << 16) + block, "LO", "GEMS_PARM_01")
    value = kind.to_bytes(2, "little") if vr == "UN" else kind
    dataset.add_new((0x0043 << 16) + (block << 8) + 0x2F, vr, value)
    return dataset


def ge_slices(number, kind):
    """Slices that only a private element tells from magnitudes, and that are counted between them."""
    files = []
    for z in range(N_Z):
        dataset = single_slice(number, z, InstanceNumber=2 * ((number - 1) * N_Z + z) + 1 + (kind > 0))
        files.append(of_ge(dataset, kind))
    return files


def philips_slices(number, kind):
    words = [["M_FFE", "M"], ["PHASE MAP", "P"], ["R_FFE", "R"], ["I_FFE", "I"]][kind]
    image_type = ["ORIGINAL", "PRIMARY", *words, "FFE"]
    elements = {"Manufacturer": "Philips", "ImageType": image_type, "TemporalPositionIdentifier": number}
    n_before = N_Z * N_VOLUMES if kind else 0
    return [
        single_slice(number, z, InstanceNumber=n_before + (number - 1) * N_Z + z + 1, **elements) for z in range(N_Z)
    ]


def siemens_mosaic(number, kind):
    return [test_mosaic.dicom(number, ImageType=["ORIGINAL", "PRIMARY", "MPRI"[kind], "ND", "MOSAIC"])]


def xa_mosaic(number, kind):
    component = ["MAGNITUDE", "PHASE", "REAL", "IMAGINARY"][kind]
    return [test_mosaic.dicom(number, ComplexImageComponent=component)]


def xa_file(number, kind):
    dataset = enhanced([number])
    dataset.ComplexImageComponent = ["MAGNITUDE", "PHASE", "REAL", "IMAGINARY"][kind]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.MRImageFrameTypeSequence
    return [dataset]


MAKERS = [ge_slices, philips_slices, siemens_mosaic, xa_mosaic, xa_file]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_images_that_are_no_magnitudes_are_left_out_and_named_once_live_and_replayed(folder, tmp_path, make, kind):
    bridge = Bridge(folder)
    for number in range(1, N_VOLUMES + 1):
        others = make(number, KINDS[kind])
        for dataset in others:
            dataset.PixelData = bytes(len(dataset.PixelData))
            dataset.SOPInstanceUID = f"1.9.{number}"
        written(bridge, folder, [make(number, 0) + others])
    bridge.stop()
    assert bridge.lines.count(f"series 7: {kind}: left out") == 1
    source = DicomSeries(folder)
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    same_as_replayed(bridge.server.volumes, list(source))
    assert all(volume.data.any() for volume in bridge.server.volumes)
    assert [note for note in source.notes if "phase, real or imaginary images left out" in note]
    save(others[0], tmp_path / "alone" / "1.dcm")
    with pytest.raises(InputError, match="give the magnitude series"):
        DicomSeries(tmp_path / "alone")


@pytest.mark.parametrize("make", MAKERS)
def test_magnitudes_are_taken(make):
    assert not any(no_magnitude(dataset) for dataset in make(1, 0))
    assert not no_magnitude(Dataset())


def test_slices_that_others_are_counted_between_are_counted_whatever_comes_first(folder):
    order = [1, 0, 2, 4, 3, 5]
    bridge = Bridge(folder)
    written(bridge, folder, [ge_slices(number, 0) + ge_slices(number, 1) for number in range(1, N_VOLUMES + 1)], order)
    bridge.stop()
    for volume in bridge.server.volumes:
        np.testing.assert_array_equal(volume.data, voxels(volume.index + 1))
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))
    assert len(bridge.server.volumes) == N_VOLUMES


@pytest.mark.parametrize("vr", ["SS", "UN"])
@pytest.mark.parametrize("block", [0x10, 0x12])
@pytest.mark.parametrize("kind", KINDS)
def test_ge_s_element_is_read_wherever_its_block_begins(vr, block, kind):
    assert no_magnitude(of_ge(single_slice(1, 0), KINDS[kind], vr, block)) == kind


def test_another_maker_s_element_of_that_number_says_nothing():
    dataset = single_slice(1, 0)
    dataset.private_block(0x0043, "SOMEBODY ELSE", create=True).add_new(0x2F, "SS", 1)
    assert no_magnitude(dataset) == ""


def test_an_enhanced_file_whose_frames_are_all_of_phase_is_named_once(folder):
    bridge = Bridge(folder)
    for number in range(1, 4):
        written(bridge, folder, [[enhanced([number])]])
        phase = enhanced([number], kinds=("PHASE",), SeriesNumber=8, SeriesInstanceUID="1.2.8")
        written(bridge, folder, [[phase]])
    bridge.stop()
    assert bridge.lines.count("series 8: no magnitude images: left out") == 1
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 2]
