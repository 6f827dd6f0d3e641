"""Turn recorded runs into labelled samples in one call, for decoders of one's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from calibration.datasets.dataset_files import DatasetFiles
from calibration.datasets.masks import read_mask
from calibration.datasets.runs import find_plain_runs
from calibration.parallel.progress import quiet
from calibration.parallel.workers import workers
from calibration.samples.assemble import samples_of, tallies_of
from calibration.samples.preparation import gather_runs
from calibration.samples.study import KINDS, Samples
from rtgod.errors import InputError
from rtgod.events.table import Trial
from rtgod.messages import Float32Array
from rtgod.settings import PipelineSettings

log = logging.getLogger(__name__)


def preprocess(
    runs: str | Path | Sequence[str | Path],
    mask: str | Path | None = None,
    *,
    events: Sequence[str | Path] = (),
    settings: PipelineSettings | None = None,
    kind: Literal["seen", "imagined"] = "seen",
    n_workers: int = 1,
) -> Samples:
    """Take recorded runs through the pipeline that the server runs, volume by volume, to one sample for each trial.

    The template is made of the first run's first volumes. Samples are not whitened: the noise model is learned
    from runs, and must not be learned from those that a decoder is tested on. Trials without a sample are counted
    in the log.

    Parameters
    ----------
    runs : path or sequence of paths
        4-D NIfTI files, Philips .PAR files, or folders of one series' DICOM files or of a run's 3-D NIfTI files.
    mask : path, optional
        Image of the voxels to take, in the runs' grid; by default those of the head.
    events : sequence of paths, optional
        The events table of each run; by default the tables beside the runs.
    settings : PipelineSettings, optional
        By default the usual ones.
    kind : {"seen", "imagined"}
        Kind of the trials: images or categories shown, or categories to be imagined.
    n_workers : int
        Number of processes that share the runs; it does not change the samples.

    Returns
    -------
    Samples
        `X` of shape (n_samples, n_voxels), float32, in percent signal change unless the settings say otherwise;
        `categories`, the category shown or imagined; `runs`, the run of each sample, to cross-validate by.

    Raises
    ------
    InputError
        If a run, its events or the mask cannot be used, or no trial is of that kind.

    Examples
    --------
    >>> import calibration
    >>> samples = calibration.preprocess(
    ...     ["sub-01_task-objects_run-01_bold.nii.gz", "sub-01_task-objects_run-02_bold.nii.gz"], mask="VC.nii.gz"
    ... )
    >>> samples.X.shape, samples.categories[:2]
    ((12, 40), ('n00000000', 'n00000001'))
    >>> sorted(set(samples.runs))
    ['sub-01_task-objects_run-01', 'sub-01_task-objects_run-02']
    """
    settings = settings or PipelineSettings()
    paths = [runs] if isinstance(runs, str | Path) else runs
    found_runs = find_plain_runs([Path(path) for path in paths], [Path(table) for table in events])
    for left_out in found_runs.missing:
        log.warning("left out: %s", left_out)
    voxels = read_mask(Path(mask), found_runs.runs[0].open(settings.events).run) if mask else None
    inputs = DatasetFiles(subject="", training=found_runs.runs, missing=found_runs.missing)
    with workers(n_workers) as pool:
        gathered = gather_runs(inputs, voxels, settings, pool, quiet)
    for note in gathered.notes:
        log.info("%s", note)
    samples = samples_of(gathered.training, _no_features, KINDS[kind])
    if samples is None:
        raise InputError(f"no trial of the runs is {kind}; give other runs, or another kind")
    for tally in tallies_of(gathered, "runs"):
        if tally.what == f"trials {kind}" and tally.n_left_out:
            _, things, n, _, n_left_out, why = tally.row()
            log.warning("%d of %d %s give no sample: %s", n_left_out, n, things, why)
    return samples


def _no_features(trials: Sequence[Trial]) -> Mapping[str, Float32Array]:  # noqa: ARG001 # no features are needed
    return {}
