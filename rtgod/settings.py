"""Every number that a lab may want to change, frozen and checked; kept in the bundle and in the journal."""

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
#: Some names; one may stand without brackets.
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
Combination = Literal["fisher", "concatenated", "weighted"]

#: Of what is wrong with settings so many are told, and of what was given so many characters.
_MOST_TOLD, _MOST_SHOWN = 3, 60
#: Names that are more alike than this are taken for typing errors.
_CLOSE = 0.7


class Settings(BaseModel):
    """Frozen; refuses names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read settings from a TOML file; what it leaves out keeps its default.

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
        except (OSError, ValueError) as error:  # the latter where it is no text
            raise InputError(f"settings {path}: cannot be read ({what_went_wrong(error)})") from error


def what_is_wrong(error: ValidationError, model: type[BaseModel]) -> str:
    """Say what is wrong with settings, in words for who wrote them.

    Parameters
    ----------
    error : ValidationError
    model : type of BaseModel
        What was to be made of the settings.
    """
    told = [_one_wrong(one["loc"], one["type"], one["msg"], one["input"], model) for one in error.errors()]
    left_out = [f"{len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    return "; ".join([*told[:_MOST_TOLD], *left_out])


def _one_wrong(loc: tuple[int | str, ...], kind: str, message: str, given: object, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in loc if part != "[key]")
    if kind != "extra_forbidden":
        message = message.removeprefix("Value error, ").replace("Input should", "should")
        said = f"{where} = {plain(repr(given), _MOST_SHOWN)}" if isinstance(given, str | int | float) else where
        return f"{said}: {message}" if said else message
    key, section = str(loc[-1]), [str(part) for part in loc[:-1]]
    there = f" in [{'.'.join(section)}]" if section else ""
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
    return f"unknown setting {plain(key, _MOST_SHOWN)!r}{there}; {advice}"


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> Mapping[str, FieldInfo]:
    """Fields of the model that is at a place in another; none where no model is."""
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
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)


def _paths(model: type[BaseModel]) -> list[str]:
    """Dotted names of all settings of a model, parts before what they hold."""
    found = []
    for name, field in model.model_fields.items():
        found.append(name)
        if (inner := _model_in(field.annotation)) is not None:
            found += [f"{name}.{path}" for path in _paths(inner)]
    return found


class EventsSettings(Settings):
    """How the rows of an events table become trials."""

    #: Rows of one label are one trial if at most so long a gap lies between each and the next, as where every image of
    #: a block has a row of its own; 0 makes each row a trial. Left out, the table decides: see `rtgod.events.merging`.
    merge_gap_s: NotNegative | None = None
    #: Trial types (or categories) that are no trials, whatever their case, besides those that are known by their names:
    #: rest, iti, cue, response and the like (see `rtgod.events.trial_types`).
    ignore: Names = ()
    #: Trial types that are trials though their names are among these, or no image is named in their rows.
    keep: Names = ()
    #: Whether a trial that shows the image of the one before is a one-back task's target, which is not trained on. Left
    #: out, it is one in tables with `event_type`, as the public data set's, and an ordinary trial in others.
    one_back: bool | None = None


class MotionSettings(Settings):
    """Rigid registration of each volume to the template."""

    #: Off for what cannot be registered, such as a single slice: volumes are taken to lie where the template does.
    estimate: bool = True
    #: Off for series that the scanner has aligned already: motion is then reported, and not undone.
    correct: bool = True
    #: Of both images before they are compared.
    smoothing_fwhm_mm: NotNegative = 8.0
    #: Most points of the head that are compared.
    n_points: Annotated[int, Field(ge=1000)] = 30_000
    max_iterations: AtLeastOne = 40
    #: The search ends with a step shorter than this.
    tolerance_mm: Positive = 0.002
    #: Least share of the template's variance that a volume must explain to be taken for the same head.
    least_explained: Annotated[float, Field(ge=0, le=1)] = 0.9


class SamplingSettings(Settings):
    """How a volume is read between its voxels."""

    #: Cubic B-splines or straight lines.
    interpolation: Literal["cubic", "linear"] = "cubic"


class CensoringSettings(Settings):
    """Volumes and values that are not to be believed."""

    #: A volume whose framewise displacement exceeds this enters no window and teaches nothing.
    fd_mm: Positive = 1.5
    #: The same for one that differs from the volume before by so many times what is usual (DVARS over its median).
    dvars_ratio: Annotated[float, Field(gt=1)] = 2.5
    #: A voxel's value is clipped this many standard deviations from what was expected; 0 clips none.
    clip_sd: NotNegative = 3.0


class NuisanceSettings(Settings):
    """What every voxel's course is freed from: regressors, fitted to the volumes so far by recursive least squares.

    Each `_sd` says how large an effect is expected before anything is known, in units of the voxel's noise. That is
    what holds the fit while volumes are few.
    """

    #: Volumes that start earlier are aligned only: magnetisation has not settled (Horikawa & Kamitani drop 9 s).
    discard_s: NotNegative = 9.0
    #: Clean volumes that are needed before the first pattern.
    warm_up_volumes: Annotated[int, Field(ge=2)] = 6
    #: A line and cosines down to this period; 0 leaves the constant alone.
    drift_cutoff_s: NotNegative = 128.0
    drift_sd: NotNegative = 0.2
    #: None, the six of a rigid motion, these and their changes, or these twelve and their squares.
    motion_parameters: Literal[0, 6, 12, 24] = 0
    #: For each mm, rotations as arcs on a sphere of 50 mm.
    motion_sd: Positive = 1.0
    #: Courses of noise components, learned in calibration from voxels without the signal of interest.
    n_components: Count = 0
    component_sd: Positive = 1.0
    #: The head's overall brightness.
    global_signal: bool = False
    global_sd: Positive = 1.0

    @model_validator(mode="before")
    @classmethod
    def _of_voxels(cls, given: Any) -> Any:
        """Take settings of before: they said that voxels are freed, and could ask for features instead."""
        if not isinstance(given, dict) or "of" not in given:
            return given
        if given["of"] != "voxels":
            raise ValueError('"of" can ask for voxels alone; leave it out, and calibrate again')
        return {name: value for name, value in given.items() if name != "of"}


class ResponseSettings(Settings):
    """The expected response to a trial: the double-gamma function (Friston et al. 1998; Glover 1999) while it lasts."""

    #: Peak of the response to a brief event, and of the undershoot that follows; whole seconds.
    peak_s: AtLeastOne = 5
    undershoot_s: AtLeastOne = 15
    undershoot_ratio: Annotated[float, Field(ge=0, lt=1)] = 1 / 6
    #: How large a trial's response is expected to be, in units of the voxel's noise.
    sd: Positive = 1.0


class ScalingSettings(Settings):
    """What a pattern's numbers mean."""

    #: Percent of the baseline, or standard deviations of the voxel's noise.
    unit: Literal["percent", "zscore"] = "percent"
    #: Baseline and noise as estimated from all volumes so far, or as they were when the first trial began.
    baseline: Literal["running", "frozen"] = "running"
    #: Smoothing among the decoder's voxels; 0 for none.
    smoothing_fwhm_mm: NotNegative = 0.0
    #: Whether each pattern's mean over voxels is taken away.
    demean: bool = False


