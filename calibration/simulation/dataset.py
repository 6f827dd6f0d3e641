"""Write a simulated subject as a BIDS data set: images, runs, regions, and the truth behind them."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from calibration.features.extractor import FeatureExtractor
from calibration.parallel.workers import workers
from calibration.reports.tables import write_tsv
from calibration.simulation import truth
from calibration.simulation.head import REGIONS, UNIONS, Head
from calibration.simulation.objects import ObjectCategory
from calibration.simulation.photograph import draw
from calibration.simulation.plan import Plan, PlannedRun
from calibration.simulation.scan import ongoing_activity, save_nifti, scan, sidecar, signal_change
from calibration.simulation.schedule import TR_S
from calibration.simulation.settings import SubjectSettings
from calibration.simulation.trials import (
    Response,
    imagined_amplitudes,
    percepts_of,
    responses_to,
    seen_amplitudes,
)
from calibration.simulation.tuning import Tuning, subject_tuning
from rtgod import __version__
from rtgod.errors import InputError, what_went_wrong
from rtgod.files import appearing_whole
from rtgod.messages import Float32Array, Int32Array
from rtgod.text import number_of, times

#: Exemplars from this number on only make category features and are never shown.
_CANDIDATES = 1000
_PICTURES_AT_ONCE = 20
#: A voxel with more than this share of white matter or fluid counts as pure.
_PURE_TISSUE = 0.95
Report = Callable[[str, int, int], object]


def simulate(
    out: Path,
    settings: SubjectSettings,
    n_workers: int | None = None,
    report: Report = lambda *_: None,
    scheduler: str | None = None,
) -> None:
    """Write the data set; the same settings give the same bytes for any number of workers.

    Parameters
    ----------
    out : Path
        Folder to write; it appears complete or not at all.
    settings : SubjectSettings
    n_workers : int, optional
        Number of processes that draw and scan, by default one for each core.
    report : callable
        Called with (stage, steps done, steps in all) as the work goes on.
    scheduler : str, optional
        Address of a Dask cluster that draws and scans instead.

    Raises
    ------
    InputError
        If `out` exists, cannot be written, or the settings do not fit together.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; choose another folder or remove it")
    try:
        with appearing_whole(out) as root, workers(n_workers, scheduler) as pool:
            _Subject(root, settings, report, pool).write()
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({what_went_wrong(error)})") from error


def planned(settings: SubjectSettings) -> list[str]:
    """Describe the data set that `simulate` would make, a line for each session and one for the images.

    Parameters
    ----------
    settings : SubjectSettings

    Raises
    ------
    InputError
        If the settings do not fit together.
    """
    plan = Plan(settings)
    runs = plan.runs(np.random.default_rng([settings.seed, 1]))
    lines = []
    for session in dict.fromkeys(run.session for run in runs):
        members = [run for run in runs if run.session == session]
        n_volumes = ", ".join(dict.fromkeys(str(run.schedule.n_volumes) for run in members))
        lines.append(
            f"{session}: {number_of(len(members), 'run')} of {n_volumes} volumes of {times(settings.shape)} voxels"
        )
    n_candidates = settings.stimuli.n_categories
    n_shown = len(plan.training) * settings.stimuli.n_images_per_category + len(plan.test)
    n_behind = n_candidates * settings.stimuli.n_images_per_candidate
    lines.append(
        f"{n_shown} drawn images that are shown; {n_candidates} candidates, with {n_behind} images behind them"
    )
    return lines


