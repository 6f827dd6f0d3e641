"""Damaged DICOM files of every kind: whatever their bytes, nothing hangs, crashes, or takes 64 MB of memory."""

import gzip
import struct
import tracemalloc
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.receivers.dicom_net import DicomNode
from rtgod.receivers.live_runs import LiveRuns, tags_taken
from rtgod.receivers.run_options import RunOptions
from rtgod.sources.dicom.file import read_growing
from rtgod.sources.dicom.series import DicomSeries
from rtgod.sources.dicom.siemens_mosaic import SiemensMosaic
from tests.rtgod.receivers.test_watcher import Bridge, Server
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import enhanced, save, single_slice

MOST_BYTES = 64 * 2**20
SYNTHETIC = ("mosaic", "slice", "enhanced")
REAL = {
    "siemens-mosaic": "*.dcm", "siemens-cmrr-mosaic": "dicom/*", "siemens-xa30": "dicom/*", "ge-epirt": "dicom/*",
    "ge-hb3": "dicom/*", "philips-enhanced": "1903*.gz", "siemens-run": "dicom/*",
}  # fmt: skip
_MAKERS = {
    "mosaic": lambda number: test_mosaic.dicom(number),
    "slice": lambda number: single_slice(1, number - 1),
    "enhanced": lambda number: enhanced([number]),
}


@pytest.fixture(scope="module")
def series(request, tmp_path_factory):
    """The bytes of the first three files of a series, by its name."""

    @cache
    def of(name):
        if name in SYNTHETIC:
            folder = tmp_path_factory.mktemp("series")
            return [save(_MAKERS[name](number), folder / f"{number}.dcm").read_bytes() for number in (1, 2, 3)]
        data = request.getfixturevalue("shared_data")
        paths = sorted((data / name).glob(REAL[name]))[:2]
        return [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths]

    return of


def damages():
    """Ways to damage a file: a byte anywhere in its header, a cut anywhere, a length of 2 GiB, a part that is junk."""
    place = st.floats(0, 1, exclude_max=True)
    lengths = st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**32 - 16, 2**30, 2**26])
    return st.one_of(
        st.tuples(st.just("byte"), place, st.integers(0, 255)),
        st.tuples(st.just("cut"), place, st.just(0)),
        st.tuples(st.just("length"), place, lengths),
        st.tuples(st.just("word"), place, lengths),
        st.tuples(st.just("junk"), place, st.binary(max_size=80)),
    )


def header_length(content):
    """Where the element of the voxels begins, or the end of the file."""
    place = content.rfind(b"\xe0\x7f\x10\x00")
    return place if place > 0 else len(content)


@cache
def length_places(content):
    """Where the lengths of elements with explicit representations are, and how many bytes they have."""
    long = (b"OB", b"OW", b"SQ", b"UN", b"UT")
    short = (b"UI", b"LO", b"SH", b"DS", b"IS", b"US", b"CS", b"TM", b"DA", b"PN", b"UL", b"ST", b"FD")
    places = []
    for place in range(132, min(header_length(content), 2**18) - 12):
        if (kind := content[place + 4 : place + 6]) in long:
            places.append((place + 8, 4))
        elif kind in short:
            places.append((place + 6, 2))
    return places


def damaged(content, damage):
    kind, where, what = damage
    changed = bytearray(content)
    place = int(where * (header_length(content) - 4))
    if kind == "byte":
        changed[place] = what
    elif kind == "cut":
        del changed[int(where * len(changed)) :]
    elif kind == "length" and length_places(content):
        place, n_bytes = length_places(content)[int(where * len(length_places(content)))]
        changed[place : place + n_bytes] = struct.pack("<I", what)[:n_bytes]
    elif kind in ("length", "word"):
        changed[place : place + 4] = struct.pack("<I", what)
    else:
        changed[place : place + len(what)] = what
    return bytes(changed)


