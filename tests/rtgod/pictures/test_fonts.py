"""Which letters fonts have, which font of a machine has those asked for, and what is told where none has.

Only matplotlib's fonts are sure to be there: DejaVu Sans has Arabic and Hebrew letters and no Korean ones, STIX has
neither.
"""

from __future__ import annotations

import stat
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

matplotlib = pytest.importorskip("matplotlib", reason="its fonts are read")
pytest.importorskip("fontTools")
from matplotlib.figure import Figure  # noqa: E402 # after it is known to be there

from rtgod.pictures import fonts  # noqa: E402
from rtgod.pictures.fonts import Face, Typefaces, find_face, is_drawn, is_side_by_side, letter_figure, letters_of  # noqa: E402

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SANS, STIX = Face(str(FONTS / "DejaVuSans.ttf")), Face(str(FONTS / "STIXGeneral.ttf"))
KOREAN, ARABIC, HEBREW = "강아지", "سمكة ذهبية", "דג זהב"
REMEDY = "set font_file in the settings"


@pytest.fixture(autouse=True)
def forget():
    find_face.cache_clear()
    yield
    find_face.cache_clear()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with the given fonts and without fontconfig."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")

    def with_fonts(*faces: Face):
        for face in faces:
            (tmp_path / "fonts").mkdir(exist_ok=True)
            (tmp_path / "fonts" / Path(face.path).name).symlink_to(face.path)
        monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path / "fonts"])

    with_fonts()
    return with_fonts


def test_a_fonts_letters_are_those_of_its_character_map(tmp_path):
    assert letters_of(SANS) >= set(map(ord, "aéЖ" + HEBREW.replace(" ", "")))
    assert not letters_of(SANS) & set(map(ord, KOREAN))
    (tmp_path / "notes.ttf").write_text("no font")
    assert letters_of(Face(str(tmp_path / "notes.ttf"))) == frozenset()
    assert letters_of(Face(str(tmp_path / "nowhere.ttf"))) == frozenset()


@pytest.mark.parametrize("text", ["dog", "été", "дракон", "χρυσός", "金魚", "ガム", KOREAN, "“x” – 50 %", "a\nb", ""])
def test_letters_that_stand_side_by_side(text):
    assert is_side_by_side(text)


@pytest.mark.parametrize(
    "text", [ARABIC, HEBREW, "ปลาทอง", "कोशिकायें", "q\u0308", "👨\u200d👩\u200d👧", "ம", "བོད", "ᄫ\u1161"]
)
def test_letters_that_are_joined_stacked_reordered_or_from_the_right(text):
    assert not is_side_by_side(unicodedata.normalize("NFC", text))


@given(st.text())
def test_a_text_stands_side_by_side_if_and_only_if_all_of_its_letters_do(text):
    shown = text.replace("\n", "")
    assert is_side_by_side(shown) == all(map(is_side_by_side, shown))


def test_joiners_and_spaces_need_no_picture():
    assert not any(map(is_drawn, " \u200d\u200e\ufe0f\u3000\n"))
    assert all(map(is_drawn, "a金٠"))


class TestCovering:
    def test_texts_whose_letters_are_all_there_say_nothing(self):
        covered = Typefaces(SANS).cover(["dog", ARABIC, "Übergröße", "U\u0308"])
        assert covered.notes("DejaVuSans") == covered.problems("names", REMEDY) == []

    def test_a_font_that_has_the_letters_is_taken_and_told(self, machine):
        machine(SANS, STIX)
        typefaces = Typefaces(STIX)
        covered = typefaces.cover(["dog", ARABIC, HEBREW])
        (found,) = covered.found
        assert found.name == "DejaVuSans"
        assert typefaces.faces == (STIX, found)
        assert covered.notes("STIX") == [
            f"font STIX has no letters for {ARABIC}, {HEBREW} (2 of 3 texts): these are set in DejaVuSans"
        ]
        assert covered.problems("names", REMEDY) == []
        assert typefaces.face_of("dog") == STIX
        assert typefaces.face_of(ARABIC) == found
        again = typefaces.cover([ARABIC])
        assert not again.found, "it is there by now"

    def test_letters_that_no_font_has_are_named_with_what_to_do(self, machine):
        machine(SANS)
        covered = Typefaces(SANS).cover(["dog", KOREAN, "고양이", "金魚", "naïve"])
        (line,) = covered.problems("names", REMEDY)
        assert line == (
            f"the font has no letters for {KOREAN}, 고양이, 金魚 (3 of 5 names, lacking 강아지고양이金魚): "
            "set font_file in the settings to a TTF, OTF or TTC file that has them, or install one (Debian: "
            "fonts-nanum, fonts-noto-cjk)"
        )

    def test_control_characters_in_names_are_written_out(self, machine):
        machine()
        (line,) = Typefaces(SANS).cover(["\x1b[31m강"]).problems("names", REMEDY)
        assert "\x1b" not in line

    def test_scripts_that_nothing_can_shape_are_named(self, monkeypatch):
        monkeypatch.setattr(fonts, "shapes", lambda: False)
        (line,) = Typefaces(SANS).cover(["dog", ARABIC]).problems("names", REMEDY)
        assert line.startswith(f"the letters of {ARABIC} (1 of 2 names) must be joined")
        assert "FriBiDi" in line


