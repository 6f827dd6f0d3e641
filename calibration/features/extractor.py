"""Network features of images: any torchvision network, any of its nodes, a fixed random choice of units from each."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calibration.features.network import Network, Preprocessing
from calibration.features.torchvision_import import import_torchvision
from calibration.features.weights import checksum, load_model, published_preprocessing
from calibration.metrics.group_means import averaged_by
from rtgod.errors import InputError
from rtgod.messages import Float32Array
from rtgod.pictures.pixels import Change, DecodedPicture, read_picture

if TYPE_CHECKING:
    import torch

#: Number of images that pass through the network together.
_PASS = 32
Image = Path | npt.NDArray[np.uint8]
UnitIndices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class BatchFeatures:
    """Features of some images, and the problems of those that have none.

    Attributes
    ----------
    values : mapping of str to ndarray of shape (n_images, n_units), float32
        Features per layer; NaN for images that could not be read.
    problems : tuple of str
        For each image, the reason why it could not be read; empty if it could.
    changes : tuple of tuple of Change
        For each image, the conversions of its pixels; empty if no image needed any.
    """

    values: Mapping[str, Float32Array]
    problems: tuple[str, ...]
    changes: tuple[tuple[Change, ...], ...] = ()


class FeatureExtractor:
    """Extractor of the chosen units' activations: on a GPU, if present, in mixed precision, else in float32.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    network : Network
        The given network, completed by the weights' checksum and by the published preprocessing where it sets none.
    units : dict of str to ndarray of shape (n_units,), int64
        For each layer, the kept units of the flattened layer, in the order in which they are returned.
    precision : str
    changes : dict of Path to tuple of Change
        Conversions of the image files that `extract` read.

    Raises
    ------
    InputError
        If the network, a node or the weights are not available.
    MissingDependencyError
        If torch or torchvision is not installed.
    """

    def __init__(self, network: Network) -> None:
        import_torchvision()
        import torch
        from torchvision.models.feature_extraction import create_feature_extractor

        preprocessing = published_preprocessing(network)
        if len(set(network.layers.values())) < max(1, len(network.layers)):
            raise InputError(f"layers {network.layers}: name at least one node, and none of them twice")
        model = load_model(network)
        self.network = network.model_copy(update={"weights_sha256": checksum(model), "preprocessing": preprocessing})
        self._preprocess = make_preprocess(preprocessing)
        try:
            whole = create_feature_extractor(model, {node: layer for layer, node in network.layers.items()}).eval()
        except ValueError as error:
            raise InputError(f"network {network.name}: {error}") from error
        blank = np.zeros((preprocessing.resize_px, preprocessing.resize_px, 3), np.uint8)
        with torch.inference_mode():
            activations = whole(self._preprocess(blank)[None])
        self.units = {
            layer: _choose_units(network, layer, activation[0].numel()) for layer, activation in activations.items()
        }
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._mixed = self._device.type == "cuda"
        self.precision = "mixed float16" if self._mixed else "float32"
        self._model = _choosing(whole, self.units).to(self._device)
        self.changes: dict[Path, tuple[Change, ...]] = {}

    def extract(
        self, images: Sequence[Image], progress: Callable[[int], object] = lambda _: None
    ) -> dict[str, Float32Array]:
        """Compute the features of images.

        Parameters
        ----------
        images : sequence of Path or ndarray of shape (height, width, 3), uint8
        progress : callable
            Called with the number of images done since the last call.

        Returns
        -------
        dict of str to ndarray of shape (n_images, n_units), float32
            Features per layer, in the order of the images.

        Raises
        ------
        InputError
            If an image cannot be read.
        """
        collected: dict[str, list[Float32Array]] = {name: [] for name in self.network.layers}
        with single_threads() as pool:
            batches = list(_passes(images))
            for batch, features in zip(batches, pool.map(self._read_and_compute, batches), strict=True):
                for name, values in features.items():
                    collected[name].append(values)
                progress(len(batch))
        return {name: np.concatenate(parts) for name, parts in collected.items()}

    def compute(self, images: Sequence[Path]) -> BatchFeatures:
        """Compute features of the images that can be read, on one thread.

        Parameters
        ----------
        images : sequence of Path
        """
        values = {layer: np.full((len(images), len(units)), np.nan, np.float32) for layer, units in self.units.items()}
        inputs, problems, changes = [], [], []
        for image in images:
            try:
                picture = read_picture(image)
                inputs.append(self._preprocess(picture.pixels))
                problems.append("")
                changes.append(picture.changes)
            except InputError as error:
                problems.append(str(error))
                changes.append(())
        rows = [row for row, problem in enumerate(problems) if not problem]
        for pass_rows, pass_inputs in zip(_passes(rows), _passes(inputs), strict=True):
            for layer, features in self._features(pass_inputs).items():
                values[layer][pass_rows] = features
        return BatchFeatures(values, tuple(problems), tuple(changes) if any(changes) else ())

    def _read_and_compute(self, images: Sequence[Image]) -> dict[str, Float32Array]:
        inputs = []
        for image in images:
            picture = read_picture(image) if isinstance(image, Path) else DecodedPicture(image)
            inputs.append(self._preprocess(picture.pixels))
            if isinstance(image, Path) and picture.changes:
                self.changes[image] = picture.changes
        return self._features(inputs)

    def _features(self, inputs: Sequence[torch.Tensor]) -> dict[str, Float32Array]:
        import torch

        batch = torch.stack(list(inputs)).to(self._device)
        with torch.inference_mode(), torch.autocast("cuda", torch.float16) if self._mixed else nullcontext():
            chosen = self._model(batch)
        return {layer: values.float().cpu().numpy() for layer, values in chosen.items()}


def compute(network: Network, images: Sequence[Path]) -> BatchFeatures:
    """Compute features of a batch of images in any process; all arguments can be sent to a worker.

    Each process loads the network once and from then on computes on one thread, so that the result is the same
    everywhere.

    Parameters
    ----------
    network : Network
        Has the checksum of its weights, so that no worker computes with others.
    images : sequence of Path

    Raises
    ------
    InputError
        If the network or its weights are not available to this process.
    """
    import torch

    torch.set_num_threads(1)
    with _LOADING:
        extractor = _loaded(network)
    return extractor.compute(images)


#: Held while one thread of a worker loads the network; the others wait.
_LOADING = threading.Lock()


@lru_cache(maxsize=1)
def _loaded(network: Network) -> FeatureExtractor:
    return FeatureExtractor(network)


@contextmanager
def single_threads() -> Iterator[Executor]:
    """Open a pool of threads, one for each core, that each compute on a single thread.

    Batches run side by side, each on one thread from end to end: torch's own threads split sums differently on another
    number of cores, and the last bits of the features would differ.
    """
    import torch

    before = torch.get_num_threads()
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)


def make_preprocess(preprocessing: Preprocessing) -> Callable[[npt.NDArray[np.uint8]], torch.Tensor]:
    """Return a function from pixels of shape (height, width, 3), uint8, to network input (3, crop, crop), float32.

    Parameters
    ----------
    preprocessing : Preprocessing
        Complete, as from `calibration.features.weights.published_preprocessing`.
    """
    import_torchvision()
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F  # noqa: N812 # the name in torchvision's documentation

    interpolation = InterpolationMode(preprocessing.interpolation)

    def preprocess(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # PyTorch warns of arrays that cannot be written to
        image = F.resize(image, preprocessing.resize_px, interpolation, antialias=True)
        image = F.center_crop(image, preprocessing.crop_px).float()
        if preprocessing.channels == "BGR":
            image = image.flip(0)
        if preprocessing.brightest == 1:
            image = image / 255
        return F.normalize(image, preprocessing.mean, preprocessing.sd)

    return preprocess


def category_means(
    features: Mapping[str, Float32Array], categories: Sequence[str]
) -> tuple[list[str], dict[str, Float32Array]]:
    """Average features over the images of each category.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (n_images, n_units), float32
    categories : sequence of str
        The category of each image.

    Returns
    -------
    names : list of str
        The categories in order of first appearance.
    means : dict of str to ndarray of shape (n_categories, n_units), float32
    """
    means = {layer: averaged_by(categories, values)[1].astype(np.float32) for layer, values in features.items()}
    return list(dict.fromkeys(categories)), means


def _choose_units(network: Network, layer: str, n_available: int) -> UnitIndices:
    """Choose units by one permutation for each layer, so that they do not depend on the other layers asked for."""
    key = int.from_bytes(hashlib.sha256(network.layers[layer].encode()).digest()[:8], "big")
    return np.random.default_rng([network.units_seed, key]).permutation(n_available)[: network.n_units]


def _choosing(extractor: torch.fx.GraphModule, units: Mapping[str, UnitIndices]) -> torch.fx.GraphModule:
    """Add the choice of units to the extractor's graph.

    Each layer's memory is then freed as soon as its units are copied, and units are copied before an in-place
    rectification that follows the layer overwrites it.
    """
    import torch

    graph = extractor.graph
    (output,) = (node for node in graph.nodes if node.op == "output")
    chosen = {}
    for i, (layer, node) in enumerate(output.args[0].items()):
        extractor.register_buffer(f"units_{i}", torch.from_numpy(units[layer]))
        with graph.inserting_after(node):
            flat = graph.call_function(torch.flatten, (node, 1))
        with graph.inserting_after(flat):
            indices = graph.get_attr(f"units_{i}")
        with graph.inserting_after(indices):
            chosen[layer] = graph.call_function(torch.index_select, (flat, 1, indices))
    output.args = (chosen,)
    return torch.fx.GraphModule(extractor, graph)


def _passes(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _PASS):
        yield items[start : start + _PASS]
