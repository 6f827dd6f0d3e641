"""Every lossless way to write a file gives the same volumes, replayed and live; one with loss is refused by name."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from rtgod.errors import InputError
from rtgod.sources.dicom.deflated import inflated, is_deflated
from rtgod.sources.dicom.file import read_growing, read_pixels
from rtgod.sources.dicom.series import DicomSeries, tags_read
from tests.rtgod.receivers.test_watcher import Bridge, same_as_replayed
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, enhanced, save, single_slice

needs_dcmtk = pytest.mark.skipif(not shutil.which("dcmconv", path="/usr/bin"), reason="needs DCMTK (Debian: dcmtk)")
DEFLATED = "1.2.840.10008.1.2.1.99"
#: How DCMTK writes each of them.
BY_DCMTK = {
    DEFLATED: ("dcmconv", "+td"),
    ExplicitVRBigEndian: ("dcmconv", "+tb"),
    ImplicitVRLittleEndian: ("dcmconv", "+ti"),
    JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    JPEGLossless: ("dcmcjpeg", "+el"),
    JPEGLSLossless: ("dcmcjpls", "+el"),
    RLELossless: ("dcmcrle",),
}


def mosaics():
    return [test_mosaic.dicom(number) for number in (1, 2, 3)]


def slices():
    return [single_slice(number, z) for number in (1, 2, 3) for z in range(N_Z)]


def enhanced_files():
    return [enhanced([number]) for number in (1, 2, 3)]


def signed_of_12_bits():
    datasets = [test_mosaic.dicom(number, dtype="int16") for number in (1, 2, 3)]
    for dataset in datasets:
        dataset.BitsStored, dataset.HighBit = 12, 11
        pixels = np.frombuffer(dataset.PixelData, np.int16) % 4096 - 2048
        dataset.PixelData = (pixels & 0xFFF).astype(np.uint16).tobytes()
    return datasets


def rewritten(folder, out, syntax):
    """Rewrite the files of a folder."""
    out.mkdir()
    for path in folder.iterdir():
        if syntax in BY_DCMTK:
            program, *options = BY_DCMTK[syntax]
            subprocess.run([f"/usr/bin/{program}", *options, path, out / path.name], check=True)
        else:
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(out / path.name)
        assert pydicom.dcmread(out / path.name).file_meta.TransferSyntaxUID == syntax
    return out


@needs_dcmtk
@pytest.mark.parametrize("make", [mosaics, slices, enhanced_files, signed_of_12_bits])
@pytest.mark.parametrize("syntax", BY_DCMTK, ids=lambda uid: pydicom.uid.UID(uid).name)
def test_a_lossless_series_is_that_of_the_original(tmp_path, make, syntax):
    for number, dataset in enumerate(make()):
        dataset.SOPInstanceUID = f"1.2.3.{number + 1}"
        save(dataset, tmp_path / "original" / f"{number}.dcm")
    folder = rewritten(tmp_path / "original", tmp_path / "rewritten", syntax)
    original, source = DicomSeries(tmp_path / "original"), DicomSeries(folder)
    same_as_replayed(list(source), list(original))
    np.testing.assert_array_equal(source.run.affine, original.run.affine)
    export = tmp_path / "export"
    export.mkdir()
    bridge = Bridge(export)
    for path in folder.iterdir():
        content = path.read_bytes()
        for n_bytes in (150, len(content) // 2, len(content) - 1, len(content)):
            (export / path.name).write_bytes(content[:n_bytes])
            bridge.step()
    bridge.step(1)
    bridge.step(1)
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(original))


@needs_dcmtk
@pytest.mark.parametrize("syntax", [DEFLATED, ExplicitVRBigEndian], ids=["deflated", "big-endian"])
def test_such_a_file_is_complete_with_its_last_byte(tmp_path, syntax):
    save(test_mosaic.dicom(1), tmp_path / "original" / "1.dcm")
    content = (rewritten(tmp_path / "original", tmp_path / "rewritten", syntax) / "1.dcm").read_bytes()
    n_end = 1 if syntax == DEFLATED and len(content) % 2 == 0 else 0  # a deflated file is padded to an even length
    for n_bytes in range(len(content)):
        _, _, n_missing = read_growing(content[:n_bytes], tags_read())
        assert n_missing != 0 or n_bytes >= len(content) - n_end - 8
    header, start, n_missing = read_growing(content, tags_read())
    assert n_missing == 0
    (mosaic,) = read_pixels(tmp_path, header, start, content)
    np.testing.assert_array_equal(mosaic, pydicom.dcmread(tmp_path / "original" / "1.dcm").pixel_array)


@needs_dcmtk
@pytest.mark.parametrize(
    "syntax", [DEFLATED, JPEGLSLossless, JPEG2000Lossless], ids=["deflated", "JPEG-LS", "JPEG 2000"]
)
def test_real_slices_of_ge(tmp_path, shared_data, syntax):
    folder = tmp_path / "some"
    folder.mkdir()
    for path in sorted((shared_data / "ge-epirt" / "dicom").iterdir())[:32]:
        (folder / path.name).write_bytes(path.read_bytes())
    source = DicomSeries(rewritten(folder, tmp_path / "rewritten", syntax))
    same_as_replayed(list(source), list(DicomSeries(folder)))


# ---------------------------------------------------------------- loss, and damage


@needs_dcmtk
def test_a_lossy_file_is_refused_by_name(tmp_path):
    path = save(test_mosaic.dicom(1), tmp_path / "original.dcm")
    (tmp_path / "lossy").mkdir()
    subprocess.run(["/usr/bin/dcmcjpls", "+en", "+md", "4", path, tmp_path / "lossy" / "1.dcm"], check=True)
    lossy = pydicom.dcmread(tmp_path / "lossy" / "1.dcm")
    assert lossy.file_meta.TransferSyntaxUID == JPEGLSNearLossless
    lossy.ImageType = ["ORIGINAL", *lossy.ImageType[1:]]  # DCMTK calls them derived, and those are left out
    lossy.save_as(tmp_path / "lossy" / "1.dcm")
    with pytest.raises(InputError, match=r"with loss, as JPEG-LS Lossy .*not those that were measured"):
        DicomSeries(tmp_path / "lossy")
    export = tmp_path / "export"
    export.mkdir()
    bridge = Bridge(export)
    shutil.copy(tmp_path / "lossy" / "1.dcm", export / "1.dcm")
    bridge.step()
    bridge.step(1)
    bridge.stop()
    assert sum("compressed with loss, as JPEG-LS Lossy" in line for line in bridge.lines) == 1


@pytest.mark.parametrize(("lossy", "is_read"), [("00", True), ("01", False), (None, False)])
def test_jpeg_2000_of_either_kind_is_read_where_it_says_that_nothing_was_lost(tmp_path, shared_data, lossy, is_read):
    dataset = pydicom.dcmread(sorted((shared_data / "siemens-cmrr-mosaic" / "dicom").iterdir())[0])
    expected = dataset.pixel_array
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = JPEG2000
    if lossy:
        dataset.LossyImageCompression = lossy
    save(dataset, tmp_path / "1.dcm")
    if is_read:
        (volume,) = DicomSeries(tmp_path)
        np.testing.assert_array_equal(volume.data[:, :, 0], expected[: volume.data.shape[1], : volume.data.shape[0]].T)
        return
    with pytest.raises(InputError, match="with loss, as JPEG 2000"):
        DicomSeries(tmp_path)


def test_uncompressed_voxels_that_were_lossy_before_are_refused(tmp_path):
    save(test_mosaic.dicom(1, LossyImageCompression="01"), tmp_path / "1.dcm")
    with pytest.raises(InputError, match="with loss, so that its numbers"):
        DicomSeries(tmp_path)


def test_high_throughput_jpeg_2000_has_a_decoder():
    assert pydicom.pixels.decoders.base.get_decoder(HTJ2KLossless).is_available


@needs_dcmtk
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3), cut=st.floats(0, 1))
def test_a_damaged_deflated_file_raises_nothing_but_an_input_error(tmp_path, damage, cut):
    path = tmp_path / "rewritten" / "1.dcm"
    if not path.exists():
        save(test_mosaic.dicom(1), tmp_path / "original" / "1.dcm")
        rewritten(tmp_path / "original", tmp_path / "rewritten", DEFLATED)
        shutil.copy(path, tmp_path / "whole.dcm")
    raw = bytearray((tmp_path / "whole.dcm").read_bytes())
    for place, value in damage:
        raw[int(place * (len(raw) - 1))] = value
    raw = raw[: int(len(raw) * cut)]
    path.write_bytes(raw)
    read_growing(bytes(raw), tags_read())
    try:
        list(DicomSeries(path.parent))
    except InputError:
        return


def test_a_file_that_inflates_without_end_is_refused():
    import zlib

    meta = b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0" + (30).to_bytes(4, "little")
    meta += b"\2\0\x10\0UI\x16\0" + DEFLATED.encode()
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = meta + b"".join(deflate.compress(bytes(2**24)) for _ in range(20)) + deflate.flush()
    assert is_deflated(content)
    assert len(content) < 2**20
    with pytest.raises(InputError, match="more than 16 MiB"):
        inflated(content)
