"""Export: volumes come back through nibabel and our own reader, tables through pandas, and nothing half-made stays."""

import dataclasses
import json
import tracemalloc

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError, JournalError
from rtgod.journal.export import export_journal
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Block, NotReady, Ranking, Volume
from rtgod.sources import open_source
from tests import small
from tests.journals import event, record
from tests.strategies import equal, names, runs, texts


def table(path):
    return pd.read_table(path, na_values="n/a", keep_default_na=False)


def write(path, messages):
    with JournalWriter(path) as writer:
        for message in messages:
            writer.append(message)
    return path


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """All messages of a session with two runs, the first with lost and late volumes, and the folder of its export."""
    folder = tmp_path_factory.mktemp("session")
    first = small.messages(indices=[0, 1, 2, 5, 6, 4, 7, 8, 9, 10])
    first[0] = small.run(blocks=(Block(6.0, 6.0, "a1b2"), Block(14.0, 4.0)))
    first[4:4] = [event(0, 'a\tb\n"c" \\'), event(1, offset_s=None, offset_error_s=None, received_utc_s=None)]
    sheared = small.AFFINE @ np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    second = [small.run("run-1~2", tr_s=0.735, affine=sheared, blocks=()), *small.messages("run-1~2", range(3))[1:-1]]
    written = record(folder / "a.rtgod", [*first, *second], small.bundle(), ended=False)
    assert export_journal(folder / "a.rtgod", folder / "out") == ["run-1", "run-1~2"]
    return written, folder / "out"


def test_every_file_is_there_and_no_other(session):
    _, out = session
    each = ["answers.tsv", "bold.json", "bold.nii.gz", "motion.tsv"]
    expected = {f"{run}_{ending}" for run in ("run-1", "run-1~2") for ending in each}
    assert {path.name for path in out.iterdir()} == expected | {"run-1_events.tsv", "client_events.tsv"}


@pytest.mark.parametrize(("name", "n_volumes", "lost"), [("run-1", 11, [3]), ("run-1~2", 3, [])])
def test_volumes_are_the_same_to_the_last_bit_and_lost_ones_are_zeros(session, name, n_volumes, lost):
    written, out = session
    run = next(message for message in written if getattr(message, "run_id", "") == name)
    image = nib.load(out / f"{name}_bold.nii.gz")
    assert image.shape == (*small.SHAPE, n_volumes)
    assert image.get_data_dtype() == np.int16
    assert image.header.get_slope_inter() in ((None, None), (1, 0))
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header.get_zooms()[3] == np.float32(run.tr_s)
    np.testing.assert_array_equal(image.affine, run.affine.astype(np.float32))
    assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
    voxels = np.asarray(image.dataobj)
    for index in range(n_volumes):
        expected = np.zeros(small.SHAPE) if index in lost else small.volume(index).data
        np.testing.assert_array_equal(voxels[..., index], expected)
    sidecar = json.loads((out / f"{name}_bold.json").read_text())
    assert sidecar == {"RepetitionTime": run.tr_s, "RunId": name, "Subject": "small", "LostVolumes": lost}


def test_what_was_exported_can_be_replayed(session):
    written, out = session
    source = open_source(out / "run-1_bold.nii.gz")
    run = next(message for message in written if getattr(message, "run_id", "") == "run-1")
    assert (source.run.run_id, source.run.tr_s, source.run.n_volumes) == ("run-1", small.TR_S, 11)
    np.testing.assert_array_equal(source.run.affine, run.affine)
    times = [[(block.onset_s, block.duration_s) for block in blocks] for blocks in (source.run.blocks, run.blocks)]
    assert times[0] == times[1]
    assert len({block.label for block in source.run.blocks}) == 2
    for volume in source:
        if volume.index != 3:
            np.testing.assert_array_equal(volume.data, small.volume(volume.index).data)
    # The trials of the first run, and the clients' events, are nobody else's.
    assert open_source(out / "run-1~2_bold.nii.gz").run.blocks == ()


def test_every_answer_has_its_row(session):
    written, out = session
    answers = [m for m in written if isinstance(m, Ranking | NotReady) and m.run_id == "run-1"]
    rows = table(out / "run-1_answers.tsv")
    assert list(rows["index"]) == [answer.index for answer in answers]
    for row, answer in zip(rows.itertuples(), answers, strict=True):
        if isinstance(answer, NotReady):
            assert (row.kind, row.reason) == ("not ready", answer.reason)
            assert pd.isna(row.top1)
        else:
            assert (row.kind, row.top1, row.n_volumes) == ("ranking", answer.top[0], answer.n_volumes)
            assert (row.block, row.final) == (answer.block, answer.final)
        if answer.stage_ms:
            assert row.latency_ms == pytest.approx(sum(answer.stage_ms.values()), rel=1e-12)
    assert {"ranking", "not ready"} == set(rows["kind"])


