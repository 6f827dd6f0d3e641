"""Simulated subjects of tests.

`EASY` flatters on purpose: strong responses with the decoder's own course, the same in every trial
and region, nothing else going on in cortex, noise that voxels do not share, and imagery that is seeing made weaker. Two
training runs are enough to decode from it, so tests of everything else can ask for high accuracy. How hard a subject is
by default is for the tests of the simulation.
"""

from calibration.simulation.settings import HeadMotionSettings, ScannerNoiseSettings, TuningSettings

EASY = TuningSettings(
    effect_percent=2.0,
    effective_rank=10.0,
    tuning_fwhm_mm=0.0,
    trial_sd=0.0,
    lapse_share=0.0,
    ongoing=0.0,
    imagery_gain=0.3,
    imagery_rank=10.0,
    imagery_other_share=0.0,
    imagery_delay_s=0.0,
    imagery_lag_s=4.0,
    hrf_peak_s=5.0,
    hrf_undershoot_s=15.0,
    hrf_ratio=1 / 6,
    hrf_dispersion_s=1.0,
    hrf_region_sd_s=0.0,
    hrf_ratio_sd=0.0,
)
EASY_NOISE = ScannerNoiseSettings(smooth_share=0.0, n_global=0)
#: A scanner without noise and a head without physiology.
SILENT = ScannerNoiseSettings(
    tsnr=1e9, n_global=0, drift_percent=0, respiration_percent=0, cardiac_percent=0, spike_rate=0
)
STILL = HeadMotionSettings(**dict.fromkeys(HeadMotionSettings.model_fields, 0.0))
