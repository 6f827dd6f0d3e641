import pytest

from calibration.commands.options import network_from
from calibration.features.extraction import extract_to_store
from calibration.features.images import ImageList
from calibration.features.network import ALEXNET_LAYERS, LAYERS, Network
from calibration.features.weights import checksum, load_model
from rtgod.errors import InputError
from tests.calibration import pretended


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Of the network of `pretended.network`, with the checksum of its real weights."""

    class Real(pretended.PretendedExtractor):
        def __init__(self, network):
            super().__init__(network)
            self.network = network.model_copy(update={"weights_sha256": checksum(load_model(network))})

    monkeypatch.setattr("calibration.features.extraction.FeatureExtractor", Real)
    images = ImageList(tmp_path, ("a", "b"), ("a.png", "b.png"))
    extract_to_store(images, pretended.network(), tmp_path / "store", lambda *_: None)
    return tmp_path / "store"


def test_without_options_it_is_alexnet_as_published():
    assert network_from(None, None, None, None) == Network(layers=dict(ALEXNET_LAYERS))


def test_options_are_taken_as_they_are(tmp_path):
    (tmp_path / "p.toml").write_text('channels = "BGR"\nbrightest = 255\nmean = [104, 117, 123]\nsd = [1, 1, 1]\n')
    found = network_from("squeezenet1_1", "random:3", ["a=features.0", "b=x=y"], 7, tmp_path / "p.toml")
    assert (found.name, found.weights, found.layers, found.n_units) == (
        "squeezenet1_1", "random:3", {"a": "features.0", "b": "x=y"}, 7,
    )  # fmt: skip
    assert found.preprocessing.channels == "BGR"


@pytest.mark.parametrize("name", LAYERS)
def test_usual_layers_are_taken_where_none_are_named(name):
    assert network_from(name, None, None, None).layers == LAYERS[name]


@pytest.mark.parametrize(
    ("name", "layer", "what"),
    [
        ("densenet121", None, "--network densenet121: name the layers to decode with --layer NAME=NODE"),
        (None, ["cnn1"], "write NAME=NODE, for example"),
        (None, ["=features.0"], "write NAME=NODE, for example"),
        (None, ["../up=features.0"], "network: layers.*pattern"),
    ],
)
def test_options_that_are_not_to_be_understood_are_refused(name, layer, what):
    with pytest.raises(InputError, match=what):
        network_from(name, None, layer, None)


def test_what_is_left_out_is_as_in_the_store(store, tmp_path):
    found = network_from(None, None, None, None, None, (None, tmp_path, store))
    assert found.weights_sha256 is not None
    assert found.model_copy(update={"weights_sha256": None}) == pretended.network()
    assert network_from("squeezenet1_1", "random:0", None, 5, None, (store,)) == found


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("alexnet", None, None, None), "name squeezenet1_1 there, alexnet here"),
        ((None, "random:1", None, None), r"weights_sha256 \w+… there, \w+… here"),
        ((None, None, ["low=features.0"], None), "layers low=features.0, high=features.3 there, low=features.0 here"),
        ((None, None, None, 6), "n_units 5 there, 6 here"),
    ],
)
def test_options_that_contradict_the_store_are_refused(store, options, what):
    with pytest.raises(InputError, match=f"{what}.*leave out the network options, or make the store again"):
        network_from(*options, None, (store,))


def test_preprocessing_that_contradicts_the_store_is_refused(store, tmp_path):
    (tmp_path / "p.toml").write_text("resize_px = 256\ncrop_px = 224\n")
    assert network_from(None, None, None, None, tmp_path / "p.toml", (store,))
    (tmp_path / "p.toml").write_text("resize_px = 256\ncrop_px = 200\n")
    with pytest.raises(InputError, match=r"preprocessing.crop_px 224 there, 200 here"):
        network_from(None, None, None, None, tmp_path / "p.toml", (store,))