def watch(files, folder):
    (folder / "export").mkdir()
    bridge = Bridge(folder / "export")
    for number, content in enumerate(files):
        (folder / "export" / f"{number}.dcm").write_bytes(content)
        bridge.step()
    bridge.step(1)
    bridge.step(10)
    bridge.stop()


def receive(files, _):
    lines = []
    node = DicomNode.__new__(DicomNode)  # without its sockets
    node._tell, node._tags = lines.append, tags_taken()
    node._runs = LiveRuns(Server(), RunOptions(), lines.append)
    for content in files:
        node._take(content)
        node._runs.step()
    node._runs.end()


def replay(files, folder):
    for number, content in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(content)
    try:
        for _ in DicomSeries(folder):
            pass
    except InputError as error:
        assert str(error)  # noqa: PT017 # whether it is raised depends on the bytes


@pytest.mark.parametrize("taker", [watch, receive, replay])
@pytest.mark.parametrize("name", [*SYNTHETIC, *REAL])
@pytest.mark.xdist_group("damaged")
@given(damage=st.lists(damages(), min_size=1, max_size=3), which=st.integers(0, 1))
@settings(deadline=None, max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_hangs_crashes_or_fills_memory(series, tmp_path_factory, name, taker, damage, which):
    files = list(series(name))
    for one in damage:
        if len(files[which % len(files)]) > 400:
            files[which % len(files)] = damaged(files[which % len(files)], one)
    length_places.cache_clear()
    folder = tmp_path_factory.mktemp("damaged")
    tracemalloc.start()
    try:
        taker(files, folder)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_a_length_of_two_gigabytes_sets_nothing_aside(tmp_path):
    """In every element of a file that is read, one after another."""
    content = save(test_mosaic.dicom(1), tmp_path / "whole.dcm").read_bytes()
    tracemalloc.start()
    for place, n_bytes in length_places(content):
        changed = bytearray(content)
        changed[place : place + n_bytes] = struct.pack("<I", 2**31 - 1)[:n_bytes]
        (tmp_path / "long.dcm").write_bytes(changed)
        read_growing(tmp_path / "long.dcm", tags_taken())
    assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()


def test_a_csa_header_that_goes_round_in_circles_ends(tmp_path):
    """Lengths of items that are negative numbers, as many as there can be."""
    header = read_growing(save(test_mosaic.dicom(1), tmp_path / "whole.dcm"), tags_taken())[0]
    csa = header.get_item(0x00291010)
    name = b"NumberOfImagesInMosaic".ljust(64, b"\0")
    field = name + bytes(12) + struct.pack("<i", 2**31 - 1) + bytes(4)
    circle = b"SV10" + bytes(4) + struct.pack("<I4x", 1) + field + struct.pack("<4xi8x", -16) + bytes(200)
    header[0x00291010] = csa._replace(value=circle, length=len(circle))
    with pytest.raises(InputError, match="missing or damaged"):
        SiemensMosaic().pieces(tmp_path, header)


def test_a_deflated_file_is_unpacked_only_as_far_as_an_image_can_go(tmp_path):
    import zlib

    dataset = test_mosaic.dicom(1)
    whole = save(dataset, tmp_path / "whole.dcm").read_bytes()
    syntax = whole.index(b"1.2.840.10008.1.2.1\0")
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = bomb.compress(bytes(2**27)) + bomb.flush()
    meta = bytearray(whole[:syntax] + b"1.2.840.10008.1.2.1.99")
    meta[syntax - 2 : syntax] = struct.pack("<H", 22)
    meta[140:144] = struct.pack("<I", len(meta) - 144)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "bomb.dcm").write_bytes(bytes(meta) + packed)
    tracemalloc.start()
    assert read_growing(tmp_path / "export" / "bomb.dcm", tags_taken()) == (None, 0, None)
    with pytest.raises(InputError, match="deflated DICOM file"):
        DicomSeries(tmp_path / "export")
    assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()