def test_chances_and_age_are_in_the_row(tmp_path):
    ranking = dataclasses.replace(small.RANKING, probability=(0.25, 0.5, 1.0), age_s=1.5, block=1, final=True)
    export_journal(write(tmp_path / "a.rtgod", [small.run(), ranking]), tmp_path / "out")
    (row,) = table(tmp_path / "out" / "run-1_answers.tsv").itertuples()
    assert (row.probability_top1, row.probability_top5, row.probability_top10) == (0.25, 0.5, 1.0)
    assert (row.age_s, row.block, row.final) == (1.5, 1, True)


def test_motion_has_a_row_for_each_volume_in_fmriprep_s_names_and_units(session):
    written, out = session
    rows = table(out / "run-1_motion.tsv")
    assert len(rows) == 11
    motion = {m.index: m.motion for m in written if isinstance(m, Ranking | NotReady) and m.run_id == "run-1"}
    for index, row in rows.iterrows():
        if index in (3, 4):  # never came, and came too late to be aligned
            assert row.isna().all()
            continue
        assert tuple(row[["trans_x", "trans_y", "trans_z"]]) == motion[index].translation_mm
        np.testing.assert_allclose(
            np.rad2deg(row[["rot_x", "rot_y", "rot_z"]].astype(float)), motion[index].rotation_deg
        )
        assert row["framewise_displacement"] == motion[index].framewise_displacement_mm


