"""A network of torchvision with its weights: pretrained, seeded random, or from a local file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.features.network import Network, Preprocessing
from calibration.features.torchvision_import import import_torchvision
from rtgod.errors import InputError

if TYPE_CHECKING:
    import torch


def load_model(network: Network) -> torch.nn.Module:
    """Load the network with its weights, ready for inference.

    Parameters
    ----------
    network : Network

    Raises
    ------
    InputError
        If the network or the weights are not available, or the weights have another checksum than asked for.
    MissingDependencyError
        If torch or torchvision is not installed.
    """
    model = _load(import_torchvision().models, network).eval()
    if network.weights_sha256 is not None and (actual := checksum(model)) != network.weights_sha256:
        raise InputError(
            f"weights {network.weights} of {network.name} have the checksum {actual[:12]}…, not "
            f"{network.weights_sha256[:12]}…; give --weights the file that the features were computed with"
        )
    return model


def published_preprocessing(network: Network) -> Preprocessing:
    """Return the network's preprocessing; torchvision's published values for its weights fill what is not set.

    Parameters
    ----------
    network : Network

    Raises
    ------
    InputError
        If the network is unknown.
    MissingDependencyError
        If torchvision is not installed.
    """
    published = _published(import_torchvision().models, network).transforms()
    usual = Preprocessing(
        resize_px=published.resize_size[0],
        crop_px=published.crop_size[0],
        interpolation=published.interpolation.value,
        mean=tuple(published.mean),
        sd=tuple(published.std),
    )
    return usual.model_copy(update=network.preprocessing.model_dump(exclude_unset=True))


def checksum(model: torch.nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers, which does not depend on the format of their file.

    Each tensor, in the order of names, adds a line with its name, type and shape, and then its bytes.

    Parameters
    ----------
    model : torch.nn.Module
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()


def _published(models: Any, network: Network) -> Any:
    if network.name not in models.list_models(models):
        raise InputError(f"network {network.name!r} is not a classification network of torchvision")
    return models.get_model_weights(network.name).DEFAULT


def _load(models: Any, network: Network) -> torch.nn.Module:
    published = _published(models, network)
    if network.weights == "default":
        try:
            model: torch.nn.Module = models.get_model(network.name, weights=published)
        except OSError as error:
            raise InputError(
                f"weights of {network.name} cannot be downloaded ({error}); give --weights a local file, or random:0"
            ) from error
        return model
    if network.weights.startswith("random:"):
        return _random(models.get_model, network)
    model = models.get_model(network.name, weights=None)
    try:
        model.load_state_dict(_read_state(Path(network.weights)))
    except (RuntimeError, TypeError) as error:
        heading, _, mismatch = str(error).strip().partition("\n")
        reason = mismatch.splitlines()[0].strip() if mismatch else heading
        raise InputError(f"weights {network.weights} are not those of {network.name}: {reason[:200]}") from error
    return model


def _random(get_model: Callable[..., torch.nn.Module], network: Network) -> torch.nn.Module:
    """Initialise by He's method, which keeps the variance of activations from layer to layer (He et al. 2015)."""
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
            # numpy does not close a file that it cannot read.
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
    except Exception as error:  # torch, numpy and safetensors each raise errors of their own for a damaged file
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"weights {path}: cannot be read as a state dictionary ({reason})") from error
