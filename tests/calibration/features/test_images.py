import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.features.images import ImageList, find_images, first_few, list_categories, list_images
from rtgod.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Images of two categories, one of them in a folder of its own, and files that are none."""
    for name in ("b/b_1.JPEG", "a/a_2.png", "a/deep/a_1.tif", "a/notes.txt", "b/.hidden.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    return tmp_path / "images"


def table(folder, text, name="images.tsv"):
    (folder / name).write_text(text)
    return folder / name


def test_images_of_a_folder_are_called_as_their_files(folder):
    found = list_images(folder)
    assert found.paths == ("a/a_2.png", "a/deep/a_1.tif", "b/b_1.JPEG")
    assert found.ids == ("a_2", "a_1", "b_1")
    assert found.categories == ()
    assert found.files == [folder / path for path in found.paths]
    assert find_images(folder) == {name: [path] for name, path in zip(found.ids, found.files, strict=True)}


def test_categories_are_the_folders(folder):
    found = list_categories(folder)
    assert found.ids == ("a/a_2", "a/deep/a_1", "b/b_1")
    assert found.categories == ("a", "a", "b")


@pytest.mark.parametrize("separator", ["\t", ","])
def test_a_table_says_it_all_and_rows_of_a_category_come_together(tmp_path, separator):
    rows = [
        "category_id;path;name;image_id",
        "n2;x/1.png;green owl;one",
        "n1;2.png;café;two",
        "n2;/abs/3.png;green owl;three",
    ]
    found = list_categories(table(tmp_path, "\n".join(rows).replace(";", separator)))
    assert found.ids == ("one", "three", "two")
    assert found.categories == ("n2", "n2", "n1")
    assert found.files == [tmp_path / "x/1.png", Path("/abs/3.png"), tmp_path / "2.png"]
    assert found.names == {"n2": "green owl", "n1": "café"}


def test_a_table_of_paths_alone_is_enough_for_features(tmp_path):
    found = list_images(table(tmp_path, "path\nx/1.png\ny/2.png\n"))
    assert (found.ids, found.categories, found.names) == (("1", "2"), (), {})


def test_lists_are_told_apart_by_names_paths_and_categories():
    def listed(ids=("a", "b"), paths=("a.png", "b.png"), categories=("x", "y"), names=()):
        return ImageList(Path("anywhere"), ids, paths, categories, dict(names)).sha256()

    others = [
        listed(ids=("a", "c")), listed(paths=("a.png", "c.png")), listed(categories=("x", "x")), listed(categories=()),
        listed(ids=("b", "a"), paths=("b.png", "a.png")), listed(names={"x": "owl"}),
    ]  # fmt: skip
    assert len({listed(), *others}) == 7
    assert listed() == ImageList(Path("elsewhere"), ("a", "b"), ("a.png", "b.png"), ("x", "y")).sha256()


def test_of_many_names_the_first_few_are_given():
    assert first_few(["a", "b"]) == "a, b"
    assert first_few([str(i) for i in range(20)]) == "0, 1, 2, 3, 4, … (20 in all)"


@pytest.mark.parametrize(
    ("find", "what"),
    [
        (lambda d: list_images(d / "images" / "none"), "neither a folder of images nor a table"),
        (lambda d: list_images(table(d, "path\n")), "no images"),
        (lambda d: list_images(table(d, "")), "needs a column path, has none"),
        (lambda d: list_images(table(d, "file\ta\nx\ty\n")), "needs a column path, has file, a"),
        (lambda d: list_images(table(d, "path\timage_id\nx.png\n")), "row 2: not as many cells as there are columns"),
        (lambda d: list_images(table(d, "path\timage_id\nx.png\tx\ty\n")), "row 2: not as many cells"),
        (lambda d: list_images(table(d, "path\tcategory_id\nx.png\ta\n\t b\n")), "row 3: path is empty"),
        (lambda d: list_categories(table(d, "path\tcategory_id\nx.png\t \n")), "row 2: category_id is empty"),
        (lambda d: list_images(table(d, "path\na/x.png\nb/x.jpg\nc/y.png\n")), "names of several images: x; rename"),
        (lambda d: list_images(table(d, 'path,a\n"x"y,1\n')), "after line 1: .*; save it as a table"),
        (lambda d: list_categories(table(d, "path\nx.png\n")), "no column category_id; add it"),
        (lambda d: list_categories(table(d, "path\tcategory_id\nx.png\ta\n")), "of one category; .* fewer than two"),
        (lambda d: list_categories(d / "images" / "a" / "deep"), "outside of any category's folder: a_1.tif; move"),
        (lambda d: find_images(d / "nowhere"), "no images; give the folder of the shown images with --images"),
    ],
)  # fmt: skip
def test_what_is_missing_or_doubtful_is_named_and_what_to_do(folder, find, what):
    with pytest.raises(InputError, match=what) as refused:
        find(folder.parent)
    assert str(folder.parent) in str(refused.value)


def test_images_of_one_name_in_several_folders_are_called_by_their_paths(folder):
    for name in ("b/a_2.jpg", "b/deep/a_1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    found = list_images(folder)
    assert found.paths == ("a/a_2.png", "a/deep/a_1.tif", "b/a_2.jpg", "b/b_1.JPEG", "b/deep/a_1.png")
    assert found.ids == ("a/a_2", "a/deep/a_1", "b/a_2", "b_1", "b/deep/a_1")
    assert len(list_categories(folder).ids) == 5
    assert find_images(folder)["a_2"] == [folder / "a/a_2.png", folder / "b/a_2.jpg"]


class TestWhatIsLeftOutOrAlike:
    @pytest.fixture
    def categories(self, tmp_path):
        for name in ("a/1.png", "b/1.png", "empty/notes.txt", "only-gifs/1.gif", "only-gifs/2.GIF"):
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / name).touch()
        return tmp_path / "images"

    def test_folders_without_an_image_and_other_kinds_of_images_are_counted_and_named(self, categories):
        found = list_categories(categories)
        assert found.categories == ("a", "b")
        assert found.notes == (
            "folders: 2 without an image, so no category: empty, only-gifs",
            "files: 2 of a kind that is not looked for (.gif), left out: save as PNG",
        )
        assert found.sha256() == replace(found, notes=()).sha256(), "a store of these images stays one of these images"

    def test_they_are_named_where_nothing_else_is_there(self, categories):
        for name in ("a/1.png", "b/1.png"):
            (categories / name).unlink()
        with pytest.raises(InputError, match=r"no images \(.*only-gifs"):
            list_categories(categories)
        with pytest.raises(InputError, match=r"no images.*\(\.gif\)"):
            find_images(categories)

    def test_names_are_the_same_however_accents_are_stored(self, tmp_path):
        composed, decomposed = (unicodedata.normalize(form, "naïve ガ") for form in ("NFC", "NFD"))
        for folder in (decomposed, "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / f"{decomposed}.png").touch()
        assert list(find_images(tmp_path)) == [composed]
        assert list_categories(tmp_path).ids == (f"b/{composed}", f"{composed}/{composed}")
        assert list_categories(tmp_path).categories == ("b", composed)
        assert list_images(tmp_path / decomposed).ids == (composed,)
        assert [path.is_file() for path in list_categories(tmp_path).files] == [True, True]

    def test_two_files_that_differ_in_how_accents_are_stored_only_are_refused_by_name(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            for form in ("NFC", "NFD"):
                (tmp_path / folder / f"{unicodedata.normalize(form, 'café')}.png").touch()
        for find in (find_images, list_categories, list_images):
            with pytest.raises(InputError, match=r"cafe\u0301.*how accented letters are stored.*cafe\\u0301.*caf\\xe9"):
                find(tmp_path)
