"""Writes a simulated subject as a BIDS data set: images, runs, regions, and the truth behind them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from calibration.features import FeatureExtractor, Network, category_means
from calibration.simulation.head import REGIONS, UNIONS, Head, build_head
from calibration.simulation.objects import ObjectCategory, object_categories
from calibration.simulation.photograph import draw
from calibration.simulation.response import Tuning, layer_delays_s, make_tuning
from calibration.simulation.scanner import Scanner, draw_movement, slice_times_s
from calibration.simulation.schedule import (
    IMAGES_PER_RUN,
    TR_S,
    TRIALS_PER_RUN,
    Schedule,
    Stimulus,
    imagery_run,
    in_turn,
    perception_run,
)
from calibration.simulation.settings import SubjectSettings
from calibration.tables import write_tsv
from calibration.workers import workers
from rtgod import __version__
from rtgod.errors import InputError
from rtgod.files import appearing_whole
from rtgod.messages import Array, Float32Array, Int32Array
from rtgod.response import block_response

#: Exemplars from this number on stand behind category features and are never shown.
_CANDIDATES = 1000
#: Exemplars from this number on are what comes to the subject's mind: neither shown nor behind the candidates.
_IMAGINED = 2000
_PICTURES_AT_ONCE = 20
#: A voxel with more than this share of white matter or fluid is nothing else.
_PURE_TISSUE = 0.95
#: The brain reads other units than those that a decoder is trained on: both are samples of the same layers.
_TRUTH_UNITS = {"n_units": 200, "units_seed": 1_000_003}
Report = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True)
class _Run:
    session: str
    task: str
    number: int
    schedule: Schedule

    @property
    def stem(self) -> str:
        return f"ses-{self.session}_task-{self.task}_run-{self.number:02d}"


def simulate(
    out: Path,
    settings: SubjectSettings,
    n_workers: int | None = None,
    report: Report = lambda *_: None,
    scheduler: str | None = None,
) -> None:
    """Write the data set; the same settings give the same bytes, whatever the number of workers.

    Parameters
    ----------
    out : Path
        Appears complete or not at all.
    settings : SubjectSettings
    n_workers : int, optional
        Processes that draw and scan, by default one for each core.
    report : callable
        Told (stage, steps done, steps in all) as the work goes on.
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
        raise InputError(f"{out}: cannot be written ({error})") from error


