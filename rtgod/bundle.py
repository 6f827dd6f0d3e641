"""The decoder bundle: all that the server needs to decode, as a folder of one safetensors and one JSON file.

Loading runs no code from the files; `bundle.json` holds the checksum of the arrays and the origin of the decoder.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save_file

from rtgod.candidates import FORMAT, HEADER, Candidate, bundle_id_of, candidates_of, read_header
from rtgod.decoding.category_index import CategoryIndex, index_categories
from rtgod.decoding.chances import Chances, Judge
from rtgod.decoding.confidence import Confidence
from rtgod.decoding.decoder import AnyLayerDecoder, Decoder, DenseLayerDecoder, LayerDecoder, SparseLayerDecoder
from rtgod.decoding.picture_index import Pictures
from rtgod.decoding.standardisation import Standardisation
from rtgod.errors import BundleError, what_went_wrong
from rtgod.events.table import label_of
from rtgod.files import appearing_whole
from rtgod.fit import Training
from rtgod.messages import Array, Float32Array, Float64Array, Ranking, Run
from rtgod.pipeline import Pipeline
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.noise_model import NoiseComponents, NoiseCovariance
from rtgod.preprocessing.preprocessor import Noise
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.settings import NotNegative, PipelineSettings
from rtgod.stored_arrays import read_arrays
from rtgod.text import composed

_ARRAYS = "arrays.safetensors"
#: Forms in which the header lists layers; the others are in dual form. Older bundles list none as dense.
_FORMS: dict[str, type[AnyLayerDecoder]] = {"sparse": SparseLayerDecoder, "dense": DenseLayerDecoder}
#: Number of candidates up to which bundles without the setting `search` score every one.
_EXACT_UP_TO = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class DecoderBundle:
    """A trained decoder with everything it needs to run.

    Attributes
    ----------
    reference : Reference
        Template, its affine, and the decoder's voxels.
    patterns : ndarray of shape (n_samples, n_voxels), float32
        Training samples, z-scored with `voxel_mean` and `voxel_sd`; n_samples is 0 if no layer is in dual form.
    voxel_mean, voxel_sd : ndarray of shape (n_voxels,), float32
        Mean and standard deviation of each voxel over the training samples, in percent signal change.
    layers : mapping of str to LayerDecoder, DenseLayerDecoder or SparseLayerDecoder
    candidates : tuple of Candidate
    candidate_features : mapping of str to ndarray of shape (n_candidates, n_units), float32
        Category features per layer, in units of the network's activations; of a loaded bundle they stay in its file,
        and are read as they are used.
    noise : Noise
    settings : PipelineSettings
        Settings with which the training samples were computed.
    provenance : mapping
        Origin of the decoder: subject, runs with their checksums, network, penalties, versions, accuracies.
    layer_weights : mapping of str to float or None
        Weight of each layer in a weighted ranking, which the settings may ask for; a layer left out has weight zero.
        None if no weights were learned.
    confidence : Confidence or None
        Model of how sure a ranking may be, in bundles of older versions; None in newer ones.
    chances : Chances or None
        Model of how sure a ranking of what is seen may be; None if it was not learned.
    training : Training
        Acquisition of the training runs; bundles of older versions give the subject alone.
    response : ndarray of shape (n_voxels,), float32, or None
        Weights that read from a pattern how strong a response it holds; None if they were not learned, as in bundles
        of older versions.
    imagined_chances : Chances or None
        Model of how sure a ranking of what is imagined may be; None if it was not learned, as in bundles of older
        versions.
    plain_categories : bool
        Whether each unit stands for one candidate, instead of a feature of how candidates look.
    standardisation : Standardisation or None
        What candidates' scores are standardised by, a value for each of `candidates`; None if calibration chose or
        learned nothing, as in bundles of older versions.
    pictures : Pictures or None
        Pictures of which every ranking names the nearest; None if calibration was given none. Their codes stay in the
        file, as `candidate_features` do.
    bundle_id : str
        First digits of the arrays' checksum; empty before the bundle is saved and loaded.

    Examples
    --------
    >>> import rtgod
    >>> bundle = rtgod.load_bundle("bundle")
    >>> bundle.provenance["subject"], list(bundle.layers), len(bundle.reference.voxels)
    ('small', ['conv', 'fc'], 40)
    >>> bundle.settings.window.hrf_shift_s
    2.0
    """

    reference: Reference
    patterns: Float32Array
    voxel_mean: Float32Array
    voxel_sd: Float32Array
    layers: Mapping[str, AnyLayerDecoder]
    candidates: tuple[Candidate, ...]
    candidate_features: Mapping[str, Float32Array]
    noise: Noise
    settings: PipelineSettings
    provenance: Mapping[str, Any]
    layer_weights: Mapping[str, float] | None = None
    confidence: Confidence | None = None
    training: Training = field(default_factory=Training)
    chances: Chances | None = None
    response: Float32Array | None = None
    plain_categories: bool = False
    imagined_chances: Chances | None = None
    standardisation: Standardisation | None = None
    pictures: Pictures | None = None
    bundle_id: str = ""

    @property
    def known_labels(self) -> frozenset[str]:
        """Labels of the blocks that can be decoded; empty if blocks of any category can be."""
        if not self.plain_categories:
            return frozenset()
        return frozenset(label_of(candidate.category_id) for candidate in self.candidates)

    def save(self, folder: Path) -> None:
        """Write the bundle; the folder appears complete or not at all.

        Parameters
        ----------
        folder : Path
            Must not exist.

        Raises
        ------
        BundleError
            If `folder` exists already or cannot be written.
        """
        if folder.exists():
            raise BundleError(f"bundle {folder}: exists already; choose another --out or remove it")
        try:
            with appearing_whole(folder) as unfinished:
                save_file(self._arrays(), unfinished / _ARRAYS)
                header = {
                    "rtgod_bundle": FORMAT,
                    "sha256": sha256_of(unfinished / _ARRAYS),
                    "layers": list(self.layers),
                    **{
                        form: [name for name, layer in self.layers.items() if isinstance(layer, kind)]
                        for form, kind in _FORMS.items()
                    },
                    "noise": [part for part in ("shape", "courses") if getattr(self.noise, part)],
                    "candidates": [[c.category_id, c.name] for c in self.candidates],
                    "layer_weights": self.layer_weights and dict(self.layer_weights),
                    "confidence": self.confidence and asdict(self.confidence),
                    "training": asdict(self.training),
                    "chances": self.chances and asdict(self.chances),
                    "imagined_chances": self.imagined_chances and asdict(self.imagined_chances),
                    "plain_categories": self.plain_categories,
                    "settings": self.settings.model_dump(mode="json"),
                    "provenance": dict(self.provenance),
                    "pictures": self.pictures and _pictures_header(self.pictures),
                }
                (unfinished / HEADER).write_text(json.dumps(header, indent=1), encoding="utf-8")
        except (OSError, SafetensorError, TypeError) as error:
            raise BundleError(f"bundle {folder}: cannot be written ({what_went_wrong(error)})") from error

    @classmethod
    def load(cls, folder: Path) -> DecoderBundle:
        """Read and check a bundle.

        Parameters
        ----------
        folder : Path
            As `save` wrote it.

        Returns
        -------
        DecoderBundle
            Equal to the one that was saved.

        Raises
        ------
        BundleError
            If the bundle is missing, incomplete, altered since it was written, or of another format.
        """
        header = read_header(folder)
        if (checksum := sha256_of(folder / _ARRAYS)) != header.get("sha256"):
            raise BundleError(
                f"bundle {folder}: checksum of {_ARRAYS} is {checksum[:12]}…, {HEADER} says "
                f"{str(header.get('sha256'))[:12]}…; the file was altered or cut short: copy it again or recalibrate"
            )
        try:
            return cls._assemble(header, read_arrays(folder / _ARRAYS, _is_mapped))
        except (KeyError, TypeError, ValueError, ValidationError, SafetensorError) as error:
            raise BundleError(f"bundle {folder}: {HEADER} and {_ARRAYS} do not fit together ({error})") from error

    def decoder(self) -> Decoder:
        """Make the decoder of all layers of the bundle.

        Returns
        -------
        Decoder
            From whitened patterns to the units of every layer.
        """
        return Decoder(self.patterns, self.voxel_mean, self.voxel_sd, self.layers)

    def category_index(self) -> CategoryIndex:
        """Index the candidates for the kind of ranking that the settings ask for.

        Returns
        -------
        CategoryIndex
            Of the candidates that the settings rank.
        """
        ids = [candidate.category_id for candidate in self.candidates]
        return index_categories(
            self.settings.ranking,
            self.layers,
            ids,
            self.candidate_features,
            self.layer_weights,
            self.plain_categories,
            self.standardisation,
        )

    def pipeline(self, run: Run, decoder: Decoder, category_index: CategoryIndex, repeats: RepeatAverager) -> Pipeline:
        """Make the pipeline of one run, with a decoder and an index that several runs may share.

        Parameters
        ----------
        run : Run
            The run, which must fit the bundle's template.
        decoder : Decoder
            From `decoder`.
        category_index : CategoryIndex
            From `category_index`.
        repeats : RepeatAverager
            The session's evidence so far.

        Returns
        -------
        Pipeline
            Takes the run's volumes one by one.
        """
        names = tuple(c.name for c in self.candidates)
        confidence: Confidence | Judge | None = self.judge or self.confidence
        return Pipeline(
            self.reference, self.noise, decoder, category_index, names, run, self.settings, repeats, confidence,
            self.pictures,
        )  # fmt: skip

    @property
    def judge(self) -> Judge | None:
        """Model of the candidates' chances; None if they are unknown."""
        chances = self.chances or self.imagined_chances
        if chances is None:
            return None
        is_new = chances.are_new([c.category_id for c in self.candidates])
        return Judge(self.chances, is_new, self.response, self.imagined_chances)

    def posterior(self, ranking: Ranking, *, imagined: bool = False) -> Float64Array | None:
        """Compute the chance of each category of a ranking that was made with this bundle.

        Parameters
        ----------
        ranking : Ranking
            Ranking with its `probability`.
        imagined : bool
            Whether its trial asked to imagine its category.

        Returns
        -------
        ndarray of shape (n_ranked,), float64, or None
            Chances in the order of `ranking.order`, the first k of which add up to `ranking.probability`; None if
            chances are unknown.
        """
        judge, n = self.judge, len(self.settings.ranking.candidates or self.candidates)
        if judge is None or ranking.probability is None:
            return None
        evidence = ranking.n_volumes, ranking.n_blocks
        chances = judge.posterior(ranking.order, ranking.scores, n, *evidence, imagined=imagined)
        if chances is None or chances[0] <= 1 / n:
            return chances
        # A ranking does not keep its pattern's chance of a response, but its first chance tells it.
        present = min(max((ranking.probability[0] - 1 / n) / (chances[0] - 1 / n), 0.0), 1.0)
        return np.asarray(present * chances + (1 - present) / n, np.float64)

    def _arrays(self) -> dict[str, Array]:
        arrays: dict[str, Array] = {
            "template": self.reference.template,
            "affine": self.reference.affine,
            "voxels": self.reference.voxels,
            "patterns": self.patterns,
            "voxel_mean": self.voxel_mean,
            "voxel_sd": self.voxel_sd,
        }
        for name, layer in self.layers.items():
            arrays |= {f"{name}/{key}": array for key, array in _arrays_of(layer).items()}
            arrays[f"{name}/candidates"] = self.candidate_features[name]
        if self.response is not None:
            arrays["response"] = self.response
        if self.standardisation is not None:
            arrays["ranking/offset"], arrays["ranking/scale"] = self.standardisation.offset, self.standardisation.scale
        if self.pictures is not None:
            arrays["pictures/codes"] = self.pictures.codes
            if self.pictures.basis is not None:
                arrays["pictures/basis"] = self.pictures.basis
        if shape := self.noise.shape:
            arrays["noise/sd"], arrays["noise/components"] = shape.sd, shape.components
            arrays["noise/shrinkage"] = shape.shrinkage
        if courses := self.noise.courses:
            arrays["noise/voxels"], arrays["noise/loadings"] = courses.voxels, courses.loadings
        return {key: np.ascontiguousarray(array) for key, array in arrays.items()}

    @classmethod
    def _assemble(cls, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> DecoderBundle:
        kinds = {name: kind for form, kind in _FORMS.items() for name in header.get(form, ())}
        layers = {name: _layer_of(name, kinds.get(name, LayerDecoder), arrays) for name in header["layers"]}
        bundle = cls(
            reference=Reference(arrays["template"], arrays["affine"], arrays["voxels"]),
            patterns=arrays["patterns"],
            voxel_mean=arrays["voxel_mean"],
            voxel_sd=arrays["voxel_sd"],
            layers=layers,
            candidates=candidates_of(header),
            candidate_features={name: arrays[f"{name}/candidates"] for name in layers},
            noise=_noise_of(header["noise"], arrays),
            settings=_settings_saved(header),
            provenance=dict(header["provenance"]),
            layer_weights=TypeAdapter(dict[str, NotNegative] | None).validate_python(header.get("layer_weights")),
            confidence=TypeAdapter(Confidence | None).validate_python(header.get("confidence")),
            training=_training_of(header),
            chances=TypeAdapter(Chances | None).validate_python(header.get("chances")),
            imagined_chances=TypeAdapter(Chances | None).validate_python(header.get("imagined_chances")),
            plain_categories=TypeAdapter(bool).validate_python(header.get("plain_categories", False)),
            response=arrays.get("response"),
            standardisation=_standardisation_of(arrays),
            pictures=_pictures_of(header, arrays),
            bundle_id=bundle_id_of(header),
        )
        bundle._check_shapes()
        return bundle

    def _check_shapes(self) -> None:
        n_samples, n_voxels = self.patterns.shape
        n_x, n_y, n_z = self.reference.template.shape
        shapes: dict[str, tuple[int, ...]] = {
            "template": (n_x, n_y, n_z),
            "affine": (4, 4),
            "voxels": (n_voxels, 3),
            "patterns": (n_samples, n_voxels),
            "voxel_mean": (n_voxels,),
            "voxel_sd": (n_voxels,),
        }
        dtypes = {"affine": "float64", "voxels": "int32", "noise/voxels": "int32"}
        for name, layer in self.layers.items():
            n_units = layer.n_units
            if isinstance(layer, SparseLayerDecoder):
                _check_places(name, layer, n_voxels)
                n_weights = len(layer.weights)
                shapes |= {f"{name}/starts": (n_units + 1,), f"{name}/voxels": (n_weights,)}
                shapes[f"{name}/weights"] = (n_weights,)
                dtypes |= {f"{name}/starts": "int32", f"{name}/voxels": "int32"}
            elif isinstance(layer, DenseLayerDecoder):
                shapes[f"{name}/weights"] = (n_units, n_voxels)
            else:
                shapes[f"{name}/dual"] = (n_units, n_samples)
            shapes |= {f"{name}/{of_units}": (n_units,) for of_units in ("unit_mean", "unit_sd", "intercept")}
            shapes[f"{name}/candidates"] = (len(self.candidates), n_units)
        if self.response is not None:
            shapes["response"] = (n_voxels,)
        if self.standardisation is not None:
            shapes |= {"ranking/offset": (len(self.candidates),), "ranking/scale": (len(self.candidates),)}
        if self.pictures is not None:
            self.pictures.check_units({name: layer.n_units for name, layer in self.layers.items()})
            shapes["pictures/codes"] = self.pictures.codes.shape
            if self.pictures.basis is not None:
                shapes["pictures/basis"] = self.pictures.basis.shape
        if noise := self.noise.shape:
            n_components = len(noise.components)
            shapes |= {"noise/sd": (n_voxels,), "noise/components": (n_components, n_voxels)}
            shapes["noise/shrinkage"] = (n_components,)
        n_components = self.settings.nuisance.n_components
        if courses := self.noise.courses:
            n_noise_voxels = len(courses.voxels)
            shapes |= {"noise/voxels": (n_noise_voxels, 3), "noise/loadings": (n_components, n_noise_voxels)}
        elif n_components:
            raise ValueError(f"settings ask for {n_components} noise components, and there are none")
        if self.plain_categories and any(len(self.candidates) != layer.n_units for layer in self.layers.values()):
            raise ValueError("plain categories need a unit for each candidate")
        if unknown := sorted(set(self.layer_weights or ()) - set(self.layers)):
            raise ValueError(f"layer_weights are of {unknown}, and the layers are {list(self.layers)}")
        for key, array in self._arrays().items():
            dtype = dtypes.get(key, "float32")
            if array.shape != shapes[key] or array.dtype.name != dtype:
                raise ValueError(f"{key} is {array.dtype} of shape {array.shape}, not {dtype} of shape {shapes[key]}")


def settings_of(folder: Path) -> PipelineSettings:
    """Read the settings with which a bundle was trained; raise `BundleError` if the folder is no bundle.

    Parameters
    ----------
    folder : Path
        The bundle.
    """
    header = read_header(folder)
    try:
        return _settings_saved(header)
    except (KeyError, ValidationError) as error:
        raise BundleError(f"bundle {folder}: its settings cannot be read ({error}); recalibrate") from error


def _settings_saved(header: Mapping[str, Any]) -> PipelineSettings:
    """Read a bundle's settings; what one of an older version does not say is as it was, so that its journals replay.

    From before crosstalk was limited, there is no limit; from before the search was chosen by bytes, candidates beyond
    `_EXACT_UP_TO` are sought on a shortlist; from before repeats were weighted, they count equally.
    """
    settings = PipelineSettings.model_validate(header["settings"])
    response, window, ranking = settings.response, settings.window, settings.ranking
    if "most_crosstalk" not in header["settings"].get("response", {}):
        response = response.model_copy(update={"most_crosstalk": sys.float_info.max})
    if "search" not in header["settings"].get("ranking", {}):
        n_ranked = len(set(map(composed, ranking.candidates)) or header["candidates"])
        ranking = ranking.model_copy(update={"search": "shortlist" if n_ranked > _EXACT_UP_TO else "exact"})
    if "weigh_repeats" not in header["settings"].get("window", {}):
        window = window.model_copy(update={"weigh_repeats": "equally"})
    return settings.model_copy(update={"response": response, "window": window, "ranking": ranking})


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal digits; raise `BundleError` if it cannot be read.

    Parameters
    ----------
    path : Path
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error


def _training_of(header: Mapping[str, Any]) -> Training:
    if "training" in header:
        return TypeAdapter(Training).validate_python(header["training"])
    return Training((str(header["provenance"].get("subject", "")),))


def _standardisation_of(arrays: Mapping[str, Array]) -> Standardisation | None:
    offset, scale = (arrays.get(f"ranking/{name}") for name in ("offset", "scale"))
    if (offset is None) != (scale is None):
        raise ValueError("of ranking/offset and ranking/scale only one is there")
    return None if offset is None or scale is None else Standardisation(offset, scale)


def _is_mapped(name: str) -> bool:
    """Whether an array stays in its file, and is read as it is used."""
    return name.endswith("/candidates") or name == "pictures/codes"


def _pictures_header(pictures: Pictures) -> dict[str, Any]:
    return {
        "names": list(pictures.names),
        "weights": dict(pictures.weights),
        "chances": pictures.chances and asdict(pictures.chances),
    }


def _pictures_of(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Pictures | None:
    if not (saved := header.get("pictures")):
        return None
    return Pictures(
        tuple(map(str, saved["names"])),
        arrays["pictures/codes"],
        TypeAdapter(dict[str, NotNegative]).validate_python(saved["weights"]),
        arrays.get("pictures/basis"),
        TypeAdapter(Chances | None).validate_python(saved["chances"]),
    )


def _layer_of(name: str, kind: type[AnyLayerDecoder], arrays: Mapping[str, Array]) -> AnyLayerDecoder:
    saved = {field.name: arrays.get(f"{name}/{field.name}") for field in fields(kind)}
    if lacking := [key for key, array in saved.items() if array is None and key != "intercept"]:
        raise KeyError(f"{name}/{lacking[0]}")
    return kind(**{key: array for key, array in saved.items() if array is not None})


def _arrays_of(layer: AnyLayerDecoder) -> dict[str, Array]:
    """Return the arrays that a layer has, by the names of its fields."""
    arrays = {field.name: getattr(layer, field.name) for field in fields(layer)}
    return {name: array for name, array in arrays.items() if array is not None}


def _check_places(name: str, layer: SparseLayerDecoder, n_voxels: int) -> None:
    """Check the places at which the kernel will read; the kernel itself checks no bounds."""
    starts, voxels = layer.starts, layer.voxels
    if len(starts) == 0 or starts[0] != 0 or starts[-1] != len(voxels) or (np.diff(starts) < 0).any():
        raise ValueError(f"{name}/starts does not divide {len(voxels)} weights among units")
    if len(voxels) and not (voxels.min() >= 0 and voxels.max() < n_voxels):
        raise ValueError(f"{name}/voxels names voxels beyond the {n_voxels} that there are")


def _noise_of(parts: Sequence[str], arrays: Mapping[str, Array]) -> Noise:
    shape = courses = None
    if "shape" in parts:
        shape = NoiseCovariance(arrays["noise/sd"], arrays["noise/components"], arrays["noise/shrinkage"])
    if "courses" in parts:
        courses = NoiseComponents(arrays["noise/voxels"], arrays["noise/loadings"])
    return Noise(shape, courses)
