"""Settings of the pipeline that a lab may want to change, frozen and checked; kept in the bundle and in the journal."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from rtgod.errors import InputError, what_went_wrong
from rtgod.text import plain
from rtgod.toml_text import read_toml

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
#: A list of names; a single name may be written without brackets.
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
Combination = Literal["fisher", "concatenated", "weighted"]
Matching = Literal["zscored", "raw"]
Search = Literal["auto", "exact", "shortlist"]

#: Most errors in settings that a message lists, and most characters of a given value that it shows.
_MOST_TOLD, _MOST_SHOWN = 3, 60
#: Similarity above which an unknown name counts as a typing error for a known one.
_CLOSE = 0.7


class Settings(BaseModel):
    """Base of all settings: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read settings from a TOML file; settings that it leaves out keep their defaults.

        Parameters
        ----------
        path : Path

        Raises
        ------
        InputError
            If the file cannot be read, is not TOML, or has an unknown or impossible setting.
        """
        try:
            return cls.model_validate(read_toml(path))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"settings {path}: not valid TOML: {error}") from error
        except ValidationError as error:
            raise InputError(f"settings {path}: {what_is_wrong(error, cls)}") from error
        except (OSError, ValueError) as error:  # ValueError if the file is not text
            raise InputError(f"settings {path}: cannot be read ({what_went_wrong(error)})") from error


def what_is_wrong(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe errors in settings for the person who wrote them.

    Parameters
    ----------
    error : ValidationError
    model : type of BaseModel
        Model that the settings were to be read as.
    """
    problems = [
        _one_wrong(details["loc"], details["type"], details["msg"], details["input"], model)
        for details in error.errors()
    ]
    left_out = [f"{len(problems) - _MOST_TOLD} more"] if len(problems) > _MOST_TOLD else []
    return "; ".join([*problems[:_MOST_TOLD], *left_out])


def _one_wrong(loc: tuple[int | str, ...], kind: str, message: str, given: object, model: type[BaseModel]) -> str:
    name = ".".join(str(part) for part in loc if part != "[key]")
    if kind != "extra_forbidden":
        message = message.removeprefix("Value error, ").replace("Input should", "should")
        setting = f"{name} = {plain(repr(given), _MOST_SHOWN)}" if isinstance(given, str | int | float) else name
        return f"{setting}: {message}" if setting else message
    key, section = str(loc[-1]), [str(part) for part in loc[:-1]]
    in_section = f" in [{'.'.join(section)}]" if section else ""
    names = list(_fields_at(model, loc[:-1]))
    if close := get_close_matches(key, names, 1, cutoff=_CLOSE):
        advice = f"did you mean {close[0]!r}?"
    elif elsewhere := [path for path in _paths(model) if path.endswith(f".{key}")]:
        advice = f"it belongs in [{elsewhere[0].rpartition('.')[0]}]"
    elif close := get_close_matches(key, [path.rpartition(".")[2] for path in _paths(model)], 1, cutoff=_CLOSE):
        path = next(path for path in _paths(model) if path.rpartition(".")[2] == close[0])
        advice = (
            f"did you mean {close[0]!r} in [{path.rpartition('.')[0]}]?" if "." in path else f"did you mean {path!r}?"
        )
    else:
        advice = f"known are {', '.join(names)}" if names else "nothing is known there"
    return f"unknown setting {plain(key, _MOST_SHOWN)!r}{in_section}; {advice}"


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> Mapping[str, FieldInfo]:
    """Return the fields of the model at a place within another model; empty if no model is there."""
    for name in loc:
        if isinstance(name, str):
            field = model.model_fields.get(name)
            inner = _model_in(field.annotation) if field else None
            if inner is None:
                return {}
            model = inner
    return model.model_fields


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner)) is not None), None)


def _paths(model: type[BaseModel]) -> list[str]:
    """List the dotted names of all settings of a model, each section before the settings in it."""
    paths = []
    for name, field in model.model_fields.items():
        paths.append(name)
        if (inner := _model_in(field.annotation)) is not None:
            paths += [f"{name}.{path}" for path in _paths(inner)]
    return paths


class EventsSettings(Settings):
    """Rules by which a run's volumes are counted, and the rows of its events table become trials."""

    #: Volumes at the start of a run, of those that the scanner delivers, that are neither sent nor trained on.
    discard_volumes: Annotated[int, Field(ge=0, le=10_000)] = 0
    #: Volume at whose start a table's onset 0 is, from 1, of those that the scanner delivers; 0 or less where volumes
    #: came before that it does not deliver: -4 after five of them.
    count_from: Annotated[int, Field(ge=-10_000, le=10_000)] = 1

    #: Longest gap, in seconds, between rows of one label that are merged into one trial, for tables with a row for each
    #: image of a block; 0 makes each row a trial. If it is left out, the table decides: see `rtgod.events.merging`.
    merge_gap_s: NotNegative | None = None
    #: Trial types (or categories) that are not trials, in upper or lower case, besides those that are recognised by
    #: their names: rest, iti, cue, response and the like (see `rtgod.events.trial_types`).
    ignore: Names = ()
    #: Trial types that are trials although they are recognised by their names, or their rows name no image.
    keep: Names = ()
    #: Whether a trial with the image of the trial before is the target of a one-back task, which is not trained on. If
    #: it is left out, it is one in tables with `event_type`, as in the public data set, and not in others.
    one_back: bool | None = None