def test_clients_events_have_both_clocks(session):
    _, out = session
    first, second = table(out / "client_events.tsv").itertuples()
    assert (first.client, first.number, first.run_id, first.kind) == ("screen", 0, "run-1", "shown")
    assert (first.client_s, first.offset_s, first.offset_error_s) == (7.25, 1e9, 0.002)
    assert (first.server_utc_s, first.received_utc_s) == (1e9 + 7.25, 1e9 + 7.5)
    assert first.value == r'a\tb\n"c" \\'
    assert second.client_s == 7.25
    assert pd.isna([second.server_utc_s, second.offset_s, second.received_utc_s, second.value]).all()


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_voxels_keep_their_type(tmp_path, dtype):
    data = np.arange(24).reshape(2, 3, 4).astype(dtype)
    data.flat[-1] = np.iinfo(dtype).max if np.dtype(dtype).kind != "f" else np.nan
    run = small.run(shape=(2, 3, 4))
    export_journal(write(tmp_path / "a.rtgod", [run, Volume("run-1", 0, 0.0, data)]), tmp_path / "out")
    image = nib.load(tmp_path / "out" / "run-1_bold.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 0], data)


def test_volumes_of_two_types_get_one_that_holds_both(tmp_path):
    volumes = [
        Volume("run-1", 0, 0.0, np.full((2, 3, 4), -5, "int16")),
        Volume("run-1", 2, 0.0, np.full((2, 3, 4), 60_000.25, "float32")),
    ]
    export_journal(write(tmp_path / "a.rtgod", [small.run(shape=(2, 3, 4)), *volumes]), tmp_path / "out")
    voxels = np.asarray(nib.load(tmp_path / "out" / "run-1_bold.nii.gz").dataobj)
    assert voxels.dtype == np.float32
    assert [np.unique(voxels[..., index]).item() for index in range(3)] == [-5, 0, 60_000.25]


def test_a_run_of_more_volumes_than_nifti_1_can_count_is_nifti_2(tmp_path):
    last = Volume("run-1", 2**15, 0.0, np.ones((1, 1, 1), "int16"))
    export_journal(write(tmp_path / "a.rtgod", [small.run(shape=(1, 1, 1)), last]), tmp_path / "out")
    image = nib.load(tmp_path / "out" / "run-1_bold.nii.gz")
    assert isinstance(image, nib.Nifti2Image)
    assert np.asarray(image.dataobj).ravel().nonzero()[0].tolist() == [2**15]


def test_a_session_without_runs_has_only_its_events(tmp_path):
    assert export_journal(write(tmp_path / "a.rtgod", [event(0)]), tmp_path / "out") == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["client_events.tsv"]


@given(
    ids=st.lists(
        st.text(min_size=1, max_size=8)
        | st.sampled_from(["../x", "..", "-rf", "--", ".hidden", "A", "a", "client", "CON", "nul", "x" * 300]),
        max_size=4,
    )
)
def test_no_run_s_name_leads_out_of_the_folder_or_onto_another_s_files(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("names")
    journal = write(folder / "a.rtgod", [small.run(run_id) for run_id in ids])
    export_journal(journal, folder / "deeper" / "out")
    assert {path.name for path in folder.iterdir()} == {"a.rtgod", "deeper"}
    assert [path.name for path in (folder / "deeper").iterdir()] == ["out"]
    sidecars = (folder / "deeper" / "out").glob("*_bold.json")
    assert sorted(json.loads(path.read_text())["RunId"] for path in sidecars) == sorted(ids)
    files = [path.name.casefold() for path in (folder / "deeper" / "out").iterdir()]
    assert len(set(files)) == len(files) == 1 + 4 * len(ids)
    assert not [file for file in files if file[0] in "-."], "neither an option nor hidden"


def test_files_of_a_run_named_like_a_hidden_one_or_an_option_are_neither(tmp_path):
    """However long what is left out is: a name is shortened afterwards."""
    ids = [".secret", "-rf", ".-" * 75 + "x", " .secret", "..."]
    journal = write(tmp_path / "a.rtgod", [small.run(run_id) for run_id in ids])
    wanted = ["secret", "rf", "x", "secret+2", "run"]
    assert export_journal(journal, tmp_path / "out") == wanted
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"{name}_bold.json" for name in wanted} < files
    assert not [file for file in files if file[0] in "-. "]


@given(client=names, kind=names, value=texts)
def test_whatever_a_client_says_is_one_row(tmp_path_factory, client, kind, value):
    folder = tmp_path_factory.mktemp("events")
    said = dataclasses.replace(event(0, value), client=client, kind=kind)
    export_journal(write(folder / "a.rtgod", [said]), folder / "out")
    _, row, end = (folder / "out" / "client_events.tsv").read_bytes().split(b"\n")
    cells = row.decode().split("\t")
    assert (len(cells), end) == (10, b"")
    for cell, text in ((cells[5], client), (cells[8], kind), (cells[9], value)):
        assert cell == "n/a" or cell.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


@given(run=runs)
def test_every_run_that_may_be_sent_can_be_exported(tmp_path_factory, run):
    folder = tmp_path_factory.mktemp("runs")
    run = dataclasses.replace(run, shape=(2, 1, 3))
    volume = Volume(run.run_id, 0, 0.0, np.arange(6, dtype="int16").reshape(2, 1, 3))
    (name,) = export_journal(write(folder / "a.rtgod", [run, volume]), folder / "out")
    image = nib.load(folder / "out" / f"{name}_bold.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 0], volume.data)
    np.testing.assert_array_equal(image.affine, run.affine.astype(np.float32))
    assert image.header.get_zooms()[3] == np.float32(run.tr_s)
    assert equal(json.loads((folder / "out" / f"{name}_bold.json").read_text())["RepetitionTime"], run.tr_s)


def test_the_same_journal_gives_the_same_bytes(session, tmp_path):
    _, out = session
    export_journal(out.parent / "a.rtgod", tmp_path / "again")
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_torn_tail_is_left_out_and_damage_leaves_no_folder(session, tmp_path):
    content = (session[1].parent / "a.rtgod").read_bytes()
    (tmp_path / "torn.rtgod").write_bytes(content[:-1])
    assert export_journal(tmp_path / "torn.rtgod", tmp_path / "out") == ["run-1", "run-1~2"]
    middle = len(content) // 2
    (tmp_path / "damaged.rtgod").write_bytes(content[:middle] + b"\0\0\0\0" + content[middle + 4 :])
    before = set(tmp_path.iterdir())
    with pytest.raises(JournalError, match="damaged"):
        export_journal(tmp_path / "damaged.rtgod", tmp_path / "whole")
    assert set(tmp_path.iterdir()) == before


def test_a_folder_that_is_there_is_not_touched(session, tmp_path):
    for out in (tmp_path / "empty", tmp_path / "file"):
        out.mkdir() if out.name == "empty" else out.touch()
        with pytest.raises(InputError, match="exists already"):
            export_journal(session[1].parent / "a.rtgod", out)
    with pytest.raises(InputError, match="cannot be written"):
        export_journal(session[1].parent / "a.rtgod", tmp_path / "file" / "out")


def test_a_session_is_never_in_memory(tmp_path):
    shape, n_volumes = (64, 64, 32), 40
    volumes = (Volume("run-1", n, 0.0, np.full(shape, n, "int16")) for n in range(n_volumes))
    write(tmp_path / "a.rtgod", [small.run(shape=shape, blocks=()), *volumes])
    tracemalloc.start()
    try:
        export_journal(tmp_path / "a.rtgod", tmp_path / "out")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * np.prod(shape) * 2