class _Subject:
    """Simulated subject, whose files are written part by part."""

    def __init__(self, root: Path, settings: SubjectSettings, report: Report, pool: Executor) -> None:
        self.pool = pool
        self.root = root
        self.settings = settings
        self.report = report
        self.plan = Plan(settings)

    def write(self) -> None:
        rng = np.random.default_rng([self.settings.seed, 1])
        runs = self.plan.runs(rng)
        self._write_tables()
        images, drawing = self._begin_images()
        # While workers draw, the network and the head are made, which takes as long.
        extractor = FeatureExtractor(truth.brain_network(self.settings))
        head = truth.head_of(self.settings)
        voxels = np.argwhere(head.regions > 0).astype(np.int32)
        self._finish("drawing images", len(drawing), (job.result() for job in drawing))
        amplitudes, tuning = self._respond(extractor, images, head, voxels, rng)
        self._write_regions(head)
        truth.write_tuning(self.root, tuning, voxels)
        self._write_runs(runs, head, voxels, amplitudes, tuning)

    def _begin_images(self) -> tuple[dict[str, list[Path]], list[Future[None]]]:
        """Start drawing the images shown, those behind the candidates and those imagined; return the files by kind."""
        stimuli = self.settings.stimuli
        each = range(stimuli.n_images_per_candidate)
        wanted = [("training", c, e) for c in self.plan.training for e in range(stimuli.n_images_per_category)]
        wanted += [("test", c, 0) for c in self.plan.test]
        wanted += [
            ("candidates", c, _CANDIDATES + e)
            for c in (*self.plan.training, *self.plan.test, *self.plan.other)
            for e in each
        ]
        if self.settings.n_imagery_runs:
            wanted += [("imagined", c, truth.FIRST_IMAGINED + e) for c in self.plan.test for e in each]
        files: dict[str, list[Path]] = {"training": [], "test": [], "candidates": [], "imagined": []}
        pictures = []
        for kind, category, exemplar in wanted:
            folder = self.root / (truth.IMAGINED if kind == "imagined" else Path("stimuli") / kind)
            if kind in ("candidates", "imagined"):
                folder /= category.category_id
            folder.mkdir(parents=True, exist_ok=True)
            files[kind].append(folder / f"{category.category_id}_{exemplar}.png")
            pictures.append(_Picture(files[kind][-1], category, exemplar, stimuli.size_px, self.settings.seed))
        batches = [pictures[start : start + _PICTURES_AT_ONCE] for start in range(0, len(pictures), _PICTURES_AT_ONCE)]
        return files, [self.pool.submit(_draw_all, batch) for batch in batches]

    def _respond(
        self,
        extractor: FeatureExtractor,
        images: Mapping[str, Sequence[Path]],
        head: Head,
        voxels: Int32Array,
        rng: np.random.Generator,
    ) -> tuple[dict[Hashable, Float32Array], Tuning]:
        """Return amplitudes (n_layers, n_voxels) of shown images and imagined categories, by name, and the tuning."""
        n_training = len(images["training"])
        shown = [*images["training"], *images["test"]]
        all_images = [*shown, *images["imagined"]]
        done = 0

        def progress(n: int) -> None:
            nonlocal done
            done += n
            self.report("network responses", done, len(all_images))

        features = extractor.extract(all_images, progress)
        training = {layer: values[:n_training] for layer, values in features.items()}
        tuning = subject_tuning(training, head, voxels, self.settings, rng)
        amplitudes = seen_amplitudes(
            tuning, [path.stem for path in shown], {layer: values[: len(shown)] for layer, values in features.items()}
        )
        if images["imagined"]:
            labels = [path.parent.name for path in images["imagined"]]
            imagined = {layer: values[len(shown) :] for layer, values in features.items()}
            amplitudes |= imagined_amplitudes(tuning, labels, imagined)
        return amplitudes, tuning

    def _write_tables(self) -> None:
        subject = f"sub-{self.settings.subject}"
        description = {
            "Name": "Simulated generic object decoding",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [{"Name": "rtgod simulate", "Version": __version__}],
        }
        _write_json(self.root / "dataset_description.json", description)
        (self.root / "README").write_text(
            "A simulated subject who sees and imagines drawn objects while being scanned; made by `rtgod simulate`.\n"
            "No person was measured. derivatives/truth holds what a decoder is to find out, and the settings that\n"
            "give these bytes again.\n",
            encoding="utf-8",
        )
        write_tsv(self.root / "participants.tsv", ("participant_id", "species"), [(subject, "simulated")])
        for task in ("perception", "imagery"):
            entries = {"TaskName": task, **sidecar(self.settings.shape[2], TR_S)}
            _write_json(self.root / f"task-{task}_bold.json", entries)
        rows = [
            (c.category_id, c.name, kind)
            for kind, group in (("training", self.plan.training), ("test", self.plan.test), ("other", self.plan.other))
            for c in group
        ]
        (self.root / "stimuli").mkdir()
        write_tsv(self.root / "stimuli" / "categories.tsv", ("category_id", "name", "shown_in"), rows)
        (self.root / truth.FOLDER).mkdir(parents=True)
        truth.write_settings(self.root, self.settings)

    def _write_regions(self, head: Head) -> None:
        """Write a label image with its table, and a mask for each region, union and tissue."""
        subject = f"sub-{self.settings.subject}"
        folder = self.root / "derivatives" / "rois" / subject / "anat"
        folder.mkdir(parents=True)
        _write_json(
            self.root / "derivatives" / "rois" / "dataset_description.json",
            {"Name": "Visual regions", "BIDSVersion": "1.10.0", "DatasetType": "derivative",
             "GeneratedBy": [{"Name": "rtgod simulate", "Version": __version__}]},
        )  # fmt: skip
        save_nifti(folder / f"{subject}_space-bold_desc-visual_dseg.nii.gz", head.regions, head.affine)
        labels = [(str(i), name) for i, name in enumerate(REGIONS, start=1)]
        write_tsv(folder / f"{subject}_space-bold_desc-visual_dseg.tsv", ("index", "name"), labels)
        for name in (*REGIONS, *UNIONS):
            mask = head.mask(name).astype(np.uint8)
            save_nifti(folder / f"{subject}_space-bold_label-{name}_mask.nii.gz", mask, head.affine)
        # These masks hold no signal of interest: noise components can be read from there.
        for name, part in (("WM", head.white), ("CSF", head.csf)):
            mask = (part > _PURE_TISSUE).astype(np.uint8)
            save_nifti(folder / f"{subject}_space-bold_label-{name}_mask.nii.gz", mask, head.affine)
        save_nifti(folder / f"{subject}_space-bold_boldref.nii.gz", head.template, head.affine)

    def _write_runs(
        self,
        runs: Sequence[PlannedRun],
        head: Head,
        voxels: Int32Array,
        amplitudes: Mapping[Hashable, Float32Array],
        tuning: Tuning,
    ) -> None:
        # Workers need the course of a voxel's response, and no weights, which are large.
        course_only = replace(tuning, weights={}, imagery_weights={})
        jobs = []
        for k, run in enumerate(runs):
            rng = np.random.default_rng([self.settings.seed, 4, k])
            responses = responses_to(percepts_of(run.schedule), amplitudes, self.settings, rng)
            jobs.append(_Job(self.root, self.settings, run, k, head, voxels, responses, course_only))
        for job in jobs:
            for folder in (job.runs_folder, job.truth_folder):
                # Made here, not by workers: a late worker must not make a folder anew after a failure has removed it.
                folder.mkdir(parents=True, exist_ok=True)
        self._finish("scanning", len(jobs), self.pool.map(_scan, jobs))

    def _finish(self, stage: str, n_jobs: int, results: Iterable[None]) -> None:
        """Wait for the workers' results; raise the first error."""
        self.report(stage, 0, n_jobs)
        for done, _ in enumerate(results, 1):
            self.report(stage, done, n_jobs)


