"""The lab's files as bdpy writes them and as MATLAB did, with the names of the published study."""

import csv

import bdpy
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.datasets import bdpy_table
from calibration.datasets.bdpy_files import (
    joined_samples,
    kinds_by_options,
    read_brain_samples,
    read_image_features,
)
from calibration.datasets.bdpy_labels import category_name, stimulus_name
from rtgod.errors import InputError

LAYERS = {"cnn1": 7, "cnn8": 5, "gist": 3}
TRAINING = [1518878.010042, 1518878.012028, 1621127.01902, 2084071.000001]
TEST = [1443537.022563, 1677366.018182]
OTHERS = [1443538, 1443539, 12000000]
REGIONS = {"V1": [0, 1, 2], "V2": [2, 3], "HVC": [4, 5], "VC": [0, 1, 2, 3, 4, 5], "FFA": []}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def subject(tmp_path):
    """A file like Subject1.h5: two training runs, a seen and an imagined one, and a row of rest; with what is in it."""
    labels = np.array([*TRAINING, *TEST, *TEST, np.nan])
    types, runs = np.array([1, 1, 1, 1, 2, 2, 3, 3, 1.0]), np.array([1, 1, 2, 2, 1, 1, 1, 1, 2.0])
    voxels = noise(9, 6)
    data = bdpy.BData()
    data.add(voxels, "VoxelData")
    for name, values in {"DataType": types, "Run": runs, "stimulus_id": labels}.items():
        data.add(values, name)
    for name, columns in REGIONS.items():
        data.add_metadata(f"ROI_{name}", np.isin(np.arange(6), columns) * 1.0, f"1 = ROI {name}", where="VoxelData")
    data.add_metadata("voxel_x", np.linspace(-9, 1, 6), "x", where="VoxelData")
    data.save(str(tmp_path / "Subject1.h5"))
    return tmp_path / "Subject1.h5", voxels


@pytest.fixture
def features(tmp_path):
    """A file like ImageFeatures.h5, with what is in it."""
    images, categories = [*TRAINING, *TEST], [int(n) for n in TEST]
    n_means = len(categories) + len(OTHERS)
    values = {layer: noise(len(images) + n_means, n, seed=n) for layer, n in LAYERS.items()}
    data = bdpy.BData()
    data.add(np.array([1.0] * len(TRAINING) + [2] * len(TEST) + [3] * len(TEST) + [4] * len(OTHERS)), "FeatureType")
    data.add(np.array([int(n) for n in images] + categories + OTHERS, float), "CatID")
    for layer, one in values.items():
        data.add(one, layer)
    data.add(np.array([*images, *[np.nan] * n_means]), "ImageID")
    data.save(str(tmp_path / "ImageFeatures.h5"))
    return tmp_path / "ImageFeatures.h5", values


def as_matlab(path):
    """The same file as MATLAB wrote it: other names, swapped axes, strings of one length."""
    out = path.with_name("matlab.h5")
    with h5py.File(path) as old, h5py.File(out, "w") as new:
        new["dataSet"] = old["dataset"][()].T
        new["metaData/value"] = old["metadata/value"][()].T
        for name in ("key", "description"):
            new[f"metaData/{name}"] = old[f"metadata/{name}"][()].astype("S64")[np.newaxis]
    return out


layouts = pytest.mark.parametrize("layout", [lambda path: path, as_matlab], ids=["bdpy", "MATLAB"])


@layouts
@pytest.mark.parametrize("block_bytes", [1, 1 << 25])
def test_samples_of_a_subject(subject, layout, block_bytes, monkeypatch):
    monkeypatch.setattr(bdpy_table, "_BLOCK_BYTES", block_bytes)
    path, voxels = subject
    found = read_brain_samples(layout(path))
    np.testing.assert_array_equal(found.X, voxels[:8].astype(np.float32))
    assert found.X.dtype == np.float32
    assert found.kinds == ("training",) * 4 + ("seen",) * 2 + ("imagined",) * 2
    assert found.runs == ("training-00-01",) * 2 + ("training-00-02",) * 2 + ("seen-00-01",) * 2 + (
        "imagined-00-01",) * 2  # fmt: skip
    assert found.stimuli[:3] == ("n01518878_10042", "n01518878_12028", "n01621127_19020")
    assert found.categories[-2:] == ("n01443537", "n01677366")
    assert {name: columns.tolist() for name, columns in found.regions.items()} == REGIONS


