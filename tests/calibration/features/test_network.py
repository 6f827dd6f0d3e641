import re

import pytest
import torch
from pydantic import ValidationError

from calibration.features.network import EXAMPLE, LAYERS, Network, Preprocessing, differences
from calibration.features.torchvision_import import import_torchvision
from rtgod.errors import InputError


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_of_a_network_are_nodes_of_it_from_low_to_high(name):
    torchvision = import_torchvision()
    from torchvision.models.feature_extraction import get_graph_node_names

    with torch.device("meta"):
        _, nodes = get_graph_node_names(torchvision.models.get_model(name, weights=None))
    # A node's name may stop at the module: its last node is then meant.
    places = [
        max(i for i, node in enumerate(nodes) if f"{node}.".startswith(f"{asked}.")) for asked in LAYERS[name].values()
    ]
    assert places == sorted(set(places))
    if name != "alexnet":
        assert places[-1] == len(nodes) - 1


def test_vgg19_s_layers_are_its_convolutions_and_fully_connected_layers():
    with torch.device("meta"):
        modules = import_torchvision().models.vgg19(weights=None)
    kinds = [type(modules.get_submodule(node)).__name__ for node in LAYERS["vgg19"].values()]
    assert kinds == ["Conv2d"] * 16 + ["Linear"] * 3


def test_networks_differ_by_whatever_changes_their_features():
    network = Network(weights_sha256="a" * 64)
    assert differences(network, network.model_copy(update={"weights": "elsewhere.pt"})) == []
    changes = {
        "name": "vgg19", "weights_sha256": "b" * 64, "layers": {"a": "features.0"}, "n_units": 5, "units_seed": 1,
        "preprocessing": Preprocessing(channels="BGR", brightest=255),
    }  # fmt: skip
    found = differences(network, network.model_copy(update=changes))
    assert len(found) == 7
    assert "n_units 1000 there, 5 here" in found
    assert "preprocessing.channels RGB there, BGR here" in found
    assert all(len(line) < 200 for line in found)
    assert len({network, Network(weights_sha256="a" * 64), network.model_copy(update=changes)}) == 2


def test_preprocessing_from_a_file_sets_what_the_file_says(tmp_path):
    (tmp_path / "caffe.toml").write_text('channels = "BGR"\nbrightest = 255\nmean = [104, 117, 123]\nsd = [1, 1, 1]\n')
    found = Preprocessing.from_toml(tmp_path / "caffe.toml")
    assert found.model_fields_set == {"channels", "brightest", "mean", "sd"}
    assert found.mean == (104, 117, 123)


@pytest.mark.parametrize(
    "text", ['channels = "GRB"', "brightest = 128", "mean = [1, 2]", "sd = [1, 1, 0]", "crop_px = 0", "croppx = 2"]
)
def test_preprocessing_that_is_not_possible_is_refused(tmp_path, text):
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(InputError, match=text.split()[0]):
        Preprocessing.from_toml(tmp_path / "settings.toml")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            'channels = "RGB"\nbrightest = 1\nmean = [123, 117, 104]\nsd = [1, 1, 1]',
            "lies outside of 0 to brightest = 1",
        ),
        ('channels = "RGB"\nbrightest = 255\nmean = [0.5, 0.5, 0.4]\nsd = [1, 1, 1]', "is of pixels from 0 to 1, and"),
        ("resize_px = 50\ncrop_px = 60", "crop_px = 60 is more than resize_px = 50 leaves"),
    ],
)
def test_preprocessing_of_two_kinds_at_once_is_refused(tmp_path, text, why):
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(InputError, match=why):
        Preprocessing.from_toml(tmp_path / "settings.toml")


@pytest.mark.parametrize("name", ["", "..", "a/b", "__layer", "a b"])
def test_a_layer_s_name_can_be_that_of_a_folder(name):
    with pytest.raises(ValidationError, match="pattern"):
        Network(layers={name: "features.0"})


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('channels = "BGR"\nbrightest = 255\nmean = [104, 117, 123]', "sd"),
        ("mean = [0.5, 0.5, 0.5]\nsd = [0.5, 0.5, 0.5]", "brightest, channels"),
        ("crop_px = 227", "resize_px"),
        ('interpolation = "bicubic"\nresize_px = 256', "crop_px"),
    ],
)
def test_preprocessing_in_part_is_refused_with_what_is_missing_and_an_example(tmp_path, text, missing):
    (tmp_path / "part.toml").write_text(text)
    with pytest.raises(InputError, match=rf"part.toml: .+ without {missing};.+all of these or none.+sd = \[1, 1, 1\]"):
        Preprocessing.from_toml(tmp_path / "part.toml")


def test_the_example_is_a_complete_preprocessing(tmp_path):
    lines = re.findall(r"\w+ = (?:\[.*?\]|[^,;]+)", EXAMPLE)
    (tmp_path / "whole.toml").write_text("\n".join(lines))
    found = Preprocessing.from_toml(tmp_path / "whole.toml")
    assert found.model_fields_set == Preprocessing.model_fields.keys() - {"interpolation"}
    assert (found.channels, found.brightest, found.mean, found.sd) == ("BGR", 255, (104, 117, 123), (1, 1, 1))


@pytest.mark.parametrize("text", ["", 'interpolation = "bicubic"', "resize_px = 40\ncrop_px = 33"])
def test_what_stands_by_itself_may_be_set_alone(tmp_path, text):
    (tmp_path / "part.toml").write_text(text)
    Preprocessing.from_toml(tmp_path / "part.toml")
