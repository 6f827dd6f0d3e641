"""Settings of a simulated subject: every number of the simulation, with defaults typical of 3 T."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rtgod.settings import NotNegative, Positive, Settings

Count = Annotated[int, Field(ge=1)]


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
    #: Amplitude of imagery relative to seeing.
    imagery_gain: NotNegative = 0.3
    #: Delay of the lowest layer's response after the highest layer's in imagery.
    imagery_lag_s: NotNegative = 4.0
    #: Peak of the response to a brief event, and of the undershoot that follows; whole seconds.
    hrf_peak_s: Count = 5
    hrf_undershoot_s: Count = 15
    hrf_ratio: Annotated[float, Field(ge=0, lt=1)] = 1 / 6


class ScannerNoiseSettings(Settings):
    """Noise, drift, physiology and spikes in the images."""

    #: Mean over temporal standard deviation of grey matter, from AR(1) noise alone.
    tsnr: Positive = 60.0
    ar1: Annotated[float, Field(ge=0, lt=1)] = 0.3
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
    shape: tuple[Count, Count, Count] = (64, 64, 50)
    voxel_mm: tuple[Positive, Positive, Positive] = (3.0, 3.0, 3.0)
    n_test_runs: Annotated[int, Field(ge=0)] = 2
    n_imagery_runs: Annotated[int, Field(ge=0)] = 2
    weights: str = "random:0"
    stimuli: StimulusSettings = StimulusSettings()
    response: TuningSettings = TuningSettings()
    noise: ScannerNoiseSettings = ScannerNoiseSettings()
    motion: HeadMotionSettings = HeadMotionSettings()
