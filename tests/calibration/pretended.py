"""An extractor that computes nothing: features follow from the names of images, which need not be there."""

import hashlib
from typing import ClassVar

import numpy as np

from calibration.features.extractor import BatchFeatures
from calibration.features.network import Network

LAYERS = {"low": "features.0", "high": "features.3"}


class PretendedExtractor:
    """Images whose name contains "broken" cannot be read."""

    precision = "float32"
    changes: ClassVar[dict] = {}

    def __init__(self, network):
        self.network = network.model_copy(update={"weights_sha256": "0" * 64})
        self.units = {layer: np.arange(network.n_units)[::-1] + i for i, layer in enumerate(network.layers)}
        self.n_computed = 0

    def compute(self, images):
        self.n_computed += len(images)
        problems = tuple(f"image {path}: cannot be read" if self.is_broken(path) else "" for path in images)
        values = {
            layer: np.stack([self.features_of(path, layer) for path in images]).astype(np.float32)
            for layer in self.network.layers
        }
        for layer in values.values():
            layer[[bool(problem) for problem in problems]] = np.nan
        return BatchFeatures(values, problems)

    def is_broken(self, path):
        return "broken" in path.name

    def features_of(self, path, layer):
        seed = int.from_bytes(hashlib.sha256(f"{path.parent.name}/{path.name} {layer}".encode()).digest()[:8], "big")
        return np.random.default_rng(seed).normal(size=self.network.n_units).astype(np.float32)

    def extract(self, images, progress):
        progress(len(images))
        return dict(self.compute(images).values)


def network(**changes):
    return Network(**{"name": "squeezenet1_1", "weights": "random:0", "layers": LAYERS, "n_units": 5} | changes)