class _Subject:
    """The parts of one simulated subject, written in turn."""

    def __init__(self, root: Path, settings: SubjectSettings, report: Report, pool: Executor) -> None:
        self.pool = pool
        self.root = root
        self.settings = settings
        self.report = report
        stimuli = settings.stimuli
        if stimuli.n_training_categories * stimuli.n_images_per_category % IMAGES_PER_RUN:
            raise InputError(
                f"{stimuli.n_training_categories} training categories × {stimuli.n_images_per_category} images do not "
                f"fill runs of {IMAGES_PER_RUN} images; choose numbers whose product is a multiple of {IMAGES_PER_RUN}"
            )
        n_shown = stimuli.n_training_categories + stimuli.n_test_categories
        categories = object_categories(n_shown + stimuli.n_other_categories, settings.seed)
        self.training = categories[: stimuli.n_training_categories]
        self.test = categories[stimuli.n_training_categories : n_shown]
        self.other = categories[n_shown:]

    def write(self) -> None:
        rng = np.random.default_rng([self.settings.seed, 1])
        runs = self._schedule(rng)
        self._write_tables()
        images, drawing = self._begin_images()
        # Meanwhile, what takes as long as drawing.
        extractor = FeatureExtractor(Network(weights=self.settings.weights, **_TRUTH_UNITS))
        head = build_head(self.settings.shape, self.settings.voxel_mm, self.settings.seed)
        voxels = np.argwhere(head.regions > 0).astype(np.int32)
        self._finish("drawing images", len(drawing), (job.result() for job in drawing))
        shown, imagined, tuning = self._respond(extractor, images, head.regions[tuple(voxels.T)], rng)
        self._write_regions(head)
        self._write_truth(tuning, voxels)
        self._write_runs(runs, head, voxels, shown, imagined, tuning)

    def _schedule(self, rng: np.random.Generator) -> list[_Run]:
        """Every run shows one image of each training category where their number allows it."""
        shown = [self._training_stimulus(c, e) for e in range(self.settings.stimuli.n_images_per_category)
                 for c in range(len(self.training))]  # fmt: skip
        training = [shown[start : start + IMAGES_PER_RUN] for start in range(0, len(shown), IMAGES_PER_RUN)]
        test = in_turn(self.test, self.settings.n_test_runs, IMAGES_PER_RUN)
        imagery = in_turn(self.test, self.settings.n_imagery_runs, TRIALS_PER_RUN)
        runs = [
            _Run("perceptionTraining01", "perception", k, perception_run(s, rng)) for k, s in enumerate(training, 1)
        ]
        for k, items in enumerate(test, 1):
            stimuli = [Stimulus(category, 0, index, index) for index, category in items]
            runs.append(_Run("perceptionTest01", "perception", k, perception_run(stimuli, rng)))
        runs += [_Run("imageryTest01", "imagery", k, imagery_run(items, rng)) for k, items in enumerate(imagery, 1)]
        return runs

    def _training_stimulus(self, category: int, exemplar: int) -> Stimulus:
        image_index = category * self.settings.stimuli.n_images_per_category + exemplar + 1
        return Stimulus(self.training[category], exemplar, category + 1, image_index)

    def _begin_images(self) -> tuple[dict[str, list[Path]], list[Future[None]]]:
        """Have drawn what is shown, what stands behind the candidates and what is imagined: the files of each kind."""
        stimuli = self.settings.stimuli
        each = range(stimuli.n_images_per_candidate)
        wanted = [("training", c, e) for c in self.training for e in range(stimuli.n_images_per_category)]
        wanted += [("test", c, 0) for c in self.test]
        wanted += [("candidates", c, _CANDIDATES + e) for c in (*self.training, *self.test, *self.other) for e in each]
        if self.settings.n_imagery_runs:
            wanted += [("imagined", c, _IMAGINED + e) for c in self.test for e in each]
        files: dict[str, list[Path]] = {"training": [], "test": [], "candidates": [], "imagined": []}
        pictures = []
        for kind, category, exemplar in wanted:
            folder = self.root / ("derivatives/truth" if kind == "imagined" else "stimuli") / kind
            if kind in ("candidates", "imagined"):
                folder /= category.category_id
            folder.mkdir(parents=True, exist_ok=True)
            files[kind].append(folder / f"{category.category_id}_{exemplar}.png")
            pictures.append(_Picture(files[kind][-1], category, exemplar, stimuli.size_px, self.settings.seed))
        at_once = [pictures[start : start + _PICTURES_AT_ONCE] for start in range(0, len(pictures), _PICTURES_AT_ONCE)]
        return files, [self.pool.submit(_draw_all, some) for some in at_once]

    def _respond(
        self,
        extractor: FeatureExtractor,
        images: Mapping[str, Sequence[Path]],
        regions: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[dict[str, Float32Array], dict[str, Float32Array], Tuning]:
        """Amplitudes (n_layers, n_voxels) of every shown image and imagined category, by name, and the tuning."""
        n_training = len(images["training"])
        shown = [*images["training"], *images["test"]]
        everything = [*shown, *images["imagined"]]
        done = 0

        def progress(n: int) -> None:
            nonlocal done
            done += n
            self.report("network responses", done, len(everything))

        features = extractor.extract(everything, progress)
        training = {layer: values[:n_training] for layer, values in features.items()}
        tuning = make_tuning(training, regions, self.settings.response, rng)
        seen = tuning.amplitudes({layer: values[: len(shown)] for layer, values in features.items()})
        if not images["imagined"]:
            return {path.stem: seen[:, i] for i, path in enumerate(shown)}, {}, tuning
        # What comes to mind is no single image, but what the category looks like in general.
        labels = [path.parent.name for path in images["imagined"]]
        imagined_ids, means = category_means({k: v[len(shown) :] for k, v in features.items()}, labels)
        imagined = tuning.amplitudes(means) * np.float32(self.settings.response.imagery_gain)
        return (
            {path.stem: seen[:, i] for i, path in enumerate(shown)},
            {category_id: imagined[:, i] for i, category_id in enumerate(imagined_ids)},
            tuning,
        )

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
            sidecar = {
                "TaskName": task,
                "RepetitionTime": TR_S,
                "EchoTime": 0.03,
                "FlipAngle": 80,
                "SliceTiming": [round(t, 6) for t in slice_times_s(self.settings.shape[2], TR_S).tolist()],
                "SliceEncodingDirection": "k",
                "MagneticFieldStrength": 3,
                "Manufacturer": "simulated",
            }
            _write_json(self.root / f"task-{task}_bold.json", sidecar)
        rows = [
            (c.category_id, c.name, kind)
            for kind, group in (("training", self.training), ("test", self.test), ("other", self.other))
            for c in group
        ]
        (self.root / "stimuli").mkdir()
        write_tsv(self.root / "stimuli" / "categories.tsv", ("category_id", "name", "shown_in"), rows)
        (self.root / "derivatives" / "truth").mkdir(parents=True)
        _write_json(self.root / "derivatives" / "truth" / "simulation.json", self.settings.model_dump(mode="json"))

    def _write_regions(self, head: Head) -> None:
        """Label image with its table, and a mask for each union."""
        subject = f"sub-{self.settings.subject}"
        folder = self.root / "derivatives" / "rois" / subject / "anat"
        folder.mkdir(parents=True)
        _write_json(
            self.root / "derivatives" / "rois" / "dataset_description.json",
            {"Name": "Visual regions", "BIDSVersion": "1.10.0", "DatasetType": "derivative",
             "GeneratedBy": [{"Name": "rtgod simulate", "Version": __version__}]},
        )  # fmt: skip
        _save_nifti(folder / f"{subject}_space-bold_desc-visual_dseg.nii.gz", head.regions, head.affine)
        labels = [(str(i), name) for i, name in enumerate(REGIONS, start=1)]
        write_tsv(folder / f"{subject}_space-bold_desc-visual_dseg.tsv", ("index", "name"), labels)
        for name in (*REGIONS, *UNIONS):
            mask = head.mask(name).astype(np.uint8)
            _save_nifti(folder / f"{subject}_space-bold_label-{name}_mask.nii.gz", mask, head.affine)
        # Where no signal of interest is: noise components can be read from there.
        for name, part in (("WM", head.white), ("CSF", head.csf)):
            mask = (part > _PURE_TISSUE).astype(np.uint8)
            _save_nifti(folder / f"{subject}_space-bold_label-{name}_mask.nii.gz", mask, head.affine)
        _save_nifti(folder / f"{subject}_space-bold_boldref.nii.gz", head.template, head.affine)

    def _write_truth(self, tuning: Tuning, voxels: Int32Array) -> None:
        arrays: dict[str, Array] = {"voxels": voxels, "mix": tuning.mix, "evoked": tuning.evoked}
        for layer, weights in tuning.weights.items():
            arrays[f"{layer}/weights"] = weights
            arrays[f"{layer}/unit_mean"] = tuning.unit_mean[layer]
            arrays[f"{layer}/unit_sd"] = tuning.unit_sd[layer]
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, self.root / "derivatives" / "truth" / "tuning.safetensors")

    def _write_runs(
        self,
        runs: Sequence[_Run],
        head: Head,
        voxels: Int32Array,
        shown: Mapping[str, Float32Array],
        imagined: Mapping[str, Float32Array],
        tuning: Tuning,
    ) -> None:
        jobs = []
        for k, run in enumerate(runs):
            amplitudes = np.stack(
                [
                    (shown[t.stimulus.name] if t.stimulus else imagined[t.category.category_id])
                    * np.float32(t.strength)
                    for t in run.schedule.trials
                ],
                axis=1,
            )
            jobs.append(_Job(self.root, self.settings, run, k, head, voxels, amplitudes, tuning.evoked))
        for job in jobs:
            for folder in (job.runs_folder, job.truth_folder):
                # Not by the workers: one that is late, when the whole has failed, must not make it anew.
                folder.mkdir(parents=True, exist_ok=True)
        self._finish("scanning", len(jobs), self.pool.map(_scan, jobs))

    def _finish(self, stage: str, n_jobs: int, results: Iterable[None]) -> None:
        """Wait for the workers; the first error ends it."""
        self.report(stage, 0, n_jobs)
        for done, _ in enumerate(results, 1):
            self.report(stage, done, n_jobs)