class TestFinding:
    @pytest.fixture
    def fontconfig(self, tmp_path, monkeypatch):
        """A PATH with programs of fontconfig that say what they are told to."""
        monkeypatch.setenv("PATH", str(tmp_path))

        def says(match: str, listed: str):
            for name, answer in (("fc-match", match), ("fc-list", listed)):
                asked = "assert 'charset=5d2 5d3:scalable=true:color=false' in sys.argv[2], sys.argv"
                (tmp_path / name).write_text(f"#!{sys.executable}\nimport sys\n{asked}\nprint({answer!r})\n")
                (tmp_path / name).chmod(stat.S_IRWXU)

        return says

    def test_what_fontconfig_prefers_if_it_has_the_letters(self, fontconfig):
        fontconfig(f"{SANS.path}\t0", "")
        assert find_face(frozenset("גד")) == SANS

    def test_else_the_plainest_of_its_list(self, fontconfig):
        bold, serif = (str(FONTS / f"DejaVu{name}.ttf") for name in ("Sans-Bold", "Serif"))
        rows = [(serif, 80, 0, "DejaVu Serif"), (bold, 200, 0, "DejaVu Sans"), (SANS.path, 80, 0, "DejaVu Sans")]
        listed = "\n".join(f"{path}\t0\t{weight}\t{slant}\t{family}" for path, weight, slant, family in rows)
        fontconfig(f"{STIX.path}\t0", listed)
        assert find_face(frozenset("גד")) == SANS

    def test_a_font_that_does_not_have_them_is_not_taken_whoever_says_so(self, fontconfig):
        fontconfig(f"{STIX.path}\t0", f"{STIX.path}\t0\t80\t0\tSTIX\nnowhere.ttf\t0\t80\t0\tx\ngarbage")
        assert find_face(frozenset("גד")) is None

    @pytest.mark.parametrize("platform", ["win32", "darwin"])
    def test_windows_and_macos_bring_fonts_along(self, tmp_path, monkeypatch, platform):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(fonts, "_BROUGHT_ALONG", ("nowhere.ttc", STIX.path, SANS.path))
        monkeypatch.setattr(fonts, "_folders", list)
        assert find_face(frozenset("גד")) == SANS

    @pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
    def test_every_system_has_folders_of_fonts(self, monkeypatch, platform):
        monkeypatch.setattr(sys, "platform", platform)
        assert all(folder.is_absolute() or platform == "win32" for folder in fonts._folders())
        assert fonts._folders()

    def test_without_fontconfig_the_folders_are_looked_through(self, machine):
        machine(STIX, SANS)
        found = find_face(frozenset("גד"))
        assert found is not None
        assert found.name == "DejaVuSans"
        assert find_face(frozenset(KOREAN)) is None


class TestFigures:
    def test_a_label_is_set_in_a_font_that_has_its_letters(self, machine):
        machine(SANS)
        figure = Figure()
        plain, hebrew, _ = (figure.text(0, 0, words) for words in ("dog", HEBREW, KOREAN))
        assert letter_figure(figure, STIX, str) == [KOREAN]
        assert plain.get_fontproperties().get_file() is None
        assert Path(hebrew.get_fontproperties().get_file()).name == "DejaVuSans.ttf"
        assert letter_figure(figure, SANS, str) == [KOREAN], "matplotlib's own font has the rest"

    def test_the_displays_font_comes_before_installed_ones(self, machine):
        machine()
        figure = Figure()
        plain, hebrew = (figure.text(0, 0, words) for words in ("dog", HEBREW))
        assert letter_figure(figure, STIX, str) == [HEBREW]
        assert letter_figure(figure, STIX, str, [SANS]) == []
        assert plain.get_fontproperties().get_file() is None
        assert Path(hebrew.get_fontproperties().get_file()).name == "DejaVuSans.ttf"

    def test_a_label_whose_letters_are_in_several_fonts_is_set_in_all_of_them(self, monkeypatch):
        letters = {STIX: "6 ", SANS: "דג", Face("thai"): "ปลา"}
        monkeypatch.setattr(fonts, "letters_of", lambda face: frozenset(map(ord, letters[face])))
        monkeypatch.setattr(
            fonts, "find_face", lambda asked, _="": next((f for f in letters if asked <= set(letters[f])), None)
        )
        figure = Figure()
        label = figure.text(0, 0, "6 ปลา דג")
        before = label.get_fontproperties().get_family()
        assert letter_figure(figure, STIX, lambda path: f"family of {path}") == []
        assert label.get_fontproperties().get_family() == [
            *before,
            *(f"family of {face.path}" for face in (Face("thai"), SANS)),
        ]
