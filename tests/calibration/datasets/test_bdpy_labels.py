"""Labels of tables: the column that says what was shown is found by its name or its numbers, or none is guessed."""

import bdpy
import h5py
import numpy as np
import pytest

from calibration.datasets.bdpy_labels import read_labels
from calibration.datasets.bdpy_table import opened
from rtgod.errors import InputError

NAN = float("nan")
IMAGES = [1518878.010042, 1518878.012028, 2084071.000001, NAN]
SYNSETS = [1518878, 1518878, 2084071, NAN]
STIMULI = ("n01518878_10042", "n01518878_12028", "n02084071_1", None)
CATEGORIES = ("n01518878", "n01518878", "n02084071", "")


def table(path, names=(), **columns):
    """A file whose `Label` has the columns, in their order; `names` of them have keys, as bdpy makes them from BIDS."""
    data = bdpy.BData()
    data.add(np.zeros((4, 2)), "VoxelData")
    data.add(np.array([*columns.values()], float).T, "Label")
    for name in names:
        flags = np.where(np.array([*columns]) == name, 1, np.nan)
        data.add_metadata(name, flags, f"Label {name}", where="Label")
    data.save(str(path / "labels.h5"))
    return path / "labels.h5"


def read(path):
    with opened(path) as file:
        return read_labels(file)


OTHERS = {"trial_no": [2, 3, 4, 1], "response_time": [52.7, 60.25, NAN, NAN], "category_index": [1, 1, 2, NAN]}


def test_a_column_with_a_key_of_its_own_is_read_from_among_all(tmp_path):
    columns = {"trial_no": OTHERS["trial_no"], "category_id": SYNSETS, "stimulus_id": IMAGES}
    labels = read(table(tmp_path, columns, **columns))
    assert (labels.stimuli, labels.categories) == (STIMULI, CATEGORIES)
    assert labels.notes == ("labels.h5: of the columns of Label, stimulus_id says what was shown",)


def test_of_imagery_the_category_is_read(tmp_path):
    columns = {"category_id": SYNSETS, **OTHERS}
    labels = read(table(tmp_path, columns, **columns))
    assert (labels.stimuli, labels.categories) == ((None,) * 4, CATEGORIES)


def test_names_behind_numbers_come_before_numbers(tmp_path):
    columns = {"stimulus_name": [1, 2, 3, NAN], **OTHERS}
    path = table(tmp_path, columns, **columns)
    data = bdpy.BData(str(path))
    data.add_vmap("stimulus_name", dict(enumerate(("cat_1", "cat_2", "dog_1"), 1)))
    data.save(str(path))
    assert read(path).categories == ("cat", "cat", "dog", "")
    # Without the names, numbers from 1 to 3 are no synsets.
    with h5py.File(path, "a") as file:
        del file["vmap"]
    with pytest.raises(InputError, match=r"Label has 4 columns and no key names the one .*none is of synsets"):
        read(path)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_without_keys_the_column_of_image_numbers_is_found(tmp_path, place):
    columns = list(OTHERS.values())
    columns.insert(place, IMAGES)
    labels = read(table(tmp_path, **{f"c{i}": column for i, column in enumerate(columns)}))
    assert (labels.stimuli, labels.categories) == (STIMULI, CATEGORIES)
    assert labels.notes == (f"labels.h5: of 4 columns of Label, {place + 1} is of images, and is read",)


def test_without_images_the_column_of_synset_numbers_is_found(tmp_path):
    labels = read(table(tmp_path, **OTHERS, synset=SYNSETS))
    assert (labels.stimuli, labels.categories) == ((None,) * 4, CATEGORIES)


def test_rows_without_an_image_are_labelled_by_their_category(tmp_path):
    images = [*IMAGES[:2], NAN, NAN]
    for names in (("stimulus_id", "category_id"), ()):
        labels = read(table(tmp_path, names, trial_no=[2, 3, 4, 1], stimulus_id=images, category_id=SYNSETS))
        assert labels.stimuli == (*STIMULI[:2], None, None)
        assert labels.categories == CATEGORIES
        assert "is empty, " in labels.notes[-1]


def test_what_could_be_either_is_refused_and_the_columns_named(tmp_path):
    with pytest.raises(
        InputError, match=r"labels.h5: Label has 2 columns .*columns 1, 2 may be meant.*stimulus_id or c"
    ):
        read(table(tmp_path, a=SYNSETS, b=[2084071, 2084071, 1518878, NAN]))
    with pytest.raises(InputError, match=r"Label has 3 columns and no key names the one .*none is of synsets"):
        read(table(tmp_path, **OTHERS))


def test_a_column_of_large_numbers_that_contradicts_the_images_is_not_read(tmp_path):
    """Such as response times in milliseconds."""
    labels = read(table(tmp_path, image=IMAGES, ms=[52728, 60250, 70001, 90000]))
    assert (labels.stimuli, labels.categories) == (STIMULI, CATEGORIES)


def test_a_row_of_two_categories_is_refused(tmp_path):
    columns = {"stimulus_id": IMAGES, "category_id": [1518878, 2084071, 2084071, NAN]}
    with pytest.raises(InputError, match="row 2 is of n01518878 by stimulus_id and of n02084071 by category_id"):
        read(table(tmp_path, columns, **columns))
