"""A small head, runs of it and a decoder for it: quick to align, and every part of the path is reached."""

from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from rtgod.bundle import DecoderBundle
from rtgod.candidates import Candidate
from rtgod.decoding.confidence import Confidence
from rtgod.decoding.decoder import LayerDecoder, SparseLayerDecoder
from rtgod.messages import Block, Motion, Ranking, Run, RunEnd, Volume
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import MotionSettings, NoiseSettings, NuisanceSettings, PipelineSettings, WindowSettings

SHAPE = (18, 20, 16)  # so that a transposed axis shows
AFFINE = np.array([[4.0, 0, 0, -34], [0, 4.0, 0, -38], [0, 0, 4.0, -30], [0, 0, 0, 1]])
TR_S = 2.0
N_VOXELS, N_SAMPLES, N_CANDIDATES = 40, 12, 7
N_DECODER_SAMPLES = 30
SETTINGS = PipelineSettings(
    motion=MotionSettings(n_points=1000),
    nuisance=NuisanceSettings(discard_s=2.0, warm_up_volumes=2),
    noise=NoiseSettings(n_components=3),
    window=WindowSettings(hrf_shift_s=2.0),
)

#: Without a bundle: the first volume is the template.
AT_ONCE = PipelineSettings(nuisance=NuisanceSettings(discard_s=0.0))

STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.01, 3, converged=True)
RANKING = Ranking("run-1", 3, 1, None, False, ("category 0",), np.arange(3), np.zeros(3), STILL)


def head(shift_mm=(0.0, 0.0, 0.0)):
    """Intensities of shape SHAPE, float32: an ellipsoid with bright spots off its centre, moved by `shift_mm`."""
    x, y, z = (np.indices(SHAPE).T @ np.diag(np.diag(AFFINE)[:3]) + AFFINE[:3, 3] - shift_mm).T
    ball = 800.0 / (1.0 + np.exp((np.sqrt(x**2 + 0.8 * y**2 + 1.3 * z**2) - 22.0) / 3.0))
    spots = 400.0 * np.exp(-((x - 9) ** 2 + (y + 6) ** 2 + (z - 5) ** 2) / 90.0)
    spots += 300.0 * np.exp(-((x + 8) ** 2 + (y - 9) ** 2 + (z + 7) ** 2) / 60.0)
    return (ball + spots + 20.0).astype(np.float32)


def orthonormal(n_rows, n_columns):
    """Directions of noise that mean nothing."""
    drawn = np.random.default_rng(2).standard_normal((n_columns, n_rows))
    return np.ascontiguousarray(np.linalg.qr(drawn)[0].T, np.float32)


#: Surer of rankings that rest on more volumes.
CONFIDENCE = Confidence(
    mean=(0.0,) * 7,
    sd=(1.0,) * 7,
    lowest=(0.0,) * 7,
    highest=(9.0,) * 7,
    coefficients=((0.5, 0, 0, 0, 0, 1.0, 0), (0, 0.5, 0, 0, 0, 1.0, 0), (0, 0, 0.5, 0, 0, 1.0, 0)),
    intercepts=(-3.0, -2.0, -1.0),
)
NOISE = NoiseCovariance(
    np.full(N_VOXELS, 0.5, np.float32), orthonormal(3, N_VOXELS), np.array([0.2, 0.5, 0.9], np.float32)
)


def bundle(settings=SETTINGS, n_units=MappingProxyType({"conv": 9, "fc": 5})):
    """A decoder with two layers and random weights: its rankings mean nothing, but any voxel moves them."""
    rng = np.random.default_rng(1)

    def noise(*shape):
        return rng.standard_normal(shape, np.float32)

    bright = np.argwhere(head() > 600).astype(np.int32)
    voxels = bright[np.linspace(0, len(bright) - 1, N_VOXELS).astype(int)]
    layers = {k: LayerDecoder(noise(n, N_SAMPLES), noise(n), 1 + np.abs(noise(n))) for k, n in n_units.items()}
    return DecoderBundle(
        reference=Reference(head(), AFFINE, voxels),
        patterns=noise(N_SAMPLES, N_VOXELS),
        voxel_mean=0.1 * noise(N_VOXELS),
        voxel_sd=np.ones(N_VOXELS, np.float32),
        layers=layers,
        candidates=tuple(Candidate(f"n{i:08d}", f"category {i}") for i in range(N_CANDIDATES)),
        candidate_features={k: noise(N_CANDIDATES, n) for k, n in n_units.items()},
        noise=Noise(shape=NOISE),
        settings=settings,
        provenance={"subject": "small"},
    )


def normal(*shape, seed=0):
    """Unit normal numbers, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def layer_decoders(n_units=MappingProxyType({"conv1": 21, "conv5": 40, "fc8": 5})):
    """Layers with random weights on `N_DECODER_SAMPLES` patterns, and units of unlike means and SDs."""
    return {
        name: LayerDecoder(
            normal(n, N_DECODER_SAMPLES, seed=n), 10 + 5 * normal(n, seed=n + 1), 1 + normal(n, seed=n + 2) ** 2
        )
        for name, n in n_units.items()
    }


def run(run_id="run-1", **changes):
    """Two blocks in twelve volumes, answered by volumes 4, 5, 6 and 8, 9; `changes` replace fields."""
    blocks = (Block(6.0, 6.0), Block(14.0, 4.0))
    return replace(Run(run_id, "small", TR_S, SHAPE, AFFINE, n_volumes=12, blocks=blocks), **changes)


def volume(index, run_id="run-1", **changes):
    """A noisy, slightly moving head; the same for the same `index`."""
    rng = np.random.default_rng(index)
    data = head((0.02 * index, -0.1 * (index % 3), 0.05)) + rng.normal(0, 4, SHAPE)
    return replace(Volume(run_id, index, index * TR_S, data.astype(np.int16)), **changes)


def messages(run_id="run-1", indices=range(12)):
    """A whole run as a source sends it."""
    return [run(run_id), *(volume(index, run_id) for index in indices), RunEnd(run_id, max(indices) + 1)]


@dataclass(frozen=True)
class Recorded:
    """A `Source` that is at hand."""

    run: Run
    volumes: tuple[Volume, ...]

    def __iter__(self):
        return iter(self.volumes)


def sparse_layer_decoder(n_units, n_voxels, seed=0):
    """A layer whose units have weights for a few voxels each, the first unit for none."""
    rng = np.random.default_rng(seed)
    each = [np.sort(rng.permutation(n_voxels)[: unit % (n_voxels + 1)]) for unit in range(n_units)]
    voxels = np.concatenate(each).astype(np.int32)
    starts = np.cumsum([0, *map(len, each)], dtype=np.int32)
    moments = 10 + 5 * normal(n_units, seed=seed + 1), 1 + normal(n_units, seed=seed + 2) ** 2
    return SparseLayerDecoder(starts, voxels, normal(len(voxels), seed=seed), *moments)
