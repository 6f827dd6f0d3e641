"""The image of each trial, in a folder or in a store of features."""

import numpy as np
import pytest
from PIL import Image

from calibration.features.extraction import extract_to_store
from calibration.features.images import list_images
from calibration.features.shown_images import find_shown
from calibration.features.stimuli import StimulusFiles
from rtgod.errors import InputError
from rtgod.events.table import Trial
from tests.calibration import pretended
from tests.calibration.features.test_stimuli import shown

NETWORK = pretended.network()


def quiet(*_):
    pass


@pytest.fixture
def folder(tmp_path):
    """Images of two categories, called alike."""
    for i, name in enumerate(["house/01.png", "house/02.png", "tool/01.png", "tool/02.png", "face_1.png"]):
        path = tmp_path / "stimuli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (10 * i, i, i)).save(path)
    return tmp_path / "stimuli"


@pytest.fixture
def store(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("calibration.features.extraction.FeatureExtractor", pretended.PretendedExtractor)
    extract_to_store(list_images(folder), NETWORK, tmp_path / "shown.zarr", quiet)
    return tmp_path / "shown.zarr"


def test_images_are_found_by_their_paths(folder, store):
    names = ["house/01.png", "stimuli/tool/01.png", "face_1", "tool/09.png"]
    found = find_shown(names, folder)
    assert found.keys == {
        "house/01.png": [str(folder / "house/01.png")],
        "stimuli/tool/01.png": [str(folder / "tool/01.png")],
        "face_1": [str(folder / "face_1.png")],
    }
    assert (found.missing, found.n_others) == (("tool/09.png",), 2)
    of_store = find_shown(names, store)
    assert of_store.keys == {"house/01.png": ["house/01"], "stimuli/tool/01.png": ["tool/01"], "face_1": ["face_1"]}
    assert (of_store.missing, of_store.n_others) == (("tool/09.png",), 2)


@pytest.mark.parametrize("kind", ["folder", "store"])
def test_two_images_of_one_name_have_their_own_features(kind, request, folder):
    names = ["house/01.png", "tool/01.png", "house/01.png"]
    extractor = pretended.PretendedExtractor(NETWORK)
    files = StimulusFiles(request.getfixturevalue(kind), _candidates(folder))
    stimuli = files.features(shown(names), extractor, quiet)
    for layer, values in stimuli.of([Trial(0, 9, "stimulus", "x", name) for name in names]).items():
        np.testing.assert_array_equal(values, [extractor.features_of(folder / name, layer) for name in names])


def test_a_block_of_images_has_the_mean_of_their_features(folder):
    names = ("house/01.png", "house/02.png")
    extractor = pretended.PretendedExtractor(NETWORK)
    block = Trial(0, 9, "stimulus", "house", None, stimuli=names)
    single = Trial(20, 9, "stimulus", "face", "face_1.png")
    run = shown(["house/01.png", "house/02.png", "face_1.png"])
    stimuli = StimulusFiles(folder, _candidates(folder)).features(run, extractor, quiet)
    for layer, values in stimuli.of([block, single]).items():
        mean = np.mean([extractor.features_of(folder / name, layer) for name in names], axis=0)
        np.testing.assert_allclose(values, [mean, extractor.features_of(folder / "face_1.png", layer)], rtol=1e-6)


def test_one_file_cannot_be_two_images(tmp_path):
    (tmp_path / "01.png").touch()
    with pytest.raises(InputError, match=r"show house/01.png and tool/01.png, and of both there is only .*01\.png"):
        find_shown(["house/01.png", "tool/01.png"], tmp_path)


def test_a_name_that_may_be_several_rows_of_a_store_is_refused(store):
    with pytest.raises(InputError, match=r"01\.png may be any of house/01, tool/01; name it in the events by its path"):
        find_shown(["01.png"], store)


def _candidates(folder):
    for category in ("n1", "n2"):
        path = folder.parent / "candidates" / category / "1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return folder.parent / "candidates"