def test_regions_are_those_that_bdpy_selects(subject):
    path, _ = subject
    found, theirs = read_brain_samples(path), bdpy.BData(str(path))
    for expression in ("ROI_V1", "ROI_V1 + ROI_V2", "ROI_VC - ROI_V1", "ROI_VC & ROI_HVC", "ROI_V1 = 1"):
        expected = theirs.select(expression)[:8].astype(np.float32)
        np.testing.assert_array_equal(found.X[:, found.columns(expression)], expected)
    assert found.columns("V1 + V2").tolist() == [0, 1, 2, 3]
    for expression, says in {"FFA": "'FFA': no voxel in it", "V9": "no region 'V9'; there: FFA, HVC, V1"}.items():
        with pytest.raises(InputError, match=says):
            found.columns(expression)


@layouts
@pytest.mark.parametrize("block_bytes", [1, 1 << 25])
def test_features_of_images_and_candidates(features, layout, block_bytes, monkeypatch):
    monkeypatch.setattr(bdpy_table, "_BLOCK_BYTES", block_bytes)
    path, values = features
    found = read_image_features(layout(path))
    assert tuple(found.shown) == tuple(LAYERS)
    n_images = len(TRAINING) + len(TEST)
    for layer, one in values.items():
        np.testing.assert_array_equal(found.shown[layer], one[:n_images].astype(np.float32))
        np.testing.assert_array_equal(found.candidates[layer], one[n_images:].astype(np.float32))
    assert list(found.rows) == [stimulus_name(number) for number in [*TRAINING, *TEST]]
    assert found.candidate_ids == ("n01443537", "n01677366", "n01443538", "n01443539", "n12000000")
    assert found.n_test == 2
    np.testing.assert_array_equal(found.of_images(["n01621127_19020"])["gist"][0], found.shown["gist"][2])
    np.testing.assert_array_equal(found.of_categories(["n01443538"])["cnn8"][0], found.candidates["cnn8"][2])
    assert tuple(read_image_features(path, ["gist", "cnn1"]).shown) == ("gist", "cnn1")


def test_features_follow_the_samples_labels_as_in_the_published_analysis(subject, features):
    samples, found = read_brain_samples(subject[0]), read_image_features(features[0])
    data, table = bdpy.BData(str(subject[0])), bdpy.BData(str(features[0]))
    expected = bdpy.get_refdata(table.select("cnn1"), table.select("ImageID"), data.select("stimulus_id")[:8])
    np.testing.assert_array_equal(found.of_images(samples.stimuli)["cnn1"], expected.astype(np.float32))


def test_what_there_are_no_features_of_is_named(features):
    found = read_image_features(features[0])
    with pytest.raises(InputError, match="no features of images n1_1, n2_2; samples and features are of different"):
        found.of_images(["n1_1", "n01518878_10042", "n2_2", "n1_1"])
    with pytest.raises(InputError, match="no features of images None"):
        found.of_images([None])
    with pytest.raises(InputError, match="no features of categories n1; they cannot be ranked"):
        found.of_categories(["n1", "n01443537"])


