import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.features.extraction import extract_to_store
from calibration.features.images import ImageList
from calibration.features.store import FeatureStore, is_store
from rtgod.errors import InputError
from tests.calibration import pretended

NETWORK = pretended.network()
NAMES = tuple(f"{category}_{i}" for category in "abc" for i in range(4))
IMAGES = ImageList(Path("anywhere"), NAMES, NAMES, tuple(name[0] for name in NAMES))
BATCH = 5


def quiet(*_):
    pass


def build(path, images=IMAGES, network=NETWORK):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.features.extraction.FeatureExtractor", pretended.PretendedExtractor)
        extract_to_store(images, network, path, quiet, batch=BATCH)
    return FeatureStore(path)


@pytest.fixture
def store(tmp_path):
    return build(tmp_path / "store")


def test_the_network_comes_back_as_it_was_with_its_checksum(store):
    assert is_store(store.path)
    assert store.network == NETWORK.model_copy(update={"weights_sha256": "0" * 64})
    assert list(store.network.layers) == list(NETWORK.layers)
    assert (store.n_images, store.n_batches, store.n_categories, store.n_blocks) == (12, 3, 3, 1)


def test_features_come_in_the_order_of_the_names_asked_for(store):
    extractor = pretended.PretendedExtractor(NETWORK)
    asked = ["c_3", "a_0", "b_1", "a_0", "c_2"]
    for layer, values in store.features_of(asked).items():
        np.testing.assert_array_equal(values, [extractor.features_of(IMAGES.root / name, layer) for name in asked])


def test_categories_of_which_nothing_could_be_read_are_left_out(tmp_path):
    names = ("a_0", "b_broken", "c_0")
    store = build(tmp_path / "store", ImageList(Path("x"), names, names, ("a", "b", "c")))
    ids, means = store.means()
    assert ids == ["a", "c"]
    np.testing.assert_array_equal(means["low"], store.features_of(["a_0", "c_0"])["low"])
    assert store.n_readable().tolist() == [1, 0, 1]


def test_a_store_is_refused_beside_another_network_s_features(store):
    store.check_network(store.network.model_copy(update={"weights": "the same, elsewhere"}))
    with pytest.raises(
        InputError, match=r"store and the rest differ: n_units 5 there, 6 here; .* leave out the network"
    ):
        store.check_network(store.network.model_copy(update={"n_units": 6}))


# ---------------------------------------------------------------- what cannot be used


def test_images_that_are_not_in_it_are_named(store):
    with pytest.raises(InputError, match="no image called d_0, e_0; compute features of all images that were shown"):
        store.features_of(["a_0", "d_0", "e_0", "d_0"])
    with pytest.raises(InputError, match=r"no image called 0, 1, 2, 3, 4, … \(20 in all\)"):
        store.features_of([str(i) for i in range(20)])


def test_features_that_are_not_numbers_are_named(tmp_path, monkeypatch):
    features_of = pretended.PretendedExtractor.features_of

    def with_nan(self, path, layer):
        values = features_of(self, path, layer)
        if layer == "high" and path.name in {"a_1", "c_2"}:
            values[3] = np.inf if path.name == "a_1" else np.nan
        return values

    monkeypatch.setattr(pretended.PretendedExtractor, "features_of", with_nan)
    store = build(tmp_path / "store")
    assert len(store.features_of(["a_0", "c_3"])["high"]) == 2
    with pytest.raises(InputError, match="layer high is not a finite number for c_2, a_1; look at these images and"):
        store.features_of(["c_2", "a_0", "a_1"])
    with pytest.raises(InputError, match="layer high is not a finite number for a, c;"):
        store.means()


def test_a_store_without_categories_ranks_nothing(tmp_path):
    store = build(tmp_path / "store", ImageList(Path("x"), ("a", "b"), ("a", "b")))
    with pytest.raises(InputError, match="no categories; make one of candidates with `rtgod categories build`"):
        store.means()


def test_a_store_that_is_not_finished_says_how_far_it_is(store):
    writable = FeatureStore(store.path, writable=True)
    writable._arrays["done"][1] = False
    for use in (FeatureStore(store.path).means, lambda: FeatureStore(store.path).features_of(["a_0"])):
        with pytest.raises(InputError, match="only 2 of 3 batches are done; start `rtgod features`"):
            use()
    writable._arrays["done"][1] = True
    writable.forget_means()
    with pytest.raises(InputError, match="its categories' means are not all computed; start"):
        FeatureStore(store.path).means()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


FILES = [
    "zarr.json", "image_id/zarr.json", "image_id/c.0", "problem/c.1", "done/c.0", "category/c.0", "category_id/c.0",
    "layers/low/features/zarr.json", "layers/low/features/c.1.0", "layers/high/means/c.0.0",
]  # fmt: skip


def everything(path):
    store = FeatureStore(path)
    ids, means = store.means()
    return ids, {"mean": means, "each": store.features_of(list(NAMES))}


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), Path.unlink], ids=["cut", "empty", "gone"])
@pytest.mark.parametrize("name", FILES)
def test_every_file_that_is_cut_or_gone_is_noticed(store, name, damage):
    damage(store.path / name)
    with pytest.raises(InputError, match=r"`rtgod features`") as refused:
        everything(store.path)
    assert str(store.path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("json")])
def test_every_number_that_is_altered_is_noticed(store, name):
    flip(store.path / name)
    with pytest.raises(InputError, match=f"{name.rpartition('/')[0]} is missing or damaged"):
        everything(store.path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.data())
def test_altered_metadata_is_noticed_or_changes_nothing(store, data):
    """Zarr's own has no checksum."""
    path = store.path / data.draw(st.sampled_from([name for name in FILES if name.endswith("json")]))
    whole = path.read_bytes()
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    expected = everything(store.path)
    path.write_bytes(content)
    try:
        found = everything(store.path)
    except InputError:
        found = expected
    finally:
        path.write_bytes(whole)
    ids, arrays = found
    assert ids == expected[0]
    for kind, layers in expected[1].items():
        for layer, values in layers.items():
            np.testing.assert_array_equal(arrays[kind][layer], values)


@pytest.mark.parametrize("key", ["image_id", "problem", "done", "layers/low/features", "layers/high/means"])
def test_arrays_that_do_not_fit_together_are_refused(store, key):
    zarr.open_group(store.path)[key].resize((2, 5) if "/" in key else (2,))
    with pytest.raises(InputError, match=r"has \d+ rows, not \d+"):
        FeatureStore(store.path)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({}, "not a feature store of format 1"),
        ({"rtgod_features": 2}, "not a feature store of format 1; make it again with this rtgod"),
        ({"rtgod_features": 1}, "zarr.json is missing or damaged"),
        ({"rtgod_features": 1, "network": {"name": 3}}, "zarr.json is missing or damaged"),
    ],
)
def test_other_zarr_groups_are_refused(tmp_path, attributes, what):
    zarr.create_group(tmp_path / "group", attributes=attributes)
    with pytest.raises(InputError, match=what):
        FeatureStore(tmp_path / "group")


def test_the_attributes_say_what_was_computed_and_with_what(store):
    about = json.loads((store.path / "zarr.json").read_text())["attributes"]
    assert about["network"]["preprocessing"]["channels"] == "RGB"
    assert about["network"]["weights_sha256"] == "0" * 64
    assert set(about["packages"]) >= {"rtgod", "torch", "torchvision", "pillow"}
