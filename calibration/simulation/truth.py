"""The truth behind a simulated subject, kept in its data set: its settings, and each voxel's tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from calibration.features.network import Network
from calibration.simulation.response import Tuning
from calibration.simulation.settings import SubjectSettings
from rtgod.errors import InputError
from rtgod.messages import Array, Int32Array
from rtgod.settings import what_is_wrong

FOLDER = Path("derivatives") / "truth"
SETTINGS = FOLDER / "simulation.json"
#: Images that come to the subject's mind: a folder for each category.
IMAGINED = FOLDER / "imagined"
#: Exemplars from this number on are the imagined ones: neither shown nor behind the candidates.
FIRST_IMAGINED = 2000
_TUNING = FOLDER / "tuning.safetensors"


def brain_network(settings: SubjectSettings) -> Network:
    """Return the network of the simulated brain: the same layers as a decoder's, but other units.

    Parameters
    ----------
    settings : SubjectSettings
        Only `weights` is used.
    """
    return Network(weights=settings.weights, n_units=200, units_seed=1_000_003)


def read_settings(root: Path) -> SubjectSettings:
    """Read the settings that the subject in a data set was made with.

    Parameters
    ----------
    root : Path
        Data set that `simulate` wrote.

    Raises
    ------
    InputError
        If it is no simulated subject, or one of another version.
    """
    path = root / SETTINGS
    try:
        return SubjectSettings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{root}: no simulated subject ({SETTINGS}: {error.strerror}); give a folder that `rtgod simulate` made"
        ) from error
    except ValidationError as error:
        problem = what_is_wrong(error, SubjectSettings)
        raise InputError(f"{path}: {problem}; simulate the subject again with this version of rtgod") from error


def write_tuning(root: Path, tuning: Tuning, voxels: Int32Array) -> None:
    """Write each voxel's tuning.

    Parameters
    ----------
    root : Path
        Data set, in which `FOLDER` exists.
    tuning : Tuning
    voxels : ndarray of shape (n_voxels, 3), int32
        Indices of the voxels, in the tuning's order.
    """
    arrays: dict[str, Array] = {"voxels": voxels, "mix": tuning.mix, "evoked": tuning.evoked}
    for layer, weights in tuning.weights.items():
        arrays[f"{layer}/weights"] = weights
        arrays[f"{layer}/unit_mean"] = tuning.unit_mean[layer]
        arrays[f"{layer}/unit_sd"] = tuning.unit_sd[layer]
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, root / _TUNING)


def read_tuning(root: Path, settings: SubjectSettings) -> tuple[Tuning, Int32Array]:
    """Read the tuning and the voxels that `write_tuning` wrote.

    Parameters
    ----------
    root : Path
        Data set that `simulate` wrote.
    settings : SubjectSettings
        The subject's own, from `read_settings`.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks an array.
    """
    path = root / _TUNING
    layers = brain_network(settings).layers  # in the network's order, which the file does not keep
    try:
        arrays = load_file(path)
        weights, unit_mean, unit_sd = (
            {layer: arrays[f"{layer}/{name}"] for layer in layers} for name in ("weights", "unit_mean", "unit_sd")
        )
        return Tuning(weights, arrays["mix"], unit_mean, unit_sd, arrays["evoked"]), arrays["voxels"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: no simulated subject's tuning ({error}); simulate the subject again") from error