class NoiseSettings(Settings):
    """The spatial shape of noise, learned in calibration: patterns are whitened with it."""

    #: Principal components of the noise that patterns are shrunk along; 0 leaves patterns as they are.
    n_components: Count = 100
    #: Added to the variance in every direction, in units of what the components leave: holds the shrinkage back.
    ridge: NotNegative = 1.0


class WindowSettings(Settings):
    """Which volumes make a sample, and how."""

    #: `auto` follows the trials of a run that names them, and slides otherwise; `repeats` averages a trial with the
    #: earlier ones of the same label.
    mode: Literal["auto", "block", "sliding", "repeats"] = "auto"
    #: For a trial: its estimated response, or the mean of its volumes.
    estimate: Literal["response", "mean"] = "response"
    #: Delay of the response: a trial is ranked from onset + shift to offset + shift.
    hrf_shift_s: NotNegative = 3.0
    sliding_volumes: AtLeastOne = 3


class RankingSettings(Settings):
    """How decoded features are matched against the candidates."""

    #: Layers that are matched; empty means all that the bundle has.
    layers: tuple[str, ...] = ()
    #: A candidate's score: the mean over layers of Fisher's z, that of one correlation over all layers' units, or the
    #: mean over layers weighted as cross-validation found best.
    combine: Combination = "fisher"
    #: Ids of the candidates that are ranked; empty means all that the bundle has.
    candidates: tuple[str, ...] = ()
    n_top: AtLeastOne = 10


class PipelineSettings(Settings):
    """The whole path from volume to ranking.

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
