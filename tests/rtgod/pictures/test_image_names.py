"""Which image a name means."""

import pytest

from rtgod.pictures.image_names import ImageIndex, is_same_image, short_names

PATHS = [
    "house/01.png", "tool/01.png", "tool/01.jpg", "faces/caf\u00e9_1.JPEG", "deep/er/house/02.png", "n01_2.JPEG",
    "flat.png",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("house/01.png", ["house/01.png"]),
        ("./house/01", ["house/01.png"]),
        ("stimuli/house/01.png", ["house/01.png"]),
        ("house\\01.png", ["house/01.png"]),
        ("tool/01.png", ["tool/01.png"]),
        ("tool/01.jpg", ["tool/01.jpg"]),
        ("tool/01", ["tool/01.png", "tool/01.jpg"]),
        ("01", ["house/01.png", "tool/01.png", "tool/01.jpg"]),
        ("01.png", ["house/01.png", "tool/01.png"]),
        ("face/01.png", []),
        ("house/02.png", ["deep/er/house/02.png"]),
        ("er/house/02.bmp", ["deep/er/house/02.png"]),
        ("cafe\u0301_1", ["faces/caf\u00e9_1.JPEG"]),
        ("n01_2", ["n01_2.JPEG"]),
        ("anywhere/flat.png", ["flat.png"]),
        ("absent", []),
        ("", []),
    ],
)
def test_a_name_and_a_file_agree_if_one_path_is_the_end_of_the_other(name, found):
    assert ImageIndex((path, path) for path in PATHS).find(name) == found


def test_the_furthest_agreement_counts():
    index = ImageIndex((path, path) for path in ["01.png", "house/01.png"])
    assert index.find("stimuli/house/01.png") == ["house/01.png"]
    assert index.find("tool/01.png") == ["01.png"]


def test_two_names_of_one_image():
    assert is_same_image("n01_2", "images/n01_2.JPEG")
    assert not is_same_image("house/01.png", "tool/01.png")


def test_images_have_their_paths_for_names_where_files_are_called_alike():
    assert short_names(["a/x.png", "b/y.png"]) == ["x", "y"]
    assert short_names(["a/x.png", "b/x.jpg", "b/y.png"]) == ["a/x", "b/x", "y"]
    assert short_names(["a/x.png", "a/x.jpg", "b/x.png"]) == ["a/x.png", "a/x.jpg", "b/x"]
