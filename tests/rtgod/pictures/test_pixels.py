"""Image files of every kind that labs have: the pixels that the network and the participant both see."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.pictures.image_names import IMAGE_SUFFIXES
from rtgod.pictures.pixels import BACKGROUND, OTHER_ENDINGS, Change, read_picture, told

PIL = pytest.importorskip("PIL", reason="Pillow comes with rtgod's extras")
from PIL import Image, ImageCms  # noqa: E402 # after it is known to be there

GREY = np.array([int(BACKGROUND[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)


def wide(rng=None, shape=(12, 20)):
    """Numbers of 16 bits that fill their range."""
    return (rng or np.random.default_rng(1)).integers(0, 65536, shape).astype(np.uint16)


def png(path, pixels, colour_type, chunks=b""):
    """A PNG of 16 bits a channel, which Pillow cannot write in colour."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunks
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


# ---------------------------------------------------------------------------------------------- ordinary pictures


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
def test_eight_bits_in_colour_are_as_they_are_stored(tmp_path, noise, name):
    Image.fromarray(noise).save(tmp_path / name, lossless=True)
    found = read_picture(tmp_path / name)
    assert found.changes == ()
    assert found.pixels.dtype == np.uint8
    np.testing.assert_array_equal(found.pixels, noise)


def test_a_photograph_is_what_pillow_reads(tmp_path, noise):
    for kind, picture in (("RGB", noise), ("L", noise[..., 0])):
        Image.fromarray(picture).save(tmp_path / "a.jpg")
        found = read_picture(tmp_path / "a.jpg")
        assert found.changes == (), kind
        np.testing.assert_array_equal(found.pixels, np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_black_and_white_and_palettes_lose_nothing(tmp_path, noise, mode):
    image = Image.fromarray(noise).convert(mode)
    image.save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    assert found.changes == ()
    np.testing.assert_array_equal(found.pixels, np.asarray(image.convert("RGB")))


# ----------------------------------------------------------------------------------------------------- 16 bits


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_of_grey_are_the_higher_eight(tmp_path, ending):
    grey = wide()
    Image.fromarray(grey).save(tmp_path / f"a{ending}")
    found = read_picture(tmp_path / f"a{ending}")
    assert found.changes == (Change.REDUCED,)
    np.testing.assert_array_equal(found.pixels, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, 2))


@given(seed=st.integers(0, 1000), colour_type=st.sampled_from([0, 2, 4, 6]))
@settings(max_examples=30)
def test_sixteen_bits_of_any_png_are_its_higher_eight(tmp_path_factory, seed, colour_type):
    n_channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    pixels = wide(np.random.default_rng(seed), (5, 7, n_channels))
    if colour_type in (4, 6):
        pixels[..., -1] = 65535  # opaque
    found = read_picture(png(tmp_path_factory.mktemp("png") / "a.png", pixels, colour_type))
    assert found.changes == (Change.REDUCED,)
    expected = (pixels >> 8).astype(np.uint8)[..., : 1 if n_channels < 3 else 3]
    np.testing.assert_array_equal(found.pixels, np.broadcast_to(expected, (5, 7, 3)))


