import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from calibration.features import extraction
from calibration.features.extraction import extract_to_store
from calibration.features.extractor import FeatureExtractor, category_means
from calibration.features.images import ImageList, list_categories, list_images
from calibration.features.store import FeatureStore
from rtgod.errors import InputError
from tests.calibration import pretended

NETWORK = pretended.network()
#: Two are broken, and one category has nothing else.
NAMES = ["a/1", "a/2", "a/broken", "b/1", "b/2", "c/broken", "d/1", "d/2", "d/3", "e/1", "e/2"]
BATCH = 3
#: A real one, quick on small images.
SMALL = pretended.network(preprocessing={"resize_px": 40, "crop_px": 33})


def quiet(*_):
    pass


def listed(names=NAMES, root=Path("anywhere")):
    return ImageList(
        root, tuple(names), tuple(f"{name}.png" for name in names), tuple(name.split("/")[0] for name in names)
    )


def draw(folder, n):
    """Small images of three categories."""
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder / str(i % 3) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)


@pytest.fixture
def extractors(monkeypatch):
    """Every extractor that is made pretends; gives those that were made."""
    made = []

    def make(network):
        made.append(pretended.PretendedExtractor(network))
        return made[-1]

    monkeypatch.setattr(extraction, "FeatureExtractor", make)
    return made


