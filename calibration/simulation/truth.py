"""The truth behind a simulated subject, kept in its data set: its settings, and each voxel's tuning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from calibration.features.network import Network
from calibration.simulation.head import Head, build_head
from calibration.simulation.settings import SubjectSettings
from calibration.simulation.tuning import Tuning
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
#: Version of the meaning of settings and tuning. Files before 2 name none; their subjects responded otherwise.
_VERSION = 2


def brain_network(settings: SubjectSettings) -> Network:
    """Return the network of the simulated brain: the same layers as a decoder's, but other units.

    Parameters
    ----------
    settings : SubjectSettings
        Only `weights` is used.
    """
    return Network(weights=settings.weights, n_units=200, units_seed=1_000_003)


def head_of(settings: SubjectSettings) -> Head:
    """Draw the head of a simulated subject.

    Parameters
    ----------
    settings : SubjectSettings

    Raises
    ------
    InputError
        If the field of view cuts visual cortex, or its regions do not fit into the voxels.
    """
    area_scale = {str(name): scale for name, scale in settings.area_scale.items()}
    return build_head(settings.shape, settings.voxel_mm, settings.seed, area_scale)


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
        given = json.loads(path.read_bytes())
        version = given.pop("version", None) if isinstance(given, dict) else None
        settings = SubjectSettings.model_validate_json(json.dumps(given))
    except OSError as error:
        raise InputError(
            f"{root}: no simulated subject ({SETTINGS}: {error.strerror}); give a folder that `rtgod simulate` made"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error}); simulate the subject again") from error
    except ValidationError as error:
        problem = what_is_wrong(error, SubjectSettings)
        raise InputError(f"{path}: {problem}; simulate the subject again with this version of rtgod") from error
    if version != _VERSION:
        raise InputError(
            f"{path}: this subject was made by another version of rtgod, whose subjects respond in another way; "
            "simulate the subject again with this version, or scan it with the version that made it"
        )
    return settings


def write_settings(root: Path, settings: SubjectSettings) -> None:
    """Write the settings that the subject in a data set is made with.

    Parameters
    ----------
    root : Path
        Data set, in which `FOLDER` exists.
    settings : SubjectSettings
    """
    content = {"version": _VERSION, **settings.model_dump(mode="json")}
    (root / SETTINGS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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
    arrays |= {"hrf": tuning.hrf, "ongoing": tuning.ongoing}
    for layer, weights in tuning.weights.items():
        arrays[f"{layer}/weights"] = weights
        arrays[f"{layer}/imagery_weights"] = tuning.imagery_weights[layer]
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
        weights, imagery_weights, unit_mean, unit_sd = (
            {layer: arrays[f"{layer}/{name}"] for layer in layers}
            for name in ("weights", "imagery_weights", "unit_mean", "unit_sd")
        )
        mix, evoked, hrf, ongoing = (arrays[name] for name in ("mix", "evoked", "hrf", "ongoing"))
        return Tuning(weights, imagery_weights, mix, unit_mean, unit_sd, evoked, hrf, ongoing), arrays["voxels"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: no simulated subject's tuning ({error}); simulate the subject again") from error
