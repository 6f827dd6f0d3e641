"""Files of a small session: runs with their events, a mask, a decoder, a journal and keys; what examples read."""

from dataclasses import replace

import nibabel as nib
import numpy as np

from rtgod.messages import RunEnd
from rtgod.protocol.keys import Role, add_client
from rtgod.sources import open_source
from tests import small
from tests.journals import event, record

N_RUNS, N_VOLUMES = 4, 64
ONSETS_S, DURATION_S = (20, 38, 56, 74, 92, 110), 6
CATEGORIES = ("n00000000", "n00000001")
#: Of the signal where there is a response to tell categories by.
EFFECT = 0.01


def write_session(folder, effect=EFFECT):
    """Write the session into a folder, and give the paths of its runs; an `effect` of 0 leaves nothing to decode."""
    voxels = small.bundle().reference.voxels
    mask = np.zeros(small.SHAPE, np.uint8)
    mask[tuple(voxels.T)] = 1
    nib.save(nib.Nifti1Image(mask, small.AFFINE), folder / "VC.nii.gz")
    runs = [write_run(folder, number, voxels, effect) for number in range(1, N_RUNS + 1)]
    small.bundle().save(folder / "bundle")
    (folder / "settings.toml").write_text("[nuisance]\nmotion_parameters = 6\n")
    add_client(folder / "keys", "scanner", Role.SOURCE)
    source = open_source(runs[0])
    report = event(0, "owl", run_id=source.run.run_id)
    messages = [source.run, *source, report, RunEnd(source.run.run_id, N_VOLUMES)]
    record(folder / "session.rtgod", messages, small.bundle())
    return runs


def write_run(folder, number, voxels, effect=EFFECT):
    """Write one run with its events, and give its path: a still head with noise, and a pattern for each category."""
    rng = np.random.default_rng(number)
    shown = [CATEGORIES[(trial + number + 1) % 2] for trial in range(len(ONSETS_S))]
    patterns = dict(zip(CATEGORIES, np.random.default_rng(0).choice([-1, 1], (2, len(voxels))), strict=True))
    volumes = np.stack([small.head() + rng.normal(0, 4, small.SHAPE) for _ in range(N_VOLUMES)], axis=-1)
    for onset_s, category in zip(ONSETS_S, shown, strict=True):
        first = int((onset_s + 4) / small.TR_S)
        during = slice(first, first + int(DURATION_S / small.TR_S))
        volumes[(*voxels.T, during)] *= (1 + effect * patterns[category])[:, None]
    path = folder / f"sub-01_task-objects_run-{number:02}_bold.nii.gz"
    image = nib.Nifti1Image(volumes.astype(np.int16), small.AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], small.TR_S))
    nib.save(image, path)
    rows = [f"{onset_s}\t{DURATION_S}\t{category}\n" for onset_s, category in zip(ONSETS_S, shown, strict=True)]
    path.with_name(path.name.replace("bold.nii.gz", "events.tsv")).write_text(
        "onset\tduration\ttrial_type\n" + "".join(rows)
    )
    return path


def other_bundle():
    """A decoder of the same voxels with other weights."""
    bundle = small.bundle()
    return replace(bundle, patterns=bundle.patterns[::-1])