def test_sixteen_bits_of_a_tiff_whose_zero_is_white(tmp_path):
    grey, path = wide(), tmp_path / "a.tif"
    Image.fromarray(grey).save(path)
    one_is_white = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert path.read_bytes().count(one_is_white) == 1
    path.write_bytes(path.read_bytes().replace(one_is_white, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    np.testing.assert_array_equal(read_picture(path).pixels[..., 0], 255 - (grey >> 8))


@pytest.mark.parametrize("n_bits", [8, 10, 12])
def test_fewer_bits_stored_in_sixteen_are_refused_since_they_would_be_black(tmp_path, n_bits):
    Image.fromarray(wide() >> (16 - n_bits)).save(tmp_path / "camera.png")
    with pytest.raises(InputError, match=r"camera.png: 16 bits a channel.*% of white.*[Ss]ave it with 8 bits"):
        read_picture(tmp_path / "camera.png")


def test_a_black_picture_of_sixteen_bits_is_black(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a.png")
    assert not read_picture(tmp_path / "a.png").pixels.any()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_whose_white_is_not_known_are_refused_by_name(tmp_path, dtype):
    Image.fromarray(np.linspace(0, 1, 16).reshape(4, 4).astype(dtype)).save(tmp_path / "odd.tif")
    with pytest.raises(InputError, match=r"odd.tif: its pixels are .*how bright is white\? Save it with 8 bits"):
        read_picture(tmp_path / "odd.tif")


# --------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_an_image_is_upright_whatever_its_exif_says(tmp_path, noise, orientation, name):
    turns = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise).save(tmp_path / name, exif=exif, lossless=True)
    found = read_picture(tmp_path / name)
    np.testing.assert_array_equal(found.pixels, turns[orientation](noise))
    assert found.changes == (() if orientation == 1 else (Change.TURNED,))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_means_nothing_turns_nothing(tmp_path, noise, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise).save(tmp_path / "a.png", exif=exif)
    assert read_picture(tmp_path / "a.png").changes == ()


def test_damaged_exif_data_do_not_lose_the_picture(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, noise)


# -------------------------------------------------------------------------------------------------- transparency


def test_what_is_transparent_shows_the_displays_grey_and_not_the_colour_beneath(tmp_path, noise):
    alpha = np.full(noise.shape[:2], 255, np.uint8)
    alpha[:6] = 0
    Image.fromarray(np.dstack([noise, alpha])).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    assert found.changes == (Change.LAID_ON_GREY,)
    assert (found.pixels[:6] == GREY).all()
    np.testing.assert_array_equal(found.pixels[6:], noise[6:])


def test_half_transparent_is_half_way(tmp_path):
    Image.new("LA", (3, 3), (200, 128)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_picture(tmp_path / "a.png").pixels, (200 * 128 + GREY[0] * 127) / 255, atol=1)


def test_a_palette_and_a_single_colour_may_be_transparent(tmp_path):
    two = np.repeat([[0, 1]], 2, 0).astype(np.uint8)
    palette = Image.fromarray(two).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    Image.fromarray(np.where(two[..., None] == 0, [255, 0, 0], [0, 255, 0]).astype(np.uint8)).save(
        tmp_path / "rgb.png", transparency=(255, 0, 0)
    )
    for name in ("p.png", "rgb.png"):
        found = read_picture(tmp_path / name)
        assert found.changes == (Change.LAID_ON_GREY,), name
        assert found.pixels[0].tolist() == [GREY.tolist(), [0, 255, 0]], name


def test_opaque_channels_of_transparency_change_nothing(tmp_path, noise):
    Image.fromarray(np.dstack([noise, np.full(noise.shape[:2], 255, np.uint8)])).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    assert found.changes == ()
    np.testing.assert_array_equal(found.pixels, noise)


def test_one_transparent_colour_of_sixteen_bits_is_refused(tmp_path):
    pixels = wide(shape=(4, 4, 3))
    key = struct.pack(">HHH", *pixels[0, 0].tolist())
    chunk = struct.pack(">I", 6) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    with pytest.raises(InputError, match=r"a.png: one colour.*8 bits"):
        read_picture(png(tmp_path / "a.png", pixels, 2, chunk))


# ------------------------------------------------------------------------------------------------------- the rest


def test_of_several_frames_or_pages_the_first_is_taken_and_this_is_said(tmp_path, noise):
    first, second = Image.fromarray(noise), Image.fromarray(255 - noise)
    for name, how in (("a.tif", {}), ("a.webp", {"lossless": True}), ("a.png", {}), ("a.gif", {})):
        first.save(tmp_path / name, save_all=True, append_images=[second], **how)
        found = read_picture(tmp_path / name)
        assert found.changes == (Change.FIRST_FRAME,), name
        if name != "a.gif":  # which has 256 colours
            np.testing.assert_array_equal(found.pixels, noise)


def test_four_inks_become_three_colours_and_this_is_said(tmp_path, noise):
    image = Image.fromarray(noise).convert("CMYK")
    image.save(tmp_path / "a.tif")
    found = read_picture(tmp_path / "a.tif")
    assert found.changes == (Change.FROM_CMYK,)
    np.testing.assert_array_equal(found.pixels, np.asarray(image.convert("RGB")))


def test_a_profile_other_than_srgb_is_told_and_not_applied(tmp_path, noise):
    for name, profile, changes in (
        ("srgb.png", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), ()),
        ("lab.png", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), (Change.PROFILE_IGNORED,)),
        ("damaged.png", b"no profile", (Change.PROFILE_IGNORED,)),
    ):
        Image.fromarray(noise).save(tmp_path / name, icc_profile=profile)
        found = read_picture(tmp_path / name)
        assert found.changes == changes, name
        np.testing.assert_array_equal(found.pixels, noise)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "webp"])
def test_a_file_that_ends_too_early_is_refused_by_name(tmp_path, noise, ending):
    whole = io.BytesIO()
    image = Image.fromarray(np.tile(noise, (9, 9, 1)))
    image.save(whole, format={"jpg": "jpeg", "tif": "tiff"}.get(ending, ending))
    for share in (0.0, 0.3, 0.7):
        path = tmp_path / f"short.{ending}"
        path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
        with pytest.raises(InputError, match=rf"short.{ending}: cannot be read \(.+\); replace or remove it"):
            read_picture(path)


@given(data=st.data())
@settings(max_examples=60)
def test_whatever_the_bytes_there_are_pixels_or_a_refusal(tmp_path_factory, data):
    whole = io.BytesIO()
    Image.fromarray(wide()).save(whole, format=data.draw(st.sampled_from(["png", "tiff"])))
    raw = bytearray(whole.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=5)):
        raw[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("bytes") / "a.png"
    path.write_bytes(raw)
    with contextlib.suppress(InputError):
        pixels = read_picture(path).pixels
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)


def test_what_was_converted_is_counted_and_named():
    changes = [("a", [Change.TURNED]), ("b", []), ("c", [Change.REDUCED, Change.TURNED])]
    assert told(changes, 3) == [f"1 of 3 images: {Change.REDUCED} (c)", f"2 of 3 images: {Change.TURNED} (a, c)"]
    many = told([(str(n), [Change.REDUCED]) for n in range(9)], 20)
    assert many == [f"9 of 20 images: {Change.REDUCED} (0, 1, 2, …)"]
    assert told([], 4) == []


def test_no_ending_is_both_read_and_left_out():
    assert not set(IMAGE_SUFFIXES) & OTHER_ENDINGS
