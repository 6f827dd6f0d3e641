"""The user's pictures: the same from files and from a store, in pieces; what cannot be read is counted or refused."""

import numpy as np
import pytest
from PIL import Image

from calibration.datasets.dataset_files import DatasetFiles
from calibration.features import picture_files
from calibration.features.extraction import extract_to_store
from calibration.features.images import list_images
from calibration.features.picture_files import PictureFiles
from calibration.parallel.progress import quiet
from calibration.samples.targets import TargetFiles
from rtgod.errors import InputError
from tests.calibration import pretended

NETWORK = pretended.network()


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(["cats/tabby", "cats/black", "dogs/tabby", "tree", "house"]):
        path = tmp_path / "mine" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, i, i)).save(path)
    return tmp_path / "mine"


def stored(folder, monkeypatch):
    monkeypatch.setattr("calibration.features.extraction.FeatureExtractor", pretended.PretendedExtractor)
    extract_to_store(list_images(folder), NETWORK, folder.parent / "mine.zarr", quiet)
    return PictureFiles(folder.parent / "mine.zarr")


def features_of(files, extractor):
    pieces = list(files.features(extractor, quiet))
    assert [(rows.start, rows.stop) for rows, _ in pieces] == [(0, 2), (2, 4), (4, 5)]
    return {layer: np.concatenate([piece[layer] for _, piece in pieces]) for layer in pieces[0][1]}


def test_they_are_the_same_from_files_and_from_a_store(folder, monkeypatch):
    monkeypatch.setattr(picture_files, "PIECE", 2)
    files, store = PictureFiles(folder), stored(folder, monkeypatch)
    assert files.names == store.names
    assert set(files.names) == {"cats/black.png", "cats/tabby.png", "dogs/tabby.png", "house.png", "tree.png"}
    assert (files.need_network, store.need_network) == (True, False)
    ours, theirs = features_of(files, pretended.PretendedExtractor(NETWORK)), features_of(store, None)
    for layer, values in ours.items():
        np.testing.assert_array_equal(values, theirs[layer])


def test_what_a_store_could_not_read_is_left_out_and_counted(folder, monkeypatch):
    (folder / "broken.png").write_text("no image")
    store = stored(folder, monkeypatch)
    assert "broken.png" not in store.names
    assert len(store.names) == 5
    assert store.notes == ("1 picture that could not be read: broken.png",)


def test_a_store_of_another_network_is_refused(folder, monkeypatch):
    store = stored(folder, monkeypatch)
    with pytest.raises(InputError, match=r"mine\.zarr and the rest differ"):
        store.check_network(NETWORK.model_copy(update={"n_units": 6, "weights_sha256": "0" * 64}))


def test_where_categories_are_decoded_pictures_are_refused(folder):
    with pytest.raises(InputError, match="--pictures: categories themselves are decoded here"):
        TargetFiles(DatasetFiles(subject="01", training=(), pictures=folder), None)