@dataclass(frozen=True, slots=True)
class _Picture:
    """Image that a worker draws."""

    path: Path
    category: ObjectCategory
    exemplar: int
    size_px: int
    seed: int


def _draw_all(pictures: Sequence[_Picture]) -> None:
    for p in pictures:
        # Low compression, because compressing takes as long as drawing, and the images are small.
        Image.fromarray(draw(p.category, p.exemplar, p.size_px, p.seed)).save(p.path, compress_level=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Run that a worker scans."""

    root: Path
    settings: SubjectSettings
    run: PlannedRun
    position: int
    head: Head
    voxels: Int32Array
    responses: Sequence[Response]
    tuning: Tuning

    @property
    def runs_folder(self) -> Path:
        return self.root / f"sub-{self.settings.subject}" / f"ses-{self.run.session}" / "func"

    @property
    def truth_folder(self) -> Path:
        return self.root / truth.FOLDER / f"sub-{self.settings.subject}"


def _scan(job: _Job) -> None:
    """Scan one run and write it with its events and its true movement."""
    settings, schedule = job.settings, job.run.schedule
    rng = np.random.default_rng([settings.seed, 2, job.position])
    change = signal_change(job.responses, schedule.n_volumes, TR_S, job.voxels, job.tuning, settings)
    change += ongoing_activity(schedule.n_volumes, TR_S, job.tuning, rng)
    data, movement = scan(job.head, job.voxels, change, TR_S, settings, rng)
    subject = f"sub-{settings.subject}"
    save_nifti(job.runs_folder / f"{subject}_{job.run.stem}_bold.nii.gz", data, job.head.affine, TR_S)
    write_tsv(job.runs_folder / f"{subject}_{job.run.stem}_events.tsv", schedule.columns, schedule.rows)
    columns = ("trans_x_mm", "trans_y_mm", "trans_z_mm", "rot_x_deg", "rot_y_deg", "rot_z_deg")
    rows = np.hstack([movement.translation_mm, movement.rotation_deg])
    path = job.truth_folder / f"{subject}_{job.run.stem}_motion.tsv"
    write_tsv(path, columns, [[f"{v:.6f}" for v in row] for row in rows])


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
