"""The lab's published files as a study: samples and features that others have computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibration.datasets.bdpy_files import BrainSamples, ImageFeatures
from calibration.datasets.dataset_files import REGION, REGIONS
from calibration.samples.study import CandidateFeatures, Fold, Samples, Study
from rtgod.errors import InputError
from rtgod.messages import Float32Array


def published_study(
    samples: BrainSamples,
    features: ImageFeatures,
    region: str | None,
    areas: Sequence[str],
    names: Mapping[str, str],
) -> Study:
    """Pair samples with the features of the images shown and the categories imagined.

    Samples are means over blocks. The files hold no single volumes, so nothing is known of the noise, and samples are
    not whitened.

    Parameters
    ----------
    samples : BrainSamples
    features : ImageFeatures
    region : str or None
        Region to decode from, an expression over the file's regions; by default VC.
    areas : sequence of str
        Regions to compare with it; if empty, the study's areas that the file has.
    names : mapping of str to str
        Names of categories, for people.

    Raises
    ------
    InputError
        If samples or features are missing.
    """
    main = region or REGION
    chosen = dict.fromkeys([main, *(areas or [name for name in REGIONS if len(samples.regions.get(name, ()))])])
    by_kind = {kind: _samples_of(samples, kind, features) for kind in dict.fromkeys(samples.kinds)}
    training = by_kind.pop("training", None)
    if training is None or not by_kind:
        raise InputError(
            f"the file has samples of {', '.join(dict.fromkeys(samples.kinds))} only; an evaluation needs training "
            "samples and seen or imagined ones"
        )
    regions = {name: samples.columns(name) for name in chosen}
    samples.check_finite(np.unique(np.concatenate(list(regions.values()))))
    return Study(
        folds=(Fold(training, {}, by_kind, {}),),
        regions={name: columns.astype(np.int32) for name, columns in regions.items()},
        candidates=CandidateFeatures.with_names(features.candidate_ids, features.candidates, names),
        notes=(*samples.notes, *features.notes),
    )


def _samples_of(samples: BrainSamples, kind: str, features: ImageFeatures) -> Samples:
    rows = [row for row, row_kind in enumerate(samples.kinds) if row_kind == kind]
    categories = tuple(samples.categories[row] for row in rows)
    Y: Mapping[str, Float32Array]
    if kind == "imagined":
        Y = features.of_categories(categories)
    else:
        Y = features.of_images([samples.stimuli[row] for row in rows])
    return Samples(samples.X[rows], tuple(samples.runs[row] for row in rows), categories, Y)
