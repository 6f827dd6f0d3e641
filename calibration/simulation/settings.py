"""Settings of a simulated subject: every number of the simulation, with defaults typical of 3 T.

Where the defaults come from: docs/decisions, "A simulated subject that does not flatter".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rtgod.settings import NotNegative, Positive, Settings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
RegionName = Literal["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA"]
#: What a null subject lacks; see `SubjectSettings.null`.
Null = Literal["", "no-signal", "shuffled-labels", "shuffled-areas", "no-lag", "no-imagery"]


class StimulusSettings(Settings):
    """Numbers and size of the drawn images."""

    n_training_categories: Annotated[int, Field(ge=50)] = 50
    n_images_per_category: Count = 8
    n_test_categories: Annotated[int, Field(ge=20)] = 50
    #: Number of categories that are never shown, only ranked beside the shown ones.
    n_other_categories: Annotated[int, Field(ge=0)] = 900
    #: Number of images behind each candidate's category features; none of them is shown.
    n_images_per_candidate: Count = 3
    size_px: Annotated[int, Field(ge=32)] = 160

    @property
    def n_categories(self) -> int:
        """Number of categories of all three kinds."""
        return self.n_training_categories + self.n_test_categories + self.n_other_categories


class TuningSettings(Settings):
    """Responses of visual cortex."""

    #: Standard deviation over images of a typical voxel's response, in percent signal change.
    effect_percent: NotNegative = 0.6
    #: Mean response to any image, in percent signal change.
    evoked_percent: NotNegative = 1.2
    #: Effective rank of each region's noise-free responses to the training images: see
    #: `calibration.metrics.effective_rank`.
    effective_rank: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    #: Smoothness of tuning over a region: full width at half maximum of the kernel that smooths white weights.
    tuning_fwhm_mm: NotNegative = 4.0
    #: Standard deviation over trials of the logarithm of the response's amplitude.
    trial_sd: NotNegative = 0.3
    #: Share of trials in which attention lapses, and the amplitude that is left in them.
    lapse_share: Share = 0.05
    lapse_gain: NotNegative = 0.1
    #: Standard deviation of activity that goes on all the time along the axes of tuning, relative to `effect_percent`.
    ongoing: NotNegative = 0.8
    #: Amplitude of imagery relative to seeing.
    imagery_gain: NotNegative = 0.4
    #: Effective rank in imagery.
    imagery_rank: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 5.0
    #: Share of the variance of the weights in imagery that is not from the weights in seeing.
    imagery_other_share: Share = 0.4
    #: Time from the start of imagery to the start of its first response.
    imagery_delay_s: NotNegative = 1.0
    #: Delay of the lowest layer's response after the highest layer's in imagery.
    imagery_lag_s: NotNegative = 4.0
    #: Peak of the response to a brief event, and of the undershoot that follows.
    hrf_peak_s: Positive = 6.0
    hrf_undershoot_s: Positive = 15.0
    #: Area of the undershoot as a share of the response's.
    hrf_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.2
    #: Width of the response: the scale of the two gamma functions; 1 is the usual double-gamma function.
    hrf_dispersion_s: Positive = 0.9
    #: Standard deviation over regions of the peaks' times, and of the logarithm of `hrf_ratio`.
    hrf_region_sd_s: NotNegative = 0.5
    hrf_ratio_sd: NotNegative = 0.3


class ScannerNoiseSettings(Settings):
    """Noise, drift, physiology and spikes in the images."""

    #: Mean over temporal standard deviation of grey matter, from AR(1) noise alone.
    tsnr: Positive = 60.0
    ar1: Annotated[float, Field(ge=0, lt=1)] = 0.3
    #: Share of the AR(1) noise's variance that is smooth in space, and the full width at half maximum of its kernel.
    smooth_share: Share = 0.5
    smooth_fwhm_mm: NotNegative = 6.0
    #: Number of components that all grey matter shares, and the standard deviation of each, in percent signal change.
    n_global: Annotated[int, Field(ge=0)] = 3
    global_percent: NotNegative = 0.4
    #: Standard deviations of smooth fields, in percent signal change.
    drift_percent: NotNegative = 0.8
    respiration_percent: NotNegative = 0.4
    cardiac_percent: NotNegative = 0.4
    respiration_hz: Positive = 0.27
    cardiac_hz: Positive = 1.1
    #: Share of volumes in which a spike hits a slice.
    spike_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    spike_percent: NotNegative = 8.0


class HeadMotionSettings(Settings):
    """Movement of the head."""

    #: Standard deviation of the head's position between runs.
    between_runs_mm: NotNegative = 0.5
    between_runs_deg: NotNegative = 0.4
    #: Slow wander within a run: its standard deviation at the run's end.
    within_run_mm: NotNegative = 0.4
    within_run_deg: NotNegative = 0.3
    #: Sudden moves per run, and their size.
    jerks_per_run: NotNegative = 1.0
    jerk_mm: NotNegative = 0.3


class SubjectSettings(Settings):
    """All settings of a simulated subject."""

    subject: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")] = "01"
    seed: Annotated[int, Field(ge=0)] = 0
    #: A subject in whom something is missing, so that figures of it must be at chance: "no-signal" (cortex does not
    #: respond at all), "shuffled-labels" (trials respond to another image or category of their run than the events
    #: say), "shuffled-areas" (voxels change places over all areas), "no-lag" (one course for all layers and regions),
    #: "no-imagery" (imagery evokes nothing).
    null: Null = ""
    shape: tuple[Count, Count, Count] = (64, 64, 50)
    voxel_mm: tuple[Positive, Positive, Positive] = (3.0, 3.0, 3.0)
    #: Size of regions relative to their usual volumes; a region that is not named keeps its own.
    area_scale: dict[RegionName, Positive] = Field(default_factory=dict)
    n_test_runs: Annotated[int, Field(ge=0)] = 2
    n_imagery_runs: Annotated[int, Field(ge=0)] = 2
    weights: str = "random:0"
    stimuli: StimulusSettings = StimulusSettings()
    response: TuningSettings = TuningSettings()
    noise: ScannerNoiseSettings = ScannerNoiseSettings()
    motion: HeadMotionSettings = HeadMotionSettings()

    @property
    def response_in_force(self) -> TuningSettings:
        """Settings of responses, without what the null subject lacks."""
        without: dict[str, float] = {}
        match self.null:
            case "no-signal":
                without = {"effect_percent": 0.0, "evoked_percent": 0.0}
            case "no-lag":
                # A region whose response peaks late would look like a layer that lags.
                without = {"imagery_lag_s": 0.0, "hrf_region_sd_s": 0.0, "hrf_ratio_sd": 0.0}
            case "no-imagery":
                without = {"imagery_gain": 0.0}
        return self.response.model_copy(update=without)
