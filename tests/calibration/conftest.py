"""One small simulated subject, the decoder it was calibrated with, and the journal of a server that decoded it."""

import io
import math
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numba
import numpy as np
import pytest
import torch
from rich.console import Console

from calibration.datasets.bids import find_region, find_runs
from calibration.datasets.dataset_files import DatasetFiles
from calibration.datasets.mask_choice import mask_for
from calibration.decoders.settings import DecoderSettings
from calibration.features.extractor import FeatureExtractor, Network
from calibration.parallel.workers import workers
from calibration.samples.runs import align_run, clean_run
from calibration.simulation.dataset import simulate
from calibration.simulation.settings import StimulusSettings, SubjectSettings
from calibration.training.calibrate import CalibrationReport, calibrate
from rtgod.bundle import DecoderBundle
from rtgod.events.table import Trial
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Run
from rtgod.preprocessing.preprocessor import Noise
from rtgod.protocol.clients import Sender
from rtgod.replay import send_run
from rtgod.server.server import Server
from rtgod.server.session import Session
from rtgod.settings import PipelineSettings
from rtgod.sources import open_source
from tests.subjects import EASY, EASY_NOISE

GRID = {"shape": (32, 32, 25), "voxel_mm": (6.0, 6.0, 6.0)}
#: An easy subject, so that two training runs are enough to decode from.
SUBJECT = SubjectSettings(
    **GRID,
    seed=1,
    n_test_runs=1,
    n_imagery_runs=1,
    stimuli=StimulusSettings(
        n_images_per_category=2, n_test_categories=20, n_other_categories=10, n_images_per_candidate=1, size_px=64
    ),
    response=EASY,
    noise=EASY_NOISE,
)
NETWORK = Network(weights="random:0", layers={"low": "features.3", "high": "features.10"}, n_units=60)


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in this hook
def pytest_collection_modifyitems(items):
    """Keep the modules that share `inputs` or the subject in one process: these take long to simulate and calibrate."""
    sharing = {item.path for item in items if {"subject", "inputs"} & {*getattr(item, "fixturenames", ())}}
    for item in items:
        if item.path in sharing:
            item.add_marker(pytest.mark.xdist_group("subject"))


class RememberingExtractor:
    """A `FeatureExtractor` that computes the features of each image once."""

    known: ClassVar[dict[Path, dict]] = {}
    changes: ClassVar[dict[Path, tuple]] = {}

    def __init__(self, network):
        assert network == NETWORK
        self._network = network

    def extract(self, images, progress):
        if new := [path for path in images if path not in self.known]:
            computed = FeatureExtractor(self._network).extract(new, progress)
            self.known.update({p: {layer: v[i] for layer, v in computed.items()} for i, p in enumerate(new)})
        return {layer: np.stack([self.known[path][layer] for path in images]) for layer in self._network.layers}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Threads of torch and numba that wait for each other take several times as long on a busy machine."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture(scope="session")
def network() -> Network:
    return NETWORK


@pytest.fixture(scope="session")
def pool() -> Iterator[Executor]:
    """Two processes that share work."""
    with workers(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def subject(tmp_path_factory) -> Path:
    """Data set of `SUBJECT`."""
    folder = tmp_path_factory.mktemp("subject") / "bids"
    simulate(folder, SUBJECT, n_workers=2)
    return folder


@pytest.fixture(scope="session")
def inputs(subject) -> DatasetFiles:
    stimuli, runs = subject / "stimuli", tuple(find_runs(subject, "01", "Training"))
    return DatasetFiles(
        subject="01",
        training=runs,
        regions={"VC": find_region(subject, "01", "VC", mask_for(runs))},
        images=stimuli,
        candidates=stimuli / "candidates",
        names=stimuli / "categories.tsv",
    )


@dataclass(frozen=True)
class Calibrated:
    """What a calibration gives, the folder it is saved in, and what it reported on the way."""

    made: DecoderBundle
    summary: CalibrationReport
    folder: Path
    progress: list[tuple[str, int, int]]


@pytest.fixture(scope="session")
def calibrated(inputs, pool, tmp_path_factory) -> Calibrated:
    progress = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.samples.targets.FeatureExtractor", RememberingExtractor)
        bundle, summary = calibrate(
            inputs,
            PipelineSettings(),
            NETWORK,
            DecoderSettings(name="ridge"),
            pool,
            report=lambda *step: progress.append(step),
        )
    folder = tmp_path_factory.mktemp("calibrated") / "bundle"
    bundle.save(folder)
    return Calibrated(bundle, summary, folder, progress)


@pytest.fixture
def known_features(monkeypatch, calibrated):  # noqa: ARG001 # it is what computes them
    """Makes calibration use what the first one computed; gives the features of images by their paths."""
    monkeypatch.setattr("calibration.samples.targets.FeatureExtractor", RememberingExtractor)
    return RememberingExtractor(NETWORK)


@dataclass(frozen=True)
class RunSamples:
    """Trials of a run that have a sample, their samples (n_samples, n_voxels), and why other trials have none."""

    run: Run
    trials: tuple[Trial, ...]
    values: np.ndarray
    left_out: tuple[str, ...]
    noise: np.ndarray


def sampled(aligned, reference, settings, noise=Noise()):  # noqa: B008 # never changed
    """Samples of an aligned run."""
    cleaned = clean_run(aligned, reference, settings, noise)
    blocks = cleaned.sampled_blocks()
    return RunSamples(
        cleaned.run,
        tuple(cleaned.trials[block] for block in blocks),
        np.stack([cleaned.windows[block][-1].values for block in blocks]),
        tuple(filter(None, map(cleaned.why_left_out, range(len(cleaned.trials))))),
        cleaned.noise,
    )


def samples_of(runs, bundle, settings=None):
    """Samples of runs (`RunFiles`) as the bundle's decoder is given them."""
    settings = settings or bundle.settings
    aligned = [align_run(run, bundle.reference, bundle.noise, settings) for run in runs]
    return [sampled(run, bundle.reference, settings, bundle.noise) for run in aligned]


@pytest.fixture(scope="session")
def bundle(calibrated) -> DecoderBundle:
    return DecoderBundle.load(calibrated.folder)


def serve_runs(session: Session, journal: Path, sources) -> Path:
    """Send `sources` to a server of `session` over real sockets, as fast as it takes them; give its journal."""
    stop = threading.Event()
    with (
        JournalWriter(journal) as writer,
        Server(session, writer, "tcp://127.0.0.1:*", "tcp://127.0.0.1:*") as server,
    ):
        thread = threading.Thread(target=server.serve, args=(stop.is_set,))
        thread.start()
        try:
            with Sender(server.endpoints.ingest, timeout_s=60) as sender:
                for source in sources:
                    for _ in send_run(source, sender, math.inf):
                        pass
        finally:
            stop.set()
            thread.join(timeout=60)
        assert not thread.is_alive()
    return journal


@pytest.fixture(scope="session")
def journal(subject, bundle, tmp_path_factory) -> Path:
    """Of a server that decoded a training, a test and an imagery run."""
    runs = [find_runs(subject, "01", name)[0] for name in ("Training", "perceptionTest", "imagery")]
    path = tmp_path_factory.mktemp("journal") / "session.rtgod"
    return serve_runs(Session(bundle), path, [open_source(run.bold, events=run.events) for run in runs])


@pytest.fixture
def console() -> Console:
    """Keeps what is printed: `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=120)