def test_labels_may_be_names_that_the_file_maps_numbers_to(subject):
    path, _ = subject
    data = bdpy.BData(str(path))
    numbers = np.array([1, 2, 3, 4, 5, 6, 5, 6, np.nan])
    data.add(numbers, "stimulus_name")
    data.add(np.array([1, 1, 2, 2, 1, 1, 1, 1, 2.0]), "Session")
    data.add_vmap("stimulus_name", {float(n): stimulus_name(id_) for n, id_ in enumerate([*TRAINING, *TEST], 1)})
    data.save(str(path.with_name("named.h5")))
    named, numbered = read_brain_samples(path.with_name("named.h5")), read_brain_samples(path)
    assert (named.stimuli, named.categories) == (numbered.stimuli, numbered.categories)
    assert named.runs[0] == "training-01-01"


def test_names_of_the_published_stimuli_follow_from_their_numbers(shared_data):
    lists = {"stimulus_ImageNetTraining.tsv": 1200, "stimulus_ImageNetTest.tsv": 50, "category_GODImagery.tsv": 50}
    for name, n in lists.items():
        with (shared_data / "god-lists" / name).open() as file:
            rows = list(csv.reader(file, delimiter="\t"))
        assert len(rows) == n
        name_of = category_name if name.startswith("category") else stimulus_name
        assert [name_of(float(row[1])) for row in rows] == [row[0] for row in rows]


# ---------------------------------------------------------------- files that cannot be used


@given(share=st.floats(0, 0.999))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_file_that_is_cut_short_is_refused(subject, features, share):
    for path, read in ((subject[0], read_brain_samples), (features[0], read_image_features)):
        whole = path.read_bytes()
        short = path.with_name("short.h5")
        short.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"short.h5: cannot be read .*download a damaged file again"):
            read(short)


def other_text(path):
    path.write_bytes(path.read_bytes().replace(b"VoxelData", b"VoxelDat\xeb"))


def no_group(path):
    with h5py.File(path, "a") as file:
        del file["metadata"]
        file["metadata"] = np.zeros(3)


@pytest.mark.parametrize("damage", [other_text, no_group])
def test_a_file_whose_metadata_are_damaged_is_refused(subject, damage):
    path, _ = subject
    damage(path)
    with pytest.raises(InputError, match=r"Subject1.h5: cannot be read .*download a damaged file again"):
        read_brain_samples(path)


def changed(path, **columns):
    data = bdpy.BData(str(path))
    for name, value in columns.items():
        if value is None:
            data.rename_metadata(name, "unused")
        else:
            data.update(name, value)
    data.save(str(path.with_name("changed.h5")))
    return path.with_name("changed.h5")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.with_name("absent.h5"), "absent.h5: cannot be read"),
        (lambda path: changed(path, DataType=None), "0 columns for DataType, and one is needed; there: VoxelData"),
        (lambda path: changed(path, Run=None), "0 columns for Run"),
        (lambda path: changed(path, stimulus_id=None), "no column says what was shown .stimulus_name, stimulus_id"),
        (lambda path: changed(path, DataType=np.full((9, 1), 4.0)), "no row has a DataType of 1 .training."),
    ],
)
def test_samples_that_are_none_are_refused(subject, make, says):
    with pytest.raises(InputError, match=says):
        read_brain_samples(make(subject[0]))