@dataclass(frozen=True, slots=True)
class _Picture:
    """One image to be drawn by a worker."""

    path: Path
    category: ObjectCategory
    exemplar: int
    size_px: int
    seed: int


def _draw_all(pictures: Sequence[_Picture]) -> None:
    for p in pictures:
        # Little compression: it takes as long as drawing, and the images are small.
        Image.fromarray(draw(p.category, p.exemplar, p.size_px, p.seed)).save(p.path, compress_level=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One run to be scanned by a worker; `amplitudes` has shape (n_layers, n_trials, n_voxels)."""

    root: Path
    settings: SubjectSettings
    run: _Run
    position: int
    head: Head
    voxels: Int32Array
    amplitudes: Float32Array
    evoked: Float32Array

    @property
    def runs_folder(self) -> Path:
        return self.root / f"sub-{self.settings.subject}" / f"ses-{self.run.session}" / "func"

    @property
    def truth_folder(self) -> Path:
        return self.root / "derivatives" / "truth" / f"sub-{self.settings.subject}"


def _scan(job: _Job) -> None:
    """Scan one run and write it with its events and its true movement."""
    settings, schedule = job.settings, job.run.schedule
    rng = np.random.default_rng([settings.seed, 2, job.position])
    movement = draw_movement(schedule.n_volumes, settings.motion, rng)
    scanner = Scanner(job.head, schedule.n_volumes, TR_S, settings.noise, movement, rng)
    change = _signal_change(job)
    data = np.empty((*settings.shape, schedule.n_volumes), np.int16, order="F")
    for volume in range(schedule.n_volumes):
        data[..., volume] = scanner.image(volume, job.voxels, change[volume])
    subject = f"sub-{settings.subject}"
    _save_nifti(job.runs_folder / f"{subject}_{job.run.stem}_bold.nii.gz", data, job.head.affine, TR_S)
    write_tsv(job.runs_folder / f"{subject}_{job.run.stem}_events.tsv", schedule.columns, schedule.rows)
    columns = ("trans_x_mm", "trans_y_mm", "trans_z_mm", "rot_x_deg", "rot_y_deg", "rot_z_deg")
    rows = np.hstack([movement.translation_mm, movement.rotation_deg])
    path = job.truth_folder / f"{subject}_{job.run.stem}_motion.tsv"
    write_tsv(path, columns, [[f"{v:.6f}" for v in row] for row in rows])


def _signal_change(job: _Job) -> Float32Array:
    """Percent signal change of every responding voxel at its slice's time, shape (n_volumes, n_voxels), float32."""
    schedule, settings = job.run.schedule, job.settings.response
    imagery = job.run.task == "imagery"
    n_layers = len(job.amplitudes)
    delays_s = layer_delays_s(n_layers, settings.imagery_lag_s if imagery else 0.0)
    strength = np.array([t.strength for t in schedule.trials]) * (settings.imagery_gain if imagery else 1.0)
    slice_s = slice_times_s(job.settings.shape[2], TR_S)
    change = np.zeros((schedule.n_volumes, len(job.voxels)), np.float32)
    onsets_s = np.array([t.onset_s for t in schedule.trials])
    duration_s = schedule.trials[0].duration_s
    for slice_ in np.unique(job.voxels[:, 2]):
        here = job.voxels[:, 2] == slice_
        time_s = (np.arange(schedule.n_volumes) * TR_S + slice_s[slice_])[:, np.newaxis] - onsets_s
        shape = settings.hrf_peak_s, settings.hrf_undershoot_s, settings.hrf_ratio
        course = {delay_s: block_response(time_s - delay_s, duration_s, *shape) for delay_s in {0.0, *delays_s}}
        change[:, here] = course[0.0] @ (strength[:, np.newaxis] * job.evoked[here])
        for delay_s, amplitudes in zip(delays_s, job.amplitudes, strict=True):
            change[:, here] += course[delay_s] @ amplitudes[:, here]
    return change


def _save_nifti(path: Path, data: Array, affine: Array, tr_s: float | None = None) -> None:
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    if tr_s:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    nib.save(image, path)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
