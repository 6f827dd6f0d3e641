"""Text as pixels, letter by letter, against Pillow's own drawing of the whole line; and fonts found and not found."""

from __future__ import annotations

import stat
import sys
import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from rtgod.errors import InputError
from rtgod.pictures import fonts
from rtgod.pictures.fonts import Face
from stimulus.drawing import lettering
from stimulus.drawing.lettering import Drawing, Lettering, find_font, fitting

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SANS, MONO = str(FONTS / "DejaVuSans.ttf"), str(FONTS / "DejaVuSansMono.ttf")


def placed(drawing: Drawing, width=800, height=200):
    """A drawing on a large black picture, its position in the middle."""
    picture = np.zeros((height, width), np.uint8)
    bottom, left = height // 2 - drawing.bottom, width // 2 + drawing.left
    rows, columns = drawing.pixels.shape
    picture[bottom - rows : bottom, left : left + columns] = drawing.pixels
    return picture


def pillows(line, size, left, width=800, height=200):
    font = ImageFont.truetype(MONO, size, layout_engine=ImageFont.Layout.BASIC)
    top = height // 2 - sum(font.getmetrics()) // 2
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).text((width // 2 + left, top), line, 255, font)
    return np.asarray(picture)


@pytest.mark.parametrize("line", ["goldfish", "A fjord, j", "“été”", "x"])
@pytest.mark.parametrize("size", [11, 24, 41])
def test_a_line_is_the_one_that_pillow_draws(line, size):
    font = Lettering(MONO, bold=False, height_px=size)
    length = font.length_px(line)
    for align, left in (("left", 0), ("centre", -round(length / 2)), ("right", -length)):
        np.testing.assert_array_equal(placed(font.write(line, align)), pillows(line, size, left))


def test_lines_are_beneath_each_other_and_centred():
    font = Lettering(MONO, bold=False, height_px=24)
    both = placed(font.write("two\nlines", "centre")).astype(int)
    pitch = font.write("I\nI", "left").pixels.shape[0] - font.write("I", "left").pixels.shape[0]
    upper, lower = (placed(font.write(line, "centre")).astype(int) for line in ("two", "lines"))
    expected = np.roll(upper, pitch // 2 - pitch, axis=0) + np.roll(lower, pitch // 2, axis=0)
    np.testing.assert_array_equal(np.minimum(expected, 255), both)


@pytest.mark.parametrize("words", ["", " ", "\n"])
def test_nothing_is_written_as_nothing(words):
    assert not Lettering(SANS, bold=False, height_px=20).write(words, "left").pixels.any()


def test_nothing_empty_is_drawn():
    pixels = Lettering(SANS, bold=False, height_px=40).write("dog", "left").pixels
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert edge.any()


def test_what_is_too_long_is_set_smaller_until_it_fits():
    assert fitting("short", SANS, False, 40, 400).height_px == 40
    for words in ("a text that is rather long", "short\nand one that is longer"):
        font = fitting(words, SANS, False, 40, 300)
        larger = Lettering(SANS, bold=False, height_px=round(font.height_px / 0.85))
        longest = max(words.split("\n"), key=len)
        assert font.length_px(longest) <= 300 < larger.length_px(longest)
    assert fitting("endless " * 100, SANS, False, 40, 300).height_px < 8, "it ends, though it does not fit"


def test_a_file_that_is_no_font(tmp_path):
    (tmp_path / "notes.ttf").write_text("no font")
    for file in (tmp_path / "notes.ttf", tmp_path / "nowhere.ttf"):
        with pytest.raises(InputError, match=f"{file.name}: cannot be read.*TTF, OTF or TTC"):
            Lettering(str(file), bold=False, height_px=20)


class TestFonts:
    @pytest.fixture(autouse=True)
    def linux(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "linux")

    @pytest.fixture
    def matcher(self, tmp_path, monkeypatch):
        """A PATH with nothing but an fc-match that says what it is told to."""
        monkeypatch.setenv("PATH", str(tmp_path))

        def says(answer):
            program = tmp_path / "fc-match"
            asked = "assert sys.argv[1] == 'sans-serif:lang=ja'"
            program.write_text(f"#!{sys.executable}\nimport sys\n{asked}\nprint({answer!r}, end='')\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

        return says

    def test_english_needs_none(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_font("en") == ""

    def test_the_match_that_has_the_languages_letters(self, matcher):
        matcher("/fonts/gothic.ttf\nen|fr|ja|zh-cn")
        assert find_font("ja") == "/fonts/gothic.ttf"

    @pytest.mark.parametrize("answer", ["/fonts/sans.ttf\nen|jam|fr", "", "/fonts/sans.ttf\n"])
    def test_a_match_without_them_is_none(self, matcher, answer):
        matcher(answer)
        with pytest.raises(InputError, match=r"'ja'.*font_file"):
            find_font("ja")

    def test_without_a_matcher_one_has_to_be_named(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InputError, match=r"'ja'.*fonts-ipafont-gothic.*font_file"):
            find_font("ja")

    @pytest.mark.parametrize("platform", ["win32", "darwin"])
    def test_windows_and_macos_bring_one_along(self, monkeypatch, tmp_path, platform):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setitem(lettering._FONTS, "ja", ("nowhere.ttc", SANS))
        assert find_font("ja") == SANS
        monkeypatch.setitem(lettering._FONTS, "ja", ("nowhere.ttc",))
        with pytest.raises(InputError, match="font_file"):
            find_font("ja")

    def test_this_machines_has_japanese_letters(self):
        try:
            font = Lettering(find_font("ja"), bold=False, height_px=30)
        except InputError as error:
            pytest.skip(str(error))
        letters = [font.write(letter, "left").pixels for letter in "思鮮明かな"]
        missing = font.write("\U0010fffe", "left").pixels
        for pixels in letters:
            assert pixels.any()
            assert pixels.shape != missing.shape or (pixels != missing).any()


class TestOtherScripts:
    ARABIC, HEBREW = "سمكة ذهبية", "דג זהב"

    def pillows(self, line, size, left, direction="rtl"):
        """Laid out by Raqm, on DejaVu Sans's own line."""
        font = ImageFont.truetype(SANS, size, layout_engine=ImageFont.Layout.RAQM)
        picture = Image.new("L", (800, 200))
        baseline = 100 - sum(font.getmetrics()) // 2 + font.getmetrics()[0]
        ImageDraw.Draw(picture).text((400 + left, baseline), line, 255, font, anchor="ls", direction=direction)
        return np.asarray(picture)

    @pytest.fixture(autouse=True)
    def raqm(self):
        if not fonts.shapes():
            pytest.skip("Pillow has no Raqm here")

    @pytest.mark.parametrize("line", [ARABIC, HEBREW])
    @pytest.mark.parametrize("size", [24, 41])
    def test_a_line_from_the_right_is_laid_out_as_a_whole(self, line, size):
        font = Lettering(SANS, bold=False, height_px=size)
        length = font.length_px(line)
        for align, left in (("left", 0), ("centre", -round(length / 2)), ("right", -length)):
            np.testing.assert_array_equal(placed(font.write(line, align)), self.pillows(line, size, left))

    def test_arabic_letters_are_joined(self):
        font = Lettering(SANS, bold=False, height_px=40)
        assert font.length_px("سمكة") < 0.9 * sum(font.length_px(letter) for letter in "سمكة")

    @pytest.mark.parametrize("words", ["Übergröße", "naïve", "ガム", "q\u0308"])
    def test_however_accents_are_stored_the_picture_is_the_same(self, words):
        font = Lettering(SANS, bold=False, height_px=30)
        composed, decomposed = (font.write(unicodedata.normalize(form, words), "left") for form in ("NFC", "NFD"))
        np.testing.assert_array_equal(placed(composed), placed(decomposed))

    def test_a_mark_that_cannot_be_composed_stands_above_its_letter(self):
        font = Lettering(SANS, bold=False, height_px=40)
        assert font.length_px("q\u0308") == font.length_px("q")
        assert font.write("q\u0308", "left").pixels.shape[0] > font.write("q", "left").pixels.shape[0]

    @pytest.mark.parametrize(("words", "direction"), [("דג זהב", "rtl"), ("Ɣ☃", None)])
    def test_letters_that_the_font_lacks_are_anothers_on_the_same_line(self, words, direction):
        """STIX has no Hebrew letters, nor those two others."""
        stix = str(FONTS / "STIXGeneral.ttf")
        font = Lettering(stix, bold=False, height_px=30, fallbacks=(Face(SANS),))
        engine = ImageFont.Layout.RAQM if direction else ImageFont.Layout.BASIC
        other = ImageFont.truetype(SANS, 30, layout_engine=engine)
        metrics = ImageFont.truetype(stix, 30).getmetrics()
        picture = Image.new("L", (800, 200))
        baseline = 100 - sum(metrics) // 2 + metrics[0]
        ImageDraw.Draw(picture).text((400, baseline), words, 255, other, anchor="ls", direction=direction)
        np.testing.assert_array_equal(placed(font.write(words, "left")), np.asarray(picture))
        np.testing.assert_array_equal(
            placed(font.write("dog", "left")), placed(Lettering(stix, bold=False, height_px=30).write("dog", "left"))
        )

    def test_a_mixed_line_is_one_font_s_if_that_has_all_of_its_letters(self):
        font = Lettering(str(FONTS / "STIXGeneral.ttf"), bold=False, height_px=30, fallbacks=(Face(SANS),))
        own = Lettering(SANS, bold=False, height_px=30)
        assert font.length_px("to דג") == own.length_px("to דג") == pytest.approx(own.length_px("to ") + 29, abs=2)

    def test_without_raqm_letters_stand_side_by_side_and_nothing_breaks(self, monkeypatch):
        monkeypatch.setattr(lettering, "shapes", lambda: False)
        assert Lettering(SANS, bold=False, height_px=30).write(self.ARABIC, "left").pixels.any()