def test_other_files_are_refused(tmp_path, features, subject):
    (tmp_path / "text.h5").write_text("no table")
    with pytest.raises(InputError, match=r"text.h5: cannot be read"):
        read_brain_samples(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(InputError, match=r"other.h5: no 'dataset' in it; give a file of BrainDecoderToolbox2 or bdpy"):
        read_image_features(tmp_path / "other.h5")
    with pytest.raises(InputError, match=r"no voxels in it .*; give the Subject"):
        read_brain_samples(features[0])
    with pytest.raises(InputError, match="0 columns for FeatureType"):
        read_image_features(subject[0])
    with pytest.raises(InputError, match="no layer conv1; there: cnn1, cnn8, gist"):
        read_image_features(features[0], ["cnn1", "conv1"])
    with pytest.raises(InputError, match="no features of images"):
        read_image_features(changed(features[0], FeatureType=np.full((11, 1), 4.0)))


def test_a_table_that_is_not_its_metadata_s_is_refused(subject):
    path, voxels = subject
    with h5py.File(path, "a") as file:
        del file["dataset"]
        file["dataset"] = voxels
    with pytest.raises(InputError, match=r"shape \(9, 6\) with metadata of shape .* they do not belong together"):
        read_brain_samples(path)


def of_one_task(path, data_type, name, order=range(6), regions=REGIONS, places=True):
    """The rows of one task as a file of their own, which has no DataType, with some voxels in some order."""
    whole = bdpy.BData(str(path))
    rows, order = whole.select("DataType").ravel() == data_type, np.array(order)
    data = bdpy.BData()
    data.add(whole.select("VoxelData")[rows][:, order], "VoxelData")
    for column in ("Run", "stimulus_id"):
        data.add(whole.select(column)[rows].ravel(), column)
    for region, columns in regions.items():
        data.add_metadata(f"ROI_{region}", np.isin(order, columns) * 1.0, region, where="VoxelData")
    for axis, factor in zip("xyz", (2.5, -1, 0), strict=True):
        if places:
            data.add_metadata(f"voxel_{axis}", factor * order, axis, where="VoxelData")
    data.save(str(path.with_name(name)))
    return path.with_name(name)


def test_files_of_one_task_each_are_the_file_of_the_subject(subject):
    path, _ = subject
    files = [
        of_one_task(path, 3, "Subject1_GODImagery.h5"),
        of_one_task(path, 2, "Subject1_ImageNetTest.h5"),
        of_one_task(path, 1, "Subject1_ImageNetTraining.h5"),
    ]
    joined, whole = joined_samples(files), read_brain_samples(path)
    assert (joined.kinds, joined.runs, joined.stimuli) == (whole.kinds, whole.runs, whole.stimuli)
    np.testing.assert_array_equal(joined.X, whole.X)
    assert joined.regions.keys() == whole.regions.keys()


def test_a_file_of_one_task_is_what_it_is_called_or_said_to_be(subject):
    file = of_one_task(subject[0], 2, "a.h5")
    with pytest.raises(InputError, match=r"a.h5: this file holds one task only \(no DataType: .*; give the file of"):
        read_brain_samples(file)
    assert set(joined_samples([file], {file: "seen"}).kinds) == {"seen"}
    assert set(read_brain_samples(file, "training").kinds) == {"training"}


def test_files_of_two_subjects_are_not_joined(subject):
    training = of_one_task(subject[0], 1, "training.h5")
    for options, says in (
        (
            {"order": range(5)},
            r"test.h5: lacks 1 of the 6 voxels of .*training.h5, such as that at \(12.5, -5.0, 0.0\)",
        ),
        ({"order": range(5), "places": False}, r"test.h5: 5 voxels, and .*training.h5 has 6; give the files of one"),
        ({"regions": {**REGIONS, "V1": [0, 1]}}, r"test.h5: other voxels in V1 than .*training.h5"),
        ({"regions": {"hV4": [0, 1]}}, r"test.h5: no region of a name that is there too than"),
    ):
        with pytest.raises(InputError, match=says):
            joined_samples([training, of_one_task(subject[0], 2, "test.h5", **options)])


@pytest.mark.parametrize("order", [(5, 3, 1, 0, 2, 4), (4, 5, 2, 0, 3, 1)])
def test_voxels_of_another_order_are_matched_by_their_coordinates(subject, order):
    training, test = (of_one_task(subject[0], i, name) for i, name in ((1, "training.h5"), (2, "test.h5")))
    same = joined_samples([training, test])
    shuffled = of_one_task(subject[0], 2, "test.h5", order=order)
    joined = joined_samples([training, shuffled])
    np.testing.assert_array_equal(joined.X, same.X)
    assert {name: columns.tolist() for name, columns in joined.regions.items()} == REGIONS
    assert joined.notes[1:] == ("test.h5: voxels are put in the order of training.h5 by coordinates",)
    assert same.notes == joined.notes[:1]
    # Without the coordinates nothing would tell.
    blind = joined_samples([training, of_one_task(subject[0], 2, "test.h5", places=False)])
    assert blind.notes[1].startswith("test.h5: its voxels are taken to be in the order of training.h5")


def test_voxels_and_regions_that_one_file_lacks_are_left_out_by_name(subject):
    regions = {name: REGIONS[name] for name in ("V1", "VC")}
    training = of_one_task(subject[0], 1, "training.h5", order=range(5), regions={**regions, "hV4": [0]})
    test = of_one_task(subject[0], 2, "test.h5", regions=regions)
    joined = joined_samples([training, test])
    assert joined.X.shape == (6, 5)
    assert {name: columns.tolist() for name, columns in joined.regions.items()} == {"V1": [0, 1, 2], "VC": [*range(5)]}
    assert joined.notes[1:] == (
        "test.h5: voxels are put in the order of training.h5 by coordinates; 1 that training.h5 lacks are left out",
        "region hV4 is left out: none of this name in test.h5",
    )


def test_runs_of_one_name_in_two_files_of_one_kind_stay_apart(subject):
    files = [of_one_task(subject[0], 1, name) for name in ("training1.h5", "training2.h5")]
    runs = joined_samples(files).runs
    assert runs[0] == "training-00-01-file-1"
    assert len(set(runs)) == 4
    with pytest.raises(InputError, match=r"training1.h5: given twice"):
        joined_samples([files[0], files[0]])


def test_training_and_test_files_are_named_by_options(tmp_path):
    one, two, imagery = (tmp_path / name for name in ("one.h5", "two.h5", "two_imagery.h5"))
    kinds = kinds_by_options([one, two, imagery], ["one"], ["two"])
    assert kinds == {one: "training", two: "seen", imagery: "imagined"}
    assert kinds_by_options([one, two], None, None) == {}
    with pytest.raises(InputError, match=r"--test run-7: in no name of one.h5, two.h5"):
        kinds_by_options([one, two], ["one"], ["run-7"])
    with pytest.raises(InputError, match=r"two.h5: both --training and --test name it"):
        kinds_by_options([one, two], ["one", "two"], ["two"])


def test_a_file_that_says_its_kinds_is_taken_for_no_other(subject):
    with pytest.raises(InputError, match=r"Subject1.h5: .* takes it for seen, .* says training, seen, imagined; leave"):
        read_brain_samples(subject[0], "seen")


def test_rows_without_a_label_are_counted(subject):
    assert read_brain_samples(subject[0]).notes == (
        "Subject1.h5: 1 of 9 rows have no label, or none of the three DataTypes, and are left out",
    )


def test_a_category_that_is_there_twice_is_one_candidate(features):
    path, values = features
    ids = np.array([*map(int, [*TRAINING, *TEST, *TEST]), *OTHERS[:2], int(TEST[0])], float)[:, np.newaxis]
    found = read_image_features(changed(path, CatID=ids))
    assert found.candidate_ids == ("n01443537", "n01677366", "n01443538", "n01443539")
    assert found.n_test == 2
    assert found.notes == ("changed.h5: 1 categories are there twice or more; the first features are taken",)
    n_images = len(TRAINING) + len(TEST)
    np.testing.assert_array_equal(found.candidates["gist"], values["gist"][n_images:-1].astype(np.float32))


def test_voxels_without_a_value_are_named_with_their_file(subject):
    path, _ = subject
    with h5py.File(path, "r+") as file:
        file["dataset"][:, 2] = np.nan
        file["dataset"][0, 4] = np.nan
    samples = read_brain_samples(path)
    with pytest.raises(
        InputError, match=r"Subject1.h5: 9 values of 2 voxels .*: columns of VoxelData 2 \(all 8 .*, 4 \(1 s"
    ):
        samples.check_finite(np.arange(6))
    samples.check_finite(np.array([0, 1, 3, 5]))
