"""Every number that a lab may want to change, frozen and checked; kept in the bundle and in the journal."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rtgod.errors import InputError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"settings {path}: cannot be read ({error})") from error
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"settings {path}: not valid TOML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"settings {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class MotionSettings(Settings):
    """Rigid registration of each volume to the template."""

    #: Of both images before they are compared.
    smoothing_fwhm_mm: NotNegative = 8.0
    #: Most points of the head that are compared.
    n_points: Annotated[int, Field(ge=1000)] = 30_000
    max_iterations: Annotated[int, Field(ge=1)] = 40
    #: The search ends with a step shorter than this.
    tolerance_mm: Positive = 0.002
    #: Least share of the template's variance that a volume must explain to be taken for the same head.
    least_explained: Annotated[float, Field(ge=0, le=1)] = 0.9
    #: A volume whose framewise displacement exceeds this enters no window and no baseline.
    censor_fd_mm: Positive = 1.5


class SamplingSettings(Settings):
    """How a volume is read between its voxels."""

    #: Cubic B-splines or straight lines.
    interpolation: Literal["cubic", "linear"] = "cubic"


class BaselineSettings(Settings):
    """Incremental detrending and the baseline for percent signal change."""

    #: Volumes that start earlier are aligned only: magnetisation has not settled (Horikawa & Kamitani drop 9 s).
    discard_s: NotNegative = 9.0
    #: Clean volumes that the baseline needs before the first pattern.
    warm_up_volumes: Annotated[int, Field(ge=2)] = 6
    #: Time over which the baseline follows slow drift; shorter follows faster and keeps less of a long response.
    memory_s: Positive = 120.0
    #: Expected size of a linear drift over one memory, in units of the voxel's noise; 0 leaves only the level.
    slope_sd: NotNegative = 0.5


class WindowSettings(Settings):
    """Which volumes are averaged into one sample."""

    #: `auto` follows the blocks of a run that names them, and slides otherwise.
    mode: Literal["auto", "block", "sliding"] = "auto"
    #: Delay of the response: a block's volumes are those from onset + shift to offset + shift.
    hrf_shift_s: NotNegative = 3.0
    sliding_volumes: Annotated[int, Field(ge=1)] = 3


class RankingSettings(Settings):
    """How decoded features are matched against the candidates."""

    #: Layers whose scores are averaged; empty means all that the bundle has.
    layers: tuple[str, ...] = ()
    n_top: Annotated[int, Field(ge=1)] = 10


class PipelineSettings(Settings):
    """The whole path from volume to ranking."""

    motion: MotionSettings = MotionSettings()
    sampling: SamplingSettings = SamplingSettings()
    baseline: BaselineSettings = BaselineSettings()
    window: WindowSettings = WindowSettings()
    ranking: RankingSettings = RankingSettings()
