"""Network features of images: any torchvision network, any of its nodes, a fixed random choice of units of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calibration.torchvision_import import import_torchvision
from rtgod.errors import InputError
from rtgod.messages import Float32Array

if TYPE_CHECKING:
    import torch

#: AlexNet's eight layers before rectification, under the names of Horikawa & Kamitani (2017).
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
_BATCH = 32
Image = Path | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Network:
    """Which features to compute.

    Attributes
    ----------
    name : str
        A classification network of torchvision.
    weights : str
        "default" for torchvision's pretrained ones (downloaded once), "random:SEED" for seeded random ones, or the path
        of a local file with a state dictionary (.pt, .pth, .safetensors or .npz).
    layers : mapping of str to str
        Our name of a layer to the network's node.
    n_units : int
        How many units to keep of each layer; a smaller layer keeps all.
    units_seed : int
        Seed of the permutation that chooses them.
    """

    name: str = "alexnet"
    weights: str = "default"
    layers: Mapping[str, str] = field(default_factory=lambda: dict(ALEXNET_LAYERS))
    n_units: int = 1000
    units_seed: int = 0


class FeatureExtractor:
    """Computes the chosen units of images.

    Parameters
    ----------
    network : Network

    Raises
    ------
    InputError
        If the network, a node or the weights cannot be had.
    MissingDependencyError
        If torch or torchvision is not installed.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        torchvision = import_torchvision()
        from torchvision.models.feature_extraction import create_feature_extractor

        if network.name not in torchvision.models.list_models(torchvision.models):
            raise InputError(f"network {network.name!r} is not a classification network of torchvision")
        if len(set(network.layers.values())) < max(1, len(network.layers)):
            raise InputError(f"layers {dict(network.layers)}: name at least one node, and none of them twice")
        published = torchvision.models.get_model_weights(network.name).DEFAULT
        model = _load(torchvision, network, published)
        for module in model.modules():
            # An in-place rectification would overwrite the layer before it, whose values are asked for.
            if hasattr(module, "inplace"):
                module.inplace = False
        self._preprocess: Callable[[torch.Tensor], torch.Tensor] = published.transforms(antialias=True)
        try:
            self._model = create_feature_extractor(model, {node: name for name, node in network.layers.items()}).eval()
        except ValueError as error:
            raise InputError(f"network {network.name}: {error}") from error
        self._units: dict[str, npt.NDArray[np.int64]] = {}

    def extract(
        self, images: Sequence[Image], progress: Callable[[int], object] = lambda _: None
    ) -> dict[str, Float32Array]:
        """Compute features.

        Parameters
        ----------
        images : sequence of Path or ndarray of shape (height, width, 3), uint8
        progress : callable
            Told the number of images done since the last call.

        Returns
        -------
        dict of str to ndarray of shape (n_images, n_units), float32
            Per layer, in the order of the images.

        Raises
        ------
        InputError
            If an image cannot be read.
        """
        import torch

        collected: dict[str, list[Float32Array]] = {name: [] for name in self.network.layers}
        threads_before = torch.get_num_threads()
        # Batches run side by side, each on one thread from end to end: torch's own threads split sums differently on
        # another number of cores, and the features would not be the same to the last bit.
        with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for batch, features in zip(_batches(images), pool.map(self._compute, _batches(images)), strict=True):
                    for name, values in features.items():
                        collected[name].append(values)
                    progress(len(batch))
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(threads_before)
        return {name: np.concatenate(parts) for name, parts in collected.items()}

    def _compute(self, batch: Sequence[Image]) -> dict[str, Float32Array]:
        import torch

        with torch.inference_mode():
            activations = self._model(torch.stack([self._preprocess(_read(image)) for image in batch]))
        flat = {name: activation.flatten(1).numpy() for name, activation in activations.items()}
        return {name: values[:, self._chosen(name, values.shape[1])] for name, values in flat.items()}

    def _chosen(self, layer: str, n_available: int) -> npt.NDArray[np.int64]:
        """One permutation per layer, so that the units of a layer do not depend on which others are asked for."""
        if layer not in self._units:
            key = int.from_bytes(hashlib.sha256(self.network.layers[layer].encode()).digest()[:8], "big")
            rng = np.random.default_rng([self.network.units_seed, key])
            self._units[layer] = rng.permutation(n_available)[: self.network.n_units]
        return self._units[layer]


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
    names = list(dict.fromkeys(categories))
    position = {name: i for i, name in enumerate(names)}
    labels = np.array([position[category] for category in categories])
    means = {}
    for layer, values in features.items():
        total = np.zeros((len(names), values.shape[1]))
        np.add.at(total, labels, values)
        means[layer] = (total / np.bincount(labels)[:, np.newaxis]).astype(np.float32)
    return names, means


def _batches(images: Sequence[Image]) -> Iterator[Sequence[Image]]:
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]


def _read(image: Image) -> torch.Tensor:
    import torch
    from PIL import Image as PillowImage

    if isinstance(image, Path):
        try:
            with PillowImage.open(image) as opened:
                image = np.asarray(opened.convert("RGB"))
        # Pillow meets damage in many ways: SyntaxError is one of them.
        except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
            raise InputError(f"image {image}: cannot be read ({error}); replace or remove it") from error
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _load(torchvision: Any, network: Network, published: Any) -> torch.nn.Module:
    get_model = torchvision.models.get_model
    if network.weights == "default":
        try:
            model: torch.nn.Module = get_model(network.name, weights=published)
        except OSError as error:
            raise InputError(
                f"weights of {network.name} cannot be downloaded ({error}); give --weights a local file, or random:0"
            ) from error
        return model
    if network.weights.startswith("random:"):
        return _random(get_model, network)
    model = get_model(network.name, weights=None)
    try:
        model.load_state_dict(_read_state(Path(network.weights)))
    except (RuntimeError, TypeError) as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"weights {network.weights} are not those of {network.name}: {first[:200]}") from error
    return model


def _random(get_model: Callable[..., torch.nn.Module], network: Network) -> torch.nn.Module:
    """He initialisation, which keeps the variance of the activations from layer to layer (He et al. 2015)."""
    import torch

    seed = network.weights.removeprefix("random:")
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise InputError(f"weights {network.weights!r}: write random:SEED with a whole number")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        model = get_model(network.name, weights=None)
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
    return model


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        if path.suffix == ".npz":
            # numpy leaves a file open that it cannot read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(arrays[key].astype(np.float32)) for key in arrays.files}
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # weights_only: a pickle that could run code is refused.
        state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except FileNotFoundError as error:
        raise InputError(f"weights {path}: no such file; give default, random:SEED or a file") from error
    except Exception as error:  # torch, numpy and safetensors each raise their own for a damaged file
        first = str(error).partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"weights {path}: cannot be read as a state dictionary ({first})") from error
