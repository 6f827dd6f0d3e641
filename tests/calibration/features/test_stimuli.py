from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from calibration.features.extraction import extract_to_store
from calibration.features.images import list_categories, list_images
from calibration.features.stimuli import StimulusFiles
from calibration.features.store import FeatureStore
from rtgod.errors import InputError
from rtgod.events.table import Trial
from tests.calibration import pretended

NETWORK = pretended.network()
SHOWN = ["n1_1", "n2_1", "n1_2", "n1_1"]


def quiet(*_):
    pass


def shown(names, run="run-1"):
    return {run: tuple(Trial(9.0 * i, 9.0, "stimulus", "n1", name) for i, name in enumerate(names))}


@pytest.fixture
def folders(tmp_path):
    """Shown images and candidates."""
    for i, name in enumerate(
        ["shown/n1_1", "shown/more/n1_2", "shown/n2_1", "all/n1/n1_8", "all/n1/n1_9", "all/n3/n3_9"]
    ):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, i, i)).save(path)
    return tmp_path / "shown", tmp_path / "all"


@pytest.fixture
def extractor():
    return pretended.PretendedExtractor(NETWORK)


@pytest.fixture
def stores(folders, tmp_path, monkeypatch):
    """The same as stores of features."""
    monkeypatch.setattr("calibration.features.extraction.FeatureExtractor", pretended.PretendedExtractor)
    extract_to_store(list_images(folders[0]), NETWORK, tmp_path / "shown.zarr", quiet)
    extract_to_store(list_categories(folders[1]), NETWORK, tmp_path / "all.zarr", quiet)
    return tmp_path / "shown.zarr", tmp_path / "all.zarr"


@pytest.mark.parametrize("images", ["folder", "store"])
@pytest.mark.parametrize("candidates", ["folder", "store"])
def test_features_are_the_same_wherever_they_come_from(folders, stores, extractor, images, candidates):
    files = StimulusFiles(
        (folders if images == "folder" else stores)[0], (folders if candidates == "folder" else stores)[1]
    )
    assert files.need_network == ("folder" in (images, candidates))
    extractor.n_computed = 0
    runs = shown(SHOWN[:2], "run-1") | shown(SHOWN[2:], "run-2")
    stimuli = files.features(runs, extractor if files.need_network else None, quiet)
    assert extractor.n_computed == 3 * (images == "folder") + 3 * (candidates == "folder")
    paths = {path.stem: path for path in folders[0].rglob("*.png")}
    found = stimuli.of([trial for trials in runs.values() for trial in trials])
    assert stimuli.candidate_ids == ("n1", "n3")
    for layer, values in found.items():
        np.testing.assert_array_equal(values, [extractor.features_of(paths[name], layer) for name in SHOWN])
        means = [
            np.mean([extractor.features_of(path, layer) for path in sorted((folders[1] / category).iterdir())], axis=0)
            for category in stimuli.candidate_ids
        ]
        np.testing.assert_allclose(stimuli.candidates[layer], means, rtol=1e-6)


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize("kind", ["folders", "stores"])
def test_labels_without_an_image_are_named_and_counted(kind, extractor, request):
    files = StimulusFiles(*request.getfixturevalue(kind))
    for missing, what in (
        (["n9_1"], "n9_1[,;]"),
        ([f"x{i}" for i in range(30)], r"x0, x1, x2, x3, x4, … \(30 in all\)"),
    ):
        with pytest.raises(InputError, match=what):
            files.features(shown([*SHOWN, *missing]), extractor, quiet)


def test_different_images_of_one_name_are_named_and_copies_are_not(folders, extractor):
    copy = folders[0] / "again" / "n2_1.png"
    copy.parent.mkdir()
    copy.write_bytes((folders[0] / "n2_1.png").read_bytes())
    files = StimulusFiles(*folders)
    assert files.features(shown(SHOWN), extractor, quiet)
    Image.new("RGB", (4, 4), "red").save(copy)
    with pytest.raises(InputError, match=r"show n2_1, and there are different images of that name: .*again/n2_1.png"):
        files.features(shown(SHOWN), extractor, quiet)
    assert files.features(shown(["n1_1"]), extractor, quiet)  # others do not matter


def test_runs_that_show_no_images_are_refused(folders, extractor):
    first, *others = shown(SHOWN)["run-1"]
    run = {"run-1": [replace(first, stimulus=None), *others]}
    with pytest.raises(
        InputError, match="run run-1: trials name no image; calibrate on runs in which images were shown"
    ):
        StimulusFiles(*folders).features(run, extractor, quiet)


def test_a_store_beside_files_must_be_of_the_same_network(folders, stores):
    files = StimulusFiles(folders[0], stores[1])
    other = pretended.PretendedExtractor(pretended.network(n_units=4))
    with pytest.raises(InputError, match=r"all.zarr and the rest differ: n_units 5 there, 4 here"):
        files.features(shown(SHOWN), other, quiet)


def test_two_stores_must_be_of_the_same_network(folders, stores, tmp_path):
    other = pretended.network(units_seed=1)
    extract_to_store(list_categories(folders[1]), other, tmp_path / "other.zarr", quiet)
    with pytest.raises(InputError, match=r"other.zarr and the rest differ: units_seed 1 there, 0 here"):
        StimulusFiles(stores[0], tmp_path / "other.zarr")


def test_an_unfinished_store_is_refused_before_anything_is_computed(stores, folders):
    FeatureStore(stores[0], writable=True)._arrays["done"][0] = False
    with pytest.raises(InputError, match="only 0 of 1 batches are done"):
        StimulusFiles(stores[0], folders[1])
