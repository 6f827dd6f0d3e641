"""Images, words and pictures, found in folders and tables as labs keep them."""

from __future__ import annotations

import unicodedata

import pytest

from rtgod.errors import InputError
from stimulus.paradigm.schedule import Image
from stimulus.paradigm.stimulus_files import find_images, images_left_out, images_to_show, pictures_of, read_names


@pytest.fixture
def folder(tmp_path):
    def with_files(*names: str):
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "images"

    return with_files


class TestImages:
    def test_found_by_name_in_folders_too(self, folder):
        found = find_images(folder("n2/n2_7.JPEG", "n1_3.png", "readme.txt", "n3_1.tiff"))
        assert list(found) == ["n1_3", "n2_7", "n3_1"]
        assert found["n2_7"].name == "n2_7.JPEG"
        assert images_to_show(found) == [Image("n1_3", "n1"), Image("n2_7", "n2"), Image("n3_1", "n3")]

    def test_hidden_files_and_folders_with_an_ending_are_no_images(self, folder):
        path = folder("._n1_3.png", "n1_3.png")
        (path / "album.png").mkdir()
        assert list(find_images(path)) == ["n1_3"]

    def test_two_of_one_name_are_refused(self, folder):
        with pytest.raises(InputError, match=r"a\.jpg and .*a\.png have one name"):
            find_images(folder("a.png", "a.jpg"))

    def test_none(self, folder, tmp_path):
        with pytest.raises(InputError, match="no image in it"):
            find_images(folder("readme.txt"))
        with pytest.raises(InputError, match=r"images .*nowhere: no such folder"):
            find_images(tmp_path / "nowhere")


class TestPictures:
    def test_by_name_by_beginning_and_by_folder(self, folder):
        path = folder("owl.png", "duck_2.jpg", "duck_1.jpg", "swan/b.png", "swan/a.png", "unknown.png")
        assert pictures_of(path, ["bat", "swan", "duck", "owl"]) == {
            1: str(path / "swan" / "a.png"),
            2: str(path / "duck_1.jpg"),
            3: str(path / "owl.png"),
        }

    def test_a_picture_stands_for_one_candidate(self, folder):
        path = folder("fire_truck.png")
        assert pictures_of(path, ["fire", "fire_truck"]) == {1: str(path / "fire_truck.png")}
        assert pictures_of(path, ["fire"]) == {0: str(path / "fire_truck.png")}

    def test_no_folder(self, tmp_path):
        with pytest.raises(InputError, match=r"pictures .*nowhere: no such folder"):
            pictures_of(tmp_path / "nowhere", ["owl"])


class TestNames:
    def read(self, tmp_path, text):
        (tmp_path / "names.tsv").write_text(text, encoding="utf-8")
        return read_names(tmp_path / "names.tsv")

    def test_words_and_categories_that_stand_for_themselves(self, tmp_path):
        names = self.read(tmp_path, "category_id\tname\tnotes\nn2\tフクロウ\tx\nn1\tn/a\t\nn3\n")
        assert list(names.items()) == [("n2", "フクロウ"), ("n1", "n1"), ("n3", "n3")]
        assert self.read(tmp_path, "category_id\nn1\n") == {"n1": "n1"}

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "empty"),
            ("id\tname\nn1\towl\n", "line 1: no column 'category_id'"),
            ("category_id\tname\nn1\towl\n\t bat\n", "line 3, column category_id: is empty"),
            ("category_id\tname\nn1\towl\nn1\tbat\n", "line 3, column category_id: 'n1' is there twice"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, text, complaint):
        with pytest.raises(InputError, match=f"names.tsv.*{complaint}"):
            self.read(tmp_path, text)


def test_names_are_found_however_accents_are_stored(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "naïve_1") for form in ("NFC", "NFD"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{decomposed}.png").touch()
    assert list(find_images(tmp_path / "images")) == [composed]
    assert pictures_of(tmp_path / "images", ["naïve"]) == {0: str(tmp_path / "images" / f"{decomposed}.png")}
    (tmp_path / "names.tsv").write_text(unicodedata.normalize("NFD", "category_id\tname\nnaïve\tガム\n"))
    assert read_names(tmp_path / "names.tsv") == {"naïve": "ガム"}
    (tmp_path / "images" / f"{composed}.png").touch()
    with pytest.raises(InputError, match=r"differ in how accents are stored only \('nai\\u0308ve_1.png'"):
        find_images(tmp_path / "images")


def test_images_of_kinds_that_are_not_looked_for_are_counted(folder):
    there = folder("a.png", "b/c.GIF", "d.gif", "e.heic", ".f.gif", "notes.txt")
    assert images_left_out(there) == ["files: 3 of a kind that is not looked for (.gif, .heic), left out: save as PNG"]
    assert images_left_out(folder("a.png").parent / "nowhere") == []