class MotionSettings(Settings):
    """Rigid registration of each volume to the template."""

    #: Whether to estimate motion. False is for volumes that cannot be registered, such as single slices; they are then
    #: taken to lie where the template does.
    estimate: bool = True
    #: Whether to undo motion. False is for series that the scanner has aligned already; motion is then only reported.
    correct: bool = True
    #: Smoothing of both images before they are compared.
    smoothing_fwhm_mm: NotNegative = 8.0
    #: Most points of the head that are compared.
    n_points: Annotated[int, Field(ge=1000)] = 30_000
    max_iterations: AtLeastOne = 40
    #: The iteration ends when the next step should be at most this long.
    tolerance_mm: Positive = 0.002
    #: Least share of the template's variance that a volume must explain to count as the same head.
    least_explained: Annotated[float, Field(ge=0, le=1)] = 0.9


class SamplingSettings(Settings):
    """Interpolation of a volume between its voxels."""

    #: Cubic B-splines, or linear interpolation.
    interpolation: Literal["cubic", "linear"] = "cubic"


class CensoringSettings(Settings):
    """Limits for volumes and values that are not trusted."""

    #: Framewise displacement above which a volume is censored: it enters no window, and nothing is learned from it.
    fd_mm: Positive = 1.5
    #: DVARS, as a multiple of its usual (median) value, above which a volume is censored.
    dvars_ratio: Annotated[float, Field(gt=1)] = 2.5
    #: Standard deviations from the expected value at which a voxel's value is clipped; 0 for no clipping.
    clip_sd: NotNegative = 3.0


class NuisanceSettings(Settings):
    """Nuisance regressors, fitted to the volumes so far by recursive least squares and removed from every voxel.

    Each `_sd` is the prior standard deviation of a coefficient, in units of the voxel's noise: the size of the effect
    that is expected before any volume. It stabilises the fit while volumes are few.
    """

    #: Volumes that start earlier are only aligned: magnetisation has not settled (Horikawa & Kamitani drop 9 s).
    discard_s: NotNegative = 9.0
    #: Clean volumes that are needed before the first pattern.
    warm_up_volumes: Annotated[int, Field(ge=2)] = 6
    #: Drift is a line and cosines down to this period; 0 for no drift regressors beside the constant.
    drift_cutoff_s: NotNegative = 128.0
    drift_sd: NotNegative = 0.2
    #: Number of motion regressors: none, six parameters, also their changes (12), or also the squares of these (24).
    motion_parameters: Literal[0, 6, 12, 24] = 0
    #: Per mm of motion, with rotations as arcs on a sphere of 50 mm.
    motion_sd: Positive = 1.0
    #: Number of noise components, learned in calibration from voxels without the signal of interest.
    n_components: Count = 0
    component_sd: Positive = 1.0
    #: Whether the head's overall brightness is a regressor.
    global_signal: bool = False
    global_sd: Positive = 1.0

    @model_validator(mode="before")
    @classmethod
    def _of_voxels(cls, given: Any) -> Any:
        """Accept settings of older versions whose `of` is "voxels"; refuse other values, such as for features."""
        if not isinstance(given, dict) or "of" not in given:
            return given
        if given["of"] != "voxels":
            raise ValueError('"of" can ask for voxels alone; leave it out, and calibrate again')
        return {name: value for name, value in given.items() if name != "of"}


class ResponseSettings(Settings):
    """Expected response to a trial: the double-gamma function (Friston et al. 1998; Glover 1999) over its duration."""

    #: Time of the peak of the response to a brief event, in seconds, and its uncertainty.
    peak_s: Annotated[float, Field(ge=1, le=20)] = 5.0
    peak_sd_s: NotNegative = 0.0
    #: How much later responses come than events and peak say, in seconds; below 0 they come earlier, as when the
    #: table's events are late. Every run is decoded with it.
    delay_s: Annotated[float, Field(ge=-30, le=30)] = 0.0
    #: Whether calibration learns peak, uncertainty and delay from the training runs, where these tell.
    learn_peak: bool = True
    #: Time of the undershoot that follows, whole seconds, and its area as a share of the response's.
    undershoot_s: AtLeastOne = 15
    undershoot_ratio: Annotated[float, Field(ge=0, lt=1)] = 1 / 6
    #: Prior standard deviation of a trial's response, in units of the voxel's noise.
    sd: Positive = 10.0
    #: Largest share of another trial's response, relative to the trial's own, with which a trial is ranked.
    most_crosstalk: NotNegative = 0.075

    @property
    def peaks_s(self) -> tuple[float, ...]:
        """The peak, and what lies its uncertainty to either side; the peak alone if it is certain."""
        if not self.peak_sd_s:
            return (self.peak_s,)
        return self.peak_s, max(self.peak_s - self.peak_sd_s, 1.0), self.peak_s + self.peak_sd_s


