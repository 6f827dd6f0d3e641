"""`rtgod replay --as`: a real run is played by another process, and what has no meaning is refused."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.receivers.protocols.vsend_net import VsendReceiver
from rtgod.sources import open_source
from tests.rtgod.receivers.protocols.plain import Receiver
from tests.rtgod.receivers.test_dicom_net import Node
from tests.rtgod.senders.test_afni import Afni

#: Looks of a receiver, of 20 ms and more, at most.
_MOST_LOOKS = 5000


def target_of(kind, here):
    return here.to if kind == "afni" else f"127.0.0.1:{here.receiver.port}"


@pytest.mark.parametrize("kind", ["afni", "vsend"])
def test_a_whole_real_run_comes_out_as_it_is_replayed(shared_data, kind):
    origin = shared_data / "siemens-run" / "dicom"
    source = open_source(origin)
    with Afni() if kind == "afni" else Receiver(VsendReceiver) as here:
        command = [sys.executable, "-m", "rtgod", "replay", origin, "--as", kind, "--to", target_of(kind, here)]
        with subprocess.Popen([*command, "--full-speed"], stderr=subprocess.PIPE, text=True) as player:
            for _ in range(_MOST_LOOKS):
                here.step(1)
                if player.poll() is not None:
                    break
            here.receiver.run(lambda: True)
            assert player.wait(30) == 0, player.stderr.read()
    (run,) = here.server.runs
    assert (run.tr_s, run.shape, run.n_volumes) == (source.run.tr_s, source.run.shape, source.run.n_volumes)
    # Of single precision, by vSend.
    np.testing.assert_allclose(run.affine, source.run.affine, rtol=0 if kind == "afni" else 1e-6)
    assert [volume.index for volume in here.server.volumes] == list(range(155))
    for ours, theirs in zip(here.server.volumes, source, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.fixture
def recording(tmp_path):
    """A run as NIfTI, of a name that must not be sent."""
    data = np.random.default_rng(3).integers(0, 900, (6, 4, 5, 6)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([-3.0, 3.0, 3.6, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3.0, 3.0, 3.6, 2.0))
    path = tmp_path / "sub-07_doe-jane_bold.nii.gz"
    nib.save(image, path)
    return path


def called(*arguments):
    result = CliRunner().invoke(make_app(), ["replay", *map(str, arguments)])
    return result.exit_code, result.output + str(result.exception or "")


def test_a_run_is_played_to_a_node_with_its_faults_told(recording):
    with Node() as node:
        code, told = called(
            recording, "--as", "dicom-net", "--to", f"RTGOD@127.0.0.1:{node.node.port}", "--full-speed",
            "--dicom-style", "slices", "--fault", "missing:2", "--fault", "doubled:4,late:5",
        )  # fmt: skip
        node.stop()
    assert code == 0
    for line in ("volume 2 is missing", "volume 4 is sent twice", "volume 5 is late by 1.5 TR"):
        assert told.count(f"fault: {line}") == 1
    assert "6 volumes sent; faults: 1 missing, 1 doubled, 1 late" in told
    assert "rows are turned round" in told
    assert [volume.index + 1 for volume in node.server.volumes] == [1, 3, 4, 5, 6]
    data = np.asanyarray(nib.load(recording).dataobj)
    for volume in node.server.volumes:
        np.testing.assert_array_equal(volume.data, data[:, ::-1, :, volume.index])
    assert "doe" not in repr(node.server.messages)


def test_files_carry_the_label_and_not_the_name_of_the_recording(recording, tmp_path):
    code, _ = called(recording, "--as", "dicom-folder", "--to", tmp_path / "export", "--full-speed")
    assert code == 0
    files = list((tmp_path / "export").iterdir())
    assert len(files) == 6
    assert all(b"doe" not in path.read_bytes() and "doe" not in path.name for path in files)
    assert all(b"07" in path.read_bytes() for path in files)


def test_it_needs_nothing_that_a_server_computes_with(recording, tmp_path):
    code = (
        "import sys; absent = ['numba', 'torch', 'scipy', 'jinja2', 'psychopy', 'pynetdicom'];"
        "sys.modules.update(dict.fromkeys(absent)); from rtgod.commands.main import main; main()"
    )
    command = [sys.executable, "-c", code, "replay", recording, "--as", "dicom-folder", "--to", tmp_path / "export"]
    subprocess.run([*command, "--full-speed"], check=True, timeout=60)
    assert len(list((tmp_path / "export").iterdir())) == 6
    refused = subprocess.run([*command[:-3], "dicom-net"], capture_output=True, text=True, timeout=60)
    assert (refused.returncode, "pip install 'rtgod[network]'" in refused.stderr) == (2, True)


def test_a_dry_run_says_what_would_be_played_and_plays_nothing(recording, tmp_path):
    code, told = called(
        recording, "--as", "dicom-folder", "--to", tmp_path / "export", "--dry-run", "--fault", "missing:50%"
    )
    assert code == 0
    assert "6 volumes of 6 × 4 × 5, TR 2 s, as dicom-folder; faults: missing " in told
    assert not (tmp_path / "export").exists()
    assert (
        told
        == called(
            recording, "--as", "dicom-folder", "--to", tmp_path / "export", "--dry-run", "--fault", "missing:50%"
        )[1]
    )
    code, told = called(recording, "--as", "afni", "--dry-run", "--fault", "doubled:2")
    assert (code, "its images have no numbers" in told) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--chunks"], "--chunks: give a sender that it belongs to with --as"),
        (["--fault", "late:2"], "--fault: give a sender"),
        (["--seed", "0"], "--seed: give a sender"),
        (["--dicom-style", "slices"], "--dicom-style: give a sender"),
        (["--as", "afni", "--dicom-style", "slices"], "afni sends no DICOM"),
        (["--as", "dicom-net", "--chunks"], "only files grow in pieces"),
        (["--as", "dicom-folder"], "name the folder with --to"),
        (["--as", "afni", "--to", "nowhere"], "--to nowhere: write HOST:PORT, such as 127.0.0.1:7961"),
        (["--as", "vsend", "--again"], "--again: of a replay to a server"),
        (["--as", "vsend", "--merge-gap", "0"], "--merge-gap: of a replay to a server"),
        (["--as", "vsend", "--discard", "0"], "--discard: of a replay to a server"),
        (["--as", "dicom-folder", "--to", "export", "--count-from", "3"], "--count-from: of a replay to a server"),
        (["--as", "vsend", "--fault", "late:9"], "--fault late:9: the run has 6 volumes"),
    ],
)
def test_what_has_no_meaning_is_refused(recording, arguments, says):
    code, told = called(recording, *arguments)
    assert code == 1
    assert says in told