def files(store):
    return {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture
def undisturbed(extractors, tmp_path):  # noqa: ARG001 # it is what computes
    return extract_to_store(listed(), NETWORK, tmp_path / "undisturbed", quiet, batch=BATCH)


# ---------------------------------------------------------------- what is computed


def test_a_store_holds_every_image_and_the_means_over_categories(extractors, undisturbed):
    (extractor,) = extractors
    group = zarr.open_group(undisturbed.path, mode="r")
    assert group["image_id"][:].tolist() == NAMES
    assert group["path"][:].tolist() == [f"{name}.png" for name in NAMES]
    assert [bool(problem) for problem in group["problem"][:]] == ["broken" in name for name in NAMES]
    assert group["category_id"][:].tolist() == ["a", "b", "c", "d", "e"]
    readable = [name for name in NAMES if "broken" not in name]
    for layer in NETWORK.layers:
        array = group[f"layers/{layer}/features"]
        assert (array.dtype, array.shape, array.chunks) == (np.float32, (len(NAMES), 5), (BATCH, 5))
        expected = {name: extractor.features_of(Path(f"{name}.png"), layer) for name in readable}
        for name, row in zip(NAMES, array[:], strict=True):
            np.testing.assert_array_equal(row, expected.get(name, np.full(5, np.nan)))
        np.testing.assert_array_equal(group[f"layers/{layer}/units"][:], extractor.units[layer])
        names, means = category_means({layer: np.stack(list(expected.values()))}, [name[0] for name in readable])
        assert names == ["a", "b", "d", "e"]
        found = group[f"layers/{layer}/means"][:]
        np.testing.assert_allclose(found[[0, 1, 3, 4]], means[layer], rtol=1e-6)
        assert np.isnan(found[2]).all()


@pytest.mark.usefixtures("extractors")
def test_images_without_categories_have_no_means(tmp_path):
    images = ImageList(Path("anywhere"), ("x", "y"), ("x.png", "y.png"))
    store = extract_to_store(images, NETWORK, tmp_path / "store", quiet)
    assert store.features_of(["y", "x"])["low"].shape == (2, 5)
    assert "category_id" not in zarr.open_group(store.path, mode="r")


def test_a_real_network_s_features_are_those_of_plain_extraction(tmp_path):
    draw(tmp_path / "images", 5)
    images = list_images(tmp_path / "images")
    store = extract_to_store(images, SMALL, tmp_path / "store", quiet, batch=2)
    found = store.features_of(images.ids)
    for layer, values in FeatureExtractor(SMALL).extract(images.files).items():
        np.testing.assert_allclose(found[layer], values, rtol=1e-4, atol=1e-5)


def test_progress_goes_on_from_what_is_there(extractors, undisturbed):
    told = []
    undisturbed._arrays["done"][1] = False
    extract_to_store(listed(), NETWORK, undisturbed.path, lambda *step: told.append(step))
    assert told == [
        ("checking what is there", 1, 3), ("checking what is there", 2, 3), ("checking what is there", 3, 3),
        ("network features", 8, 11), ("network features", 11, 11),
        ("means of categories", 3, 5), ("means of categories", 5, 5),
    ]  # fmt: skip
    assert extractors[-1].n_computed == 3


# ---------------------------------------------------------------- killed


def test_from_whatever_a_kill_can_leave_the_same_store_is_made(extractors, undisturbed, tmp_path, monkeypatch):
    """The store is copied before each of its files is replaced, and once in the middle of writing it."""
    killed, left = tmp_path / "killed", []
    put = zarr.storage._local._put

    def watched(path, value, exclusive=False):
        if path.is_relative_to(killed):
            left.append(tmp_path / "left" / str(len(left)))
            shutil.copytree(killed, left[-1])
            half = left[-1] / path.relative_to(killed).with_suffix(".0123.partial")
            half.write_bytes(bytes(value.as_buffer_like())[: len(value) // 2])
        return put(path, value, exclusive)

    monkeypatch.setattr("zarr.storage._local._put", watched)
    extract_to_store(listed(), NETWORK, killed, quiet, batch=BATCH)
    monkeypatch.undo()
    extractors.clear()
    monkeypatch.setattr(extraction, "FeatureExtractor", pretended.PretendedExtractor)
    # Of four batches two layers, problems and done; of two blocks of categories two layers and done; done at first.
    assert len(left) == 4 * 4 + 2 * 3 + 1
    expected = files(undisturbed.path)
    assert files(killed) == expected
    for store in left:
        extract_to_store(listed(), NETWORK, store, quiet, batch=BATCH)
        assert files(store) == expected, store.name


def test_a_killed_command_goes_on_where_it_was(tmp_path):
    """Real processes, a real network, SIGKILL."""
    draw(tmp_path / "images", 300)
    (tmp_path / "small.toml").write_text("resize_px = 40\ncrop_px = 33\n")
    command = [sys.executable, "-m", "rtgod", "categories", "build", "images", "--out", "killed", "--units", "5"]
    command += ["--network", "squeezenet1_1", "--weights", "random:0", "--preprocessing", "small.toml"]
    command += [f"--layer={layer}={node}" for layer, node in NETWORK.layers.items()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "killed" / "layers" / "high" / "features" / "c.1.0").exists():
            assert time.monotonic() < deadline
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not FeatureStore(tmp_path / "killed").means_done.all()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tmp_path, timeout=60)
    extract_to_store(list_categories(tmp_path / "images"), SMALL, tmp_path / "undisturbed", quiet)
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed")


def test_whoever_computes_the_store_is_the_same(tmp_path):
    draw(tmp_path / "images", 7)
    images = list_categories(tmp_path / "images")
    extract_to_store(images, SMALL, tmp_path / "here", quiet, batch=2)
    with ThreadPoolExecutor(3) as pool:
        extract_to_store(images, SMALL, tmp_path / "elsewhere", quiet, pool, batch=2)
    assert files(tmp_path / "here") == files(tmp_path / "elsewhere")


# ---------------------------------------------------------------- started again


@pytest.mark.parametrize(
    ("images", "network", "what"),
    [
        (listed(), pretended.network(n_units=4), "n_units 5 there, 4 here"),
        (
            listed(),
            pretended.network(layers={"low": "features.0"}),
            "layers low=.*, high=.* there, low=features.0 here",
        ),
        (listed(), pretended.network(name="alexnet"), "name squeezenet1_1 there, alexnet here"),
        (listed(), pretended.network(preprocessing={"channels": "BGR"}), "preprocessing.channels RGB there, BGR here"),
        (listed(NAMES[:-1]), NETWORK, r"list of images \(11 there, 10 here\)"),
        (listed([*NAMES[:-1], "e/3"]), NETWORK, r"list of images \(11 there, 11 here\)"),
    ],
)
@pytest.mark.usefixtures("extractors")
def test_other_settings_are_refused_with_what_differs(undisturbed, images, network, what):
    before = files(undisturbed.path)
    with pytest.raises(InputError, match=f"undisturbed was begun with other settings: {what}; start again with those"):
        extract_to_store(images, network, undisturbed.path, quiet)
    assert files(undisturbed.path) == before


def test_other_weights_and_precision_are_refused(undisturbed, monkeypatch):
    class OnAnotherMachine(pretended.PretendedExtractor):
        precision = "mixed float16"

        def __init__(self, network):
            super().__init__(network)
            self.network = network.model_copy(update={"weights_sha256": "1" * 64})

    monkeypatch.setattr(extraction, "FeatureExtractor", OnAnotherMachine)
    with pytest.raises(InputError, match=r"weights_sha256 0+… there, 1+… here; precision float32 there, mixed float16"):
        extract_to_store(listed(), NETWORK, undisturbed.path, quiet)


@pytest.mark.usefixtures("extractors")
def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "photographs").mkdir()
    with pytest.raises(InputError, match="photographs: no feature store"):
        extract_to_store(listed(), NETWORK, tmp_path / "photographs", quiet)


def damage_features(store):
    path = store / "layers/high/features/c.1.0"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a bit": damage_features,
    "cut": lambda store: os.truncate(store / "layers/low/features/c.1.0", 10),
    "missing": lambda store: (store / "layers/low/features/c.1.0").unlink(),
    "means": lambda store: os.truncate(store / "layers/low/means/c.1.0", 0),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_computed_anew(undisturbed, extractors, damage):
    before = files(undisturbed.path)
    damage(undisturbed.path)
    extract_to_store(listed(), NETWORK, undisturbed.path, quiet)
    assert files(undisturbed.path) == before
    assert extractors[-1].n_computed == (0 if damage is DAMAGE["means"] else BATCH)


def test_an_image_that_was_replaced_is_computed_when_started_again(tmp_path, monkeypatch):
    names = ["a/1", "a/2", "a/broken", "b/1"]
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images/a/broken.png").write_bytes(b"not a picture")
    images = listed(names, tmp_path / "images")
    monkeypatch.setattr(extraction, "FeatureExtractor", pretended.PretendedExtractor)
    store = extract_to_store(images, NETWORK, tmp_path / "store", quiet, batch=2)
    before = store.means()[1]["low"]
    with pytest.raises(InputError, match=r"could not read a/broken; replace these files and start"):
        store.features_of(["a/1", "a/broken"])
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "images/a/broken.png")
    monkeypatch.setattr(pretended.PretendedExtractor, "is_broken", lambda *_: False)
    store = extract_to_store(images, NETWORK, tmp_path / "store", quiet, batch=2)
    assert store.features_of(["a/broken"])["low"].shape == (1, 5)
    assert not np.array_equal(store.means()[1]["low"][0], before[0])
    assert np.array_equal(store.means()[1]["low"][1], before[1])


# ---------------------------------------------------------------- at scale


@pytest.mark.usefixtures("extractors")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """The list of them may, by far less than their features."""
    network = pretended.network(n_units=1000)

    def peak(n):
        names = [f"{i // 50:05d}/{i}" for i in range(n)]
        images = listed(names)
        tracemalloc.start()
        extract_to_store(images, network, tmp_path / str(n), quiet)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(500), peak(3000)
    assert many - few < 0.1 * 2500 * 2 * 1000 * 4
