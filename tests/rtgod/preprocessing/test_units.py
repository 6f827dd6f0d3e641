"""Decoding is affine, and so is denoising without clipping: the order of the two makes no difference."""

import numpy as np
import pytest

from rtgod.messages import Block, Motion, Pattern, Run
from rtgod.preprocessing.denoising import Denoiser
from rtgod.preprocessing.preprocessor import SampleEstimator
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.units import UnitCourses
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.settings import PipelineSettings
from tests import small

RUN = Run("run-1", "01", 2.0, (4, 4, 4), np.eye(4), 60, (Block(20, 12), Block(50, 12), Block(80, 12)))
MOTION = Motion((0, 0, 0), (0, 0, 0), 0, 0, 1, True)


def patterns():
    """Sixty volumes of drifting, noisy voxels around 0."""
    rng = np.random.default_rng(0)
    drift = np.cos(np.linspace(0, 4, 60))[:, np.newaxis] * rng.normal(0, 2, small.N_VOXELS)
    values = (drift + rng.normal(0, 1, (60, small.N_VOXELS))).astype(np.float32)
    return [Pattern("run-1", i, one, 0, MOTION, censored=i == 40) for i, one in enumerate(values)]


@pytest.mark.parametrize("estimate", ["response", "mean"])
def test_freeing_units_is_decoding_from_voxels_that_were_freed(estimate):
    settings = PipelineSettings.model_validate(
        {"censoring": {"clip_sd": 0.0}, "nuisance": {"of": "features"}, "window": {"estimate": estimate}}
    )
    decoder = small.bundle().decoder()
    units = UnitCourses(decoder, RUN, settings, RepeatAverager())
    voxels = Denoiser(small.N_VOXELS, RUN, settings, in_unit=False)
    estimator = SampleEstimator(RUN, settings, RepeatAverager())
    blocks = []
    for pattern in patterns():
        sample = units.step(pattern, pattern.values, Stopwatch())
        freed = voxels.step(pattern.index, pattern.values, MOTION, 1.0, np.empty(0), pattern.censored)
        expected = None
        if freed is not None:
            expected = estimator.step(
                Pattern("run-1", pattern.index, freed.values, 0, MOTION, pattern.censored), voxels
            )
        assert (sample is None) == (expected is None)
        if sample is None or expected is None:
            continue
        assert (sample.block, sample.final, sample.n_volumes) == (expected.block, expected.final, expected.n_volumes)
        decoded = decoder.decode(0, expected.values).layers
        for layer, found in decoder.by_layer(0, sample.values).layers.items():
            np.testing.assert_allclose(found, decoded[layer], rtol=1e-3, atol=1e-3 * np.abs(decoded[layer]).max())
        blocks.append(sample.block)
    assert set(blocks) == {0, 1, 2}
