"""Settings of decoders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from rtgod.settings import AtLeastOne, Positive, Settings


class DecoderSettings(Settings):
    """Settings that choose and parametrise the decoder."""

    #: `auto` chooses by cross-validation among those that fit: `lda`, `ridge` and `svm` where categories themselves are
    #: decoded, and `ridge`, `ridge-select` and `slr` where features are.
    name: Literal["auto", "ridge", "ridge-select", "slr", "lda", "svm"] = "auto"
    #: Number of voxels that each unit is decoded from: those of largest |r| with it, or of `lda` and `svm` those that
    #: differ most between categories; `ridge` takes all. The study took 500 in a single area and 1,000 in LVC, HVC
    #: and VC.
    n_voxels: AtLeastOne = 500
    #: Penalty of `ridge-select`; `ridge` chooses one for each layer, and `slr` learns one for each voxel.
    alpha: Positive = 100.0
    #: Cost of `svm`, divided by the number of voxels, of samples on the wrong side of the margin.
    cost: Positive = 1.0
    #: Whether `lda` and `svm` choose `n_voxels` and `cost` by cross-validation; otherwise they take those given here,
    #: as `ridge-select` and `slr` always do. `auto` tunes what it chooses among.
    tune: bool = True
    #: Maximum number of iterations of `slr`.
    max_iterations: AtLeastOne = 2000
    #: Maximum number of groups of runs that are left out in turn, to measure accuracy on runs not trained on; `ridge`,
    #: and `lda` and `svm` with given settings, leave out one run at a time, or twelve groups where there are more runs.
    #: With 0, the others leave out none and are faster by that factor.
    n_folds: Annotated[int, Field(ge=0)] = 6

    @field_validator("n_folds")
    @classmethod
    def _one_fold_leaves_nothing(cls, n_folds: int) -> int:
        if n_folds == 1:
            raise ValueError("one fold would leave no run to train on; choose 0, or 2 or more")
        return n_folds