class ScalingSettings(Settings):
    """Unit, baseline and smoothing of a pattern's numbers."""

    #: Unit: percent of the baseline, or standard deviations of the voxel's noise.
    unit: Literal["percent", "zscore"] = "percent"
    #: Baseline and noise: estimated from all volumes so far, or frozen when the response to the first trial begins.
    baseline: Literal["running", "frozen"] = "running"
    #: Smoothing among the decoder's voxels; 0 for none.
    smoothing_fwhm_mm: NotNegative = 0.0
    #: Whether each pattern's mean over voxels is subtracted.
    demean: bool = False


class NoiseSettings(Settings):
    """Model of the spatial shape of noise, learned in calibration, with which patterns are whitened."""

    #: Number of principal components of the noise along which patterns are shrunk; 0 for no whitening.
    n_components: Count = 100
    #: Variance added in every direction, in units of the variance that the components leave; it limits the shrinkage.
    ridge: NotNegative = 1.0


class WindowSettings(Settings):
    """Choice of the volumes that make a sample, and of the estimate."""

    #: `auto` follows the trials of a run that lists them, and slides otherwise; `repeats` averages a trial with the
    #: earlier trials of the same label.
    mode: Literal["auto", "block", "sliding", "repeats"] = "auto"
    #: How much trials of one label count in their average: as much as they have volumes, so that a trial's first volume
    #: does not outweigh what earlier trials told, or equally.
    weigh_repeats: Literal["by_volumes", "equally"] = "by_volumes"
    #: Sample of a trial: its estimated response, or the mean of its volumes.
    estimate: Literal["response", "mean"] = "response"
    #: Delay of the response, in seconds: a trial is ranked from onset + shift to offset + shift, both as much later
    #: as `response.delay_s` says.
    hrf_shift_s: NotNegative = 3.0
    sliding_volumes: AtLeastOne = 3


class RankingSettings(Settings):
    """Matching of decoded features against the candidates."""

    #: Layers that are matched; empty for all layers of the bundle.
    layers: tuple[str, ...] = ()
    #: Score of a candidate: the mean over layers of Fisher's z, the Fisher z of one correlation over all layers' units,
    #: or the mean over layers with weights from cross-validation.
    combine: Combination = "fisher"
    #: Features that are correlated: z-scored with the training features' mean and SD, or raw, the network's activations
    #: as they are, as Horikawa & Kamitani (2017) did. Not for decoders of the categories themselves.
    match: Matching = "zscored"
    #: Whether candidates that score high whatever is decoded are brought to the level of the others, as far as
    #: calibration finds that this helps. Off, as on subjects that it was not developed on it did not.
    standardise: bool = False
    #: Ids of the candidates that are ranked; empty for all candidates of the bundle.
    candidates: tuple[str, ...] = ()
    #: Whether every candidate is scored and ranked, or the best 1,000 are sought on a shortlist, which needs
    #: rtgod[large]: "auto" for a shortlist if the candidates take more than `exact_up_to_mb`, in units of 10⁶ bytes: 4
    #: for each unit of each, and 2,048 for each one's place. Up to 3,072 candidates are always scored.
    search: Search = "auto"
    exact_up_to_mb: Positive = 600
    n_top: AtLeastOne = 10


class PipelineSettings(Settings):
    """Settings of the whole pipeline from volume to ranking.

    Examples
    --------
    >>> import rtgod
    >>> settings = rtgod.PipelineSettings.model_validate({"window": {"hrf_shift_s": 4}})
    >>> settings.window.hrf_shift_s, settings.nuisance.discard_s
    (4.0, 9.0)
    >>> from pathlib import Path
    >>> rtgod.PipelineSettings.from_toml(Path("settings.toml")).nuisance.motion_parameters
    6
    """

    events: EventsSettings = EventsSettings()
    motion: MotionSettings = MotionSettings()
    sampling: SamplingSettings = SamplingSettings()
    censoring: CensoringSettings = CensoringSettings()
    nuisance: NuisanceSettings = NuisanceSettings()
    response: ResponseSettings = ResponseSettings()
    scaling: ScalingSettings = ScalingSettings()
    noise: NoiseSettings = NoiseSettings()
    window: WindowSettings = WindowSettings()
    ranking: RankingSettings = RankingSettings()
