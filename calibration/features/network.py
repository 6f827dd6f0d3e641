"""Settings of features: a network, its layers, the number of their units, and the preprocessing of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from rtgod.errors import InputError
from rtgod.settings import AtLeastOne, Positive, Settings

#: AlexNet's eight layers before rectification, by the names of Horikawa & Kamitani (2017).
ALEXNET_LAYERS: Mapping[str, str] = {
    "cnn1": "features.0",
    "cnn2": "features.3",
    "cnn3": "features.6",
    "cnn4": "features.8",
    "cnn5": "features.10",
    "cnn6": "classifier.1",
    "cnn7": "classifier.4",
    "cnn8": "classifier.6",
}
_RESIDUAL_LAYERS = {
    "conv1": "bn1",
    **{f"layer{i}": f"layer{i}" for i in (1, 2, 3, 4)},
    "pool": "flatten",
    "fc": "fc",
}
#: Default layers of each network: our name of a layer to the network's node.
LAYERS: Mapping[str, Mapping[str, str]] = {
    "alexnet": ALEXNET_LAYERS,
    "squeezenet1_1": {
        "conv1": "features.0",
        **{f"fire{i}": f"features.{node}.cat" for i, node in enumerate((3, 4, 6, 7, 9, 10, 11, 12), 2)},
        "conv10": "flatten",
    },
    # Layers before rectification, as in the same laboratory's later work.
    "vgg19": {
        **{
            f"conv{stage}_{i}": f"features.{first + 2 * (i - 1)}"
            for stage, (first, n) in enumerate(((0, 2), (5, 2), (10, 4), (19, 4), (28, 4)), 1)
            for i in range(1, n + 1)
        },
        **{f"fc{i}": f"classifier.{node}" for i, node in ((6, 0), (7, 3), (8, 6))},
    },
    **{f"resnet{depth}": _RESIDUAL_LAYERS for depth in (18, 34, 50, 101, 152)},
}

LayerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")]
PerChannel = tuple[float, float, float]
#: Settings of a preprocessing that have a meaning only together: conversion of colours to numbers, and sizes.
TOGETHER = (frozenset({"channels", "brightest", "mean", "sd"}), frozenset({"resize_px", "crop_px"}))
#: Example for a message, in one line: the preprocessing of networks that were trained with Caffe.
EXAMPLE = (
    'of a network from Caffe: channels = "BGR", brightest = 255, mean = [104, 117, 123], sd = [1, 1, 1], '
    "resize_px = 256, crop_px = 224; a line each"
)


class Preprocessing(Settings):
    """Preprocessing of an image for the network.

    Values that are not set are torchvision's published ones for the network; the defaults here are the usual ones. A
    file sets either all settings that belong together (`TOGETHER`) or none: halves of two preprocessings do not fit.
    """

    #: Length of the image's shorter side after resizing.
    resize_px: AtLeastOne = 256
    #: Side of the square that is cut from the middle.
    crop_px: AtLeastOne = 224
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    channels: Literal["RGB", "BGR"] = "RGB"
    #: Value of the brightest pixel, before the mean is subtracted: 1 or 255.
    brightest: Literal[1, 255] = 1
    #: Values of each channel, in the order and range that the network sees: subtracted, then divided by.
    mean: PerChannel = (0.485, 0.456, 0.406)
    sd: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read preprocessing settings from a TOML file.

        Parameters
        ----------
        path : Path

        Raises
        ------
        InputError
            If it cannot be read, has an unknown or impossible setting, or sets only a part of a group in `TOGETHER`.
        """
        preprocessing = super().from_toml(path)
        for names in TOGETHER:
            if (given := names & preprocessing.model_fields_set) and (missing := sorted(names - given)):
                raise InputError(
                    f"settings {path}: {', '.join(sorted(given))} without {', '.join(missing)}; the network's usual "
                    f"values would not fit them, so set all of these or none. For example, {EXAMPLE}"
                )
        if (why := preprocessing.why_not_of_one_range()) and preprocessing.model_fields_set:
            raise InputError(f"settings {path}: {why}")
        return preprocessing

    def why_not_of_one_range(self) -> str:
        """Say which settings cannot belong to one preprocessing; empty if all can."""
        if any(not 0 <= mean <= self.brightest for mean in self.mean):
            return f"mean = {list(self.mean)} lies outside of 0 to brightest = {self.brightest}"
        if self.brightest > 1 and 0 < max(self.mean) < 1:
            return f"mean = {list(self.mean)} is of pixels from 0 to 1, and brightest = {self.brightest}"
        if self.crop_px > self.resize_px:
            return f"crop_px = {self.crop_px} is more than resize_px = {self.resize_px} leaves"
        return ""


class Network(Settings):
    """Network, layers and units whose features are computed.

    Attributes
    ----------
    name : str
        Name of a classification network of torchvision.
    weights : str
        "default" for torchvision's pretrained weights (downloaded once), "random:SEED" for seeded random weights, or
        the path of a local file with a state dictionary (.pt, .pth, .safetensors or .npz).
    weights_sha256 : str or None
        Checksum that the weights must have; see `calibration.features.weights.checksum`.
    layers : mapping of str to str
        Our name of a layer to the network's node.
    n_units : int
        Number of units to keep of each layer; a smaller layer keeps all.
    units_seed : int
        Seed of the permutation that chooses the units.
    preprocessing : Preprocessing
    """

    name: str = "alexnet"
    weights: str = "default"
    weights_sha256: str | None = None
    layers: dict[LayerName, str] = Field(default_factory=lambda: dict(ALEXNET_LAYERS))
    n_units: AtLeastOne = 1000
    units_seed: Annotated[int, Field(ge=0)] = 0
    preprocessing: Preprocessing = Preprocessing()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def differences(there: Network, here: Network) -> list[str]:
    """List in words the settings by which two networks' features differ; the path of the weights' file does not count.

    Parameters
    ----------
    there, here : Network
        Networks as a `FeatureExtractor` completed them.
    """
    theirs, ours = _described(there), _described(here)
    return [
        f"{name} {_short(theirs.get(name))} there, {_short(ours.get(name))} here"
        for name in dict.fromkeys([*theirs, *ours])
        if theirs.get(name) != ours.get(name)
    ]


def _described(network: Network) -> dict[str, object]:
    described = network.model_dump(mode="json", exclude={"weights"})
    preprocessing = described.pop("preprocessing")
    return described | {f"preprocessing.{name}": value for name, value in preprocessing.items()}


def _short(value: object) -> str:
    text = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
