"""Comparison of a run with the scan that a bundle was trained on, by the rules of the server."""

from __future__ import annotations

from dataclasses import replace

from rtgod.bundle import DecoderBundle
from rtgod.errors import InputError
from rtgod.fit import check_fit, is_all_unknown, subject_label
from rtgod.inspection.report import Finding, Fit, RunReport
from rtgod.messages import Run
from rtgod.preprocessing.alignment import share_inside
from rtgod.preprocessing.geometry import voxel_sizes
from rtgod.text import times


def compared(report: RunReport, bundle: DecoderBundle) -> Fit:
    """Compare a run with a bundle.

    Parameters
    ----------
    report : RunReport
    bundle : DecoderBundle
    """
    run, reference, training = report.run, bundle.reference, bundle.training
    rows = (
        ("matrix", times(run.shape), times(reference.template.shape)),
        ("voxel size", _mm(run), f"{times(voxel_sizes(reference.affine), '.3g')} mm"),
        ("TR", f"{run.tr_s:g} s", f"{training.tr_s:g} s" if training.tr_s else "not recorded"),
        (
            "coil",
            run.coil or ("only its elements" if report.facts.elements else "not said"),
            " or ".join(training.coils) or "not recorded",
        ),
        ("decoder's voxels in view", f"{100 * share_inside(run, reference):.0f} %", "100 %"),
    )
    name = f"series {report.number}"
    if not subject_label(run.subject) and training.subjects:
        run = replace(run, subject=training.subjects[0])  # whose it is, is said when the scan is watched
    try:
        differences = check_fit(run, reference, training)
        of_trials = check_fit(run, reference, training, labels=bundle.known_labels)[len(differences) :]
    except InputError as error:
        why = str(error).removeprefix(f"run {run.run_id}: ")
        return Fit(report.number, rows, (Finding(True, f"{name}: the bundle cannot decode it: {why}"),))
    is_other = is_all_unknown(run, bundle.known_labels)
    found = [Finding(False, f"{name}: {clause}, by its bundle") for clause in differences]
    found += [Finding(is_other, f"{name}: {clause}") for clause in of_trials]
    return Fit(report.number, rows, tuple(found))


def _mm(run: Run) -> str:
    return f"{times(voxel_sizes(run.affine), '.3g')} mm"
