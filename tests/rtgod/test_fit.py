"""A run that cannot be decoded with a bundle is refused with both numbers; what is odd is told."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rtgod.bundle import DecoderBundle
from rtgod.errors import InputError
from rtgod.events.table import label_of
from rtgod.fit import Training, check_fit, is_all_unknown, training_of
from rtgod.messages import Block
from tests import small

TRAINING = Training(("small",), small.TR_S, ("Head_32",))
REFERENCE = small.bundle().reference


def fit(training=TRAINING, *, any_subject=False, **changes):
    return check_fit(small.run(**changes), REFERENCE, training, any_subject=any_subject)


def zoomed(factor):
    """The same field of view in voxels that are `factor` times as long, along each axis."""
    shape = tuple(round(n / factor) for n in small.SHAPE)
    return {"shape": shape, "affine": small.AFFINE @ np.diag([factor, factor, factor, 1])}


def turned(degrees):
    """Slices turned about x through the scanner's centre."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]]) @ small.AFFINE


def test_a_run_of_the_training_s_protocol_has_nothing_odd():
    assert fit() == []
    assert fit(coil="Head_32") == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tr_s": 1.97}, ["1.97 s", "2 s", "calibrate"]),
        ({"tr_s": 3.0}, ["3 s", "2 s"]),
        ({"subject": "somebody else"}, ["somebody else", "small", "--any-subject"]),
        (zoomed(2), ["8 × 8 × 8 mm", "4 × 4 × 4 mm", "8.0 times as large"]),
        (zoomed(0.5), ["2 × 2 × 2 mm", "8.0 times as small"]),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_both_numbers_and_what_to_do(changes, words):
    with pytest.raises(InputError) as refused:
        fit(**changes)
    for word in ["run run-1", *words]:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": "unknown"}, "does not say whose it is"),
        ({"subject": ""}, "does not say whose it is"),
        ({"shape": (18, 20, 17)}, "grid is 18 × 20 × 17, the bundle's 18 × 20 × 16"),
        (zoomed(1.1), "voxels are 4.4 × 4.4 × 4.4 mm, the bundle's 4 × 4 × 4 mm"),
        ({"affine": turned(25)}, "slices are at 25° to the bundle's"),
        ({"shape": (18, 20, 8)}, "% of the decoder's voxels"),
        ({"coil": "Body_18"}, "coil is Body_18, the bundle's Head_32"),
    ],
)
def test_what_may_be_meant_is_told(changes, words):
    odd = fit(**changes)
    assert any(words in clause for clause in odd), odd


@pytest.mark.parametrize("changes", [{"tr_s": 2.019}, {"affine": turned(10)}, {"coil": ""}, {"shape": (20, 18, 16)}])
def test_small_differences_and_another_order_of_axes_are_not_odd(changes):
    assert fit(**changes) == []


@pytest.mark.parametrize(("ours", "theirs"), [("01", "sub-01"), ("sub-1", "01"), ("S2", "s2")])
def test_two_ways_to_write_a_subject_are_one(ours, theirs):
    assert fit(Training((ours,)), subject=theirs) == []
    with pytest.raises(InputError):
        fit(Training((ours,)), subject="10")


def test_another_subject_may_be_meant():
    assert "somebody" in fit(any_subject=True, subject="somebody")[0]


def test_a_bundle_that_does_not_know_how_its_runs_were_acquired_says_less():
    assert fit(Training(), tr_s=1.0, subject="somebody", coil="Body_18") == []


def test_training_names_each_coil_once():
    runs = [small.run(coil=coil) for coil in ("b", "", "a", "b")]
    assert training_of(runs, "small") == Training(("small",), small.TR_S, ("a", "b"))


def test_a_subject_may_be_called_otherwise_than_in_its_files():
    training = training_of([small.run(subject="02"), small.run(subject="unknown")], "P7")
    assert (training.subjects, training.in_files) == (("P7",), ("02",))
    assert fit(training, subject="sub-2") == fit(training, subject="p7") == []
    with pytest.raises(InputError, match=r"on subject P7 \(called 02 by the files that it was trained on\)"):
        fit(training, subject="03")


def test_a_subject_that_was_not_said_is_called_as_in_its_files():
    training = training_of([small.run(subject="02"), small.run(subject="unknown")], "")
    assert (training.subjects, training.in_files) == (("02",), ())
    assert training_of([small.run(subject="sub-02")], "2") == Training(("2",), small.TR_S)


def test_an_older_bundle_names_both_labels():
    with pytest.raises(InputError, match="on subject 02 or P7, whose"):
        fit(Training(("02", "P7")), subject="03")


def test_a_bundle_keeps_it_and_an_old_one_knows_its_subject(tmp_path):
    replace(small.bundle(), training=TRAINING).save(tmp_path / "new")
    assert DecoderBundle.load(tmp_path / "new").training == TRAINING
    header = tmp_path / "new" / "bundle.json"
    old = json.loads(header.read_text())
    del old["training"]
    header.write_text(json.dumps(old))
    assert DecoderBundle.load(tmp_path / "new").training == Training(("small",))


def test_trials_of_categories_that_a_decoder_of_plain_categories_does_not_know_are_told():
    blocks = (Block(0.0, 4.0, label_of("face")), Block(6.0, 4.0, label_of("tone")), Block(12.0, 4.0, ""))
    run, known = small.run(blocks=blocks), frozenset(map(label_of, ("face", "house")))
    (line,) = check_fit(run, REFERENCE, TRAINING, labels=known)
    assert "1 of its 3 trials are of categories" in line
    assert "another run's, or read by other rules than the bundle's" in line
    assert not is_all_unknown(run, known)
    assert is_all_unknown(run, {label_of("house")}) is False  # a trial without label is of no category
    assert is_all_unknown(small.run(blocks=blocks[:2]), {label_of("house")})
    assert not is_all_unknown(small.run(blocks=()), known)
    assert check_fit(run, REFERENCE, TRAINING) == []
    assert check_fit(run, REFERENCE, TRAINING, labels={*known, label_of("tone")}) == []
