import contextlib
import json

import numpy as np
import pytest
import zarr
from PIL import Image
from typer.testing import CliRunner

from calibration.commands import features as module
from calibration.features.torchvision_import import import_torchvision
from rtgod.commands.main import make_app
from rtgod.errors import InputError
from tests.calibration import pretended

CAFFE = 'channels = "BGR"\nbrightest = 255\nmean = [104, 117, 123]\nsd = [1, 1, 1]\n'
#: What a photograph shows, as ImageNet's categories have it.
SHOWN = {
    "chelsea": {"tabby", "tiger cat", "Egyptian cat"},
    "coffee": {"espresso"},
    "china": {"stupa", "palace"},
}


def run(*arguments):
    result = CliRunner().invoke(make_app(), [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return " ".join(result.output.split())


@pytest.fixture
def photographs(tmp_path):
    """Real ones that come with scikit-image and scikit-learn."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    pictures = {"chelsea": data.chelsea(), "coffee": data.coffee(), "china": load_sample_image("china.jpg")}
    (tmp_path / "photographs").mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / "photographs" / f"{name}.png")
    return tmp_path / "photographs"


def classes(store):
    """The names of the five classes that score highest for each image."""
    names = np.array(import_torchvision().models.SqueezeNet1_1_Weights.DEFAULT.meta["categories"])
    group = zarr.open_group(store, mode="r")
    scores, units = group["layers/classes/features"][:], group["layers/classes/units"][:]
    return {
        name: names[units[np.argsort(-row)[:5]]].tolist()
        for name, row in zip(group["image_id"][:], scores, strict=True)
    }


def test_the_real_pretrained_network_names_what_photographs_show(photographs, shared_data, tmp_path):
    weights = shared_data / "networks" / "squeezenet1_1_torchvision_keys.npz"
    (tmp_path / "caffe.toml").write_text(CAFFE)
    options = ["--network", "squeezenet1_1", "--weights", weights, "--layer", "classes=flatten"]
    printed = run(
        "features", photographs, "--out", tmp_path / "caffe", *options, "--preprocessing", tmp_path / "caffe.toml"
    )
    assert "3 images, squeezenet1_1 in float32, units: classes 1000" in printed
    first = classes(tmp_path / "caffe")
    for name, right in SHOWN.items():
        assert first[name][0] in right, first[name]
    assert set(first["chelsea"][:3]) == SHOWN["chelsea"]
    # With torchvision's usual preprocessing, which is not this network's, it sees nothing.
    run("features", photographs, "--out", tmp_path / "usual", *options)
    assert all(not SHOWN[name] & set(found) for name, found in classes(tmp_path / "usual").items())


@pytest.fixture
def pretending(monkeypatch):
    monkeypatch.setattr("calibration.features.extraction.FeatureExtractor", pretended.PretendedExtractor)


@pytest.mark.usefixtures("pretending")
def test_what_could_not_be_read_is_counted_and_the_first_are_printed(tmp_path):
    for name in ["a/1", *(f"a/broken{i}" for i in range(7)), "b/1", "c/broken", "d/broken"]:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / f"{name}.png").touch()
    printed = run("categories", "build", tmp_path / "images", "--out", tmp_path / "store", "--units", "3")
    assert "9 of 11 images could not be read and were skipped:" in printed
    assert printed.count("cannot be read") == 5
    assert "Categories without an image, which are left out: c, d" in printed
    assert "2 images of 4 categories, alexnet in float32, units: cnn1 3, cnn2 3" in printed


def test_what_was_converted_and_left_out_is_printed_and_features_are_those_of_eight_bits(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "empty"):
        (tmp_path / "images" / name).mkdir(parents=True)
    wide = rng.integers(0, 65536, (80, 80)).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "images" / "a" / "wide.png")
    Image.fromarray((wide >> 8).astype(np.uint8)).save(tmp_path / "images" / "b" / "narrow.png")
    options = ["--network", "squeezenet1_1", "--weights", "random:0", "--layer", "low=features.0", "--units", "30"]
    command = ["categories", "build", tmp_path / "images", "--out", tmp_path / "store", *options]
    printed = run(*command)
    assert "note folders: 1 without an image, so no category: empty" in printed
    assert "note 1 of 2 images: 16 bits a channel, of which the higher 8 are taken (a/wide)" in printed
    assert "note 1 of 2 images: 16 bits" in run(*command), "it is told again although nothing is computed again"
    wide, narrow = zarr.open_group(tmp_path / "store", mode="r")["layers/low/features"][:]
    np.testing.assert_array_equal(wide, narrow)


@pytest.mark.usefixtures("pretending")
@pytest.mark.parametrize("separator", ["\t", ","])
def test_a_table_does_as_well_as_folders(tmp_path, separator):
    (tmp_path / "list.tsv").write_text("category_id;path;name\nb;1.png;owl\na;2.png;cat\n".replace(";", separator))
    run("categories", "build", tmp_path / "list.tsv", "--out", tmp_path / "store")
    group = zarr.open_group(tmp_path / "store", mode="r")
    assert group["category_id"][:].tolist() == ["b", "a"]
    assert group["category_name"][:].tolist() == ["owl", "cat"]


@pytest.mark.usefixtures("pretending")
@pytest.mark.parametrize(("options", "expected"), [
    ([], None), (["--workers", "2"], (2, None)), (["--scheduler", "tcp://there:1"], (None, "tcp://there:1")),
])  # fmt: skip
def test_the_work_is_done_where_it_is_asked_for(tmp_path, monkeypatch, options, expected):
    asked = []

    @contextlib.contextmanager
    def workers(*arguments):
        asked.append(arguments)
        yield "pool"

    monkeypatch.setattr("calibration.parallel.workers.workers", workers)
    monkeypatch.setattr(
        "calibration.features.extraction.extract_to_store", lambda *arguments: asked.append(arguments[-1])
    )
    monkeypatch.setattr(module, "_print_summary", lambda _: None)
    (tmp_path / "a.png").touch()
    run("features", tmp_path, "--out", tmp_path / "store", *options)
    assert asked == ([None] if expected is None else [expected, "pool"])


@pytest.mark.parametrize(("arguments", "what"), [
    (["features", "nowhere", "--out", "x"], "nowhere: neither a folder of images nor a table"),
    (["categories", "build", "nowhere", "--out", "x"], "nowhere: neither a folder of images nor a table"),
])  # fmt: skip
def test_what_is_not_there_is_named(arguments, what):
    with pytest.raises(InputError, match=what):
        run(*arguments)


def test_a_dry_run_says_what_would_be_computed_and_writes_nothing(tmp_path):
    for name in ("cat", "dog", "empty"):
        (tmp_path / "images" / name).mkdir(parents=True)
    for name in ("cat/a", "cat/b", "dog/a"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    said = run("categories", "build", tmp_path / "images", "--out", tmp_path / "store", "--units", 7, "--dry-run")
    assert "3 images of 2 categories" in said
    assert "alexnet, weights default, 7 units at most of each: cnn1 = features.0" in said
    assert "1 without an image, so no category: empty" in said
    assert f"would be written to {tmp_path / 'store'}: the store" in said
    assert not (tmp_path / "store").exists()
    with pytest.raises(InputError, match="give one with --out"):
        run("features", tmp_path / "images")


def test_settings_are_shown_with_the_preprocessing_in_force(tmp_path):
    (tmp_path / "caffe.toml").write_text(CAFFE)
    shown = json.loads(run("features", tmp_path, "--preprocessing", tmp_path / "caffe.toml", "--show-settings"))
    assert (shown["name"], shown["preprocessing"]["channels"], shown["preprocessing"]["resize_px"]) == (
        "alexnet", "BGR", 256,
    )  # fmt: skip


def test_a_dry_run_of_a_simulation_counts_its_runs(tmp_path):
    said = run("simulate", tmp_path / "new", "--test-runs", 1, "--imagery-runs", 0, "--dry-run")
    assert "perceptionTraining01: 8 runs of 178 volumes of 64 × 64 × 50 voxels" in said
    assert "perceptionTest01: 1 run of 178 volumes" in said
    assert "imagery" not in said
    assert not (tmp_path / "new").exists()
    assert "already there: it would be refused" in run("simulate", tmp_path, "--dry-run")
