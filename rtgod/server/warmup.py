"""Warm-up of a server: compile, or load from the cache, every kernel that a volume needs, before the first volume."""

from __future__ import annotations

from typing import get_args

import numpy as np

from rtgod.bundle import DecoderBundle
from rtgod.candidates import Candidate
from rtgod.decoding.decoder import LayerDecoder, SparseLayerDecoder
from rtgod.decoding.picture_index import Pictures
from rtgod.messages import Float32Array, Ranking, Run, Volume
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.noise_model import NoiseComponents, NoiseCovariance
from rtgod.preprocessing.preprocessor import Noise
from rtgod.server.session import Session
from rtgod.settings import NuisanceSettings, PipelineSettings, SamplingSettings, ScalingSettings

_SIZE = 24


def warm_up() -> None:
    """Send a few volumes of a small synthetic head through the whole pipeline, and discard the results."""
    for interpolation in get_args(SamplingSettings.model_fields["interpolation"].annotation):
        session = Session(_small_bundle(SamplingSettings(interpolation=interpolation)))
        answers = list(session.handle(Run("warm-up", "none", 1.0, (_SIZE, _SIZE, _SIZE), _affine())))
        for index in range(4):
            answers += session.handle(Volume("warm-up", index, float(index), _head()))
        if not any(isinstance(answer, Ranking) for answer, _ in answers):
            raise AssertionError("the warm-up must reach the ranking, or kernels are left to compile at a volume")


def _small_bundle(sampling: SamplingSettings) -> DecoderBundle:
    """Make a small bundle that uses every stage with a kernel."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> Float32Array:
        return rng.standard_normal(shape, np.float32)

    voxels = np.full((5, 3), _SIZE // 2, np.int32) + np.arange(5, dtype=np.int32)[:, np.newaxis]
    dual = LayerDecoder(noise(4, 3), noise(4), np.ones(4, np.float32))
    sparse = SparseLayerDecoder(
        np.arange(5, dtype=np.int32), np.arange(4, dtype=np.int32), noise(4), noise(4), np.ones(4, np.float32)
    )
    return DecoderBundle(
        reference=Reference(_head(), _affine(), voxels),
        patterns=noise(3, 5),
        voxel_mean=noise(5),
        voxel_sd=np.ones(5, np.float32),
        layers={"dual": dual, "sparse": sparse},
        candidates=(Candidate("a", "a"), Candidate("b", "b")),
        candidate_features={"dual": noise(2, 4), "sparse": noise(2, 4)},
        noise=Noise(
            NoiseCovariance(np.ones(5, np.float32), noise(1, 5), np.ones(1, np.float32)),
            NoiseComponents(voxels, noise(1, 5)),
        ),
        settings=PipelineSettings(
            sampling=sampling,
            nuisance=NuisanceSettings(discard_s=0, warm_up_volumes=2, n_components=1),
            scaling=ScalingSettings(smoothing_fwhm_mm=4),
        ),
        provenance={},
        pictures=Pictures(("a", "b"), noise(2, 3), {"dual": 1.0}, noise(3, 4)),
    )


def _affine() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.diag([3.0, 3.0, 3.0, 1.0])


def _head() -> Float32Array:
    """Make a ball with a bright spot off its centre, so that every direction has a gradient."""
    x, y, z = np.indices((_SIZE, _SIZE, _SIZE)) - _SIZE / 2
    ball = 900.0 / (1.0 + np.exp(np.sqrt(x**2 + 1.2 * y**2 + 1.5 * z**2) - 8.0))
    spot = 400.0 * np.exp(-((x - 3) ** 2 + (y - 2) ** 2 + (z - 4) ** 2) / 8.0)
    return (ball + spot).astype(np.float32)
