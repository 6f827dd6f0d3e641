"""The identity table: a row a run, on the console's side alone, durable, and for nobody else to read."""

import errno
import os
import stat

import numpy as np
import pytest

from rtgod.errors import InputError
from rtgod.receivers.arrivals import Arrivals
from rtgod.receivers.identity_table import COLUMNS, IdentityTable
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.watcher import Watcher
from rtgod.tsv import read_tsv
from tests.rtgod.receivers.test_watcher import Server
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import PLANTED, TR_S, enhanced, save


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def watched(folder, path, datasets):
    """Watch a folder while files appear; return what was sent and told."""
    now, server, lines = [0.0], Server(), []
    with Arrivals(folder, with_events=False, clock=lambda: now[0]) as arrivals:
        runs = LiveRuns(
            server, RunOptions(subject="01"), lines.append, clock=lambda: now[0], identities=IdentityTable(path, folder)
        )
        watcher = Watcher(arrivals, runs, lines.append, clock=lambda: now[0])
        for number, dataset in enumerate(datasets):
            save(dataset, folder / f"{number}.dcm")
            now[0] += TR_S
            watcher.step()
        watcher.run(lambda: True)
    return server, lines


def mosaics(n=3, **changes):
    return [test_mosaic.dicom(number, AcquisitionDate="20261130", **changes) for number in range(1, n + 1)]


def test_every_run_has_its_row_and_nothing_of_it_is_sent_or_told(folder, tmp_path):
    path = tmp_path / "lab" / "identities.tsv"
    path.parent.mkdir()
    following = mosaics(SeriesNumber=9, SeriesInstanceUID="1.2.5")
    server, lines = watched(folder, path, [*mosaics(), *following])
    rows = [row.cells for row in read_tsv(path, escaped=True).rows]
    assert [row["run_id"] for row in rows] == [run.run_id for run in server.runs]
    assert [(row["series_number"], row["series_instance_uid"]) for row in rows] == [("7", "1.2.3"), ("9", "1.2.5")]
    assert {(row["subject"], row["patient_id"]) for row in rows} == {("01", PLANTED[1])}
    assert all(row["acquired"].startswith("20261130") and len(row["acquired"]) > 8 for row in rows)
    assert not any(secret in repr(server.messages) + "".join(lines) for secret in (*PLANTED, "20261130"))
    assert "Name" not in path.read_text()


def test_an_enhanced_file_gives_its_date_and_time(folder, tmp_path):
    files = [enhanced([number], AcquisitionDateTime=f"20261130101{number}00") for number in range(1, 4)]
    watched(folder, tmp_path / "identities.tsv", files)
    (row,) = read_tsv(tmp_path / "identities.tsv", escaped=True).rows
    assert row.cells["acquired"] == "20261130101100"


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "identities.tsv"
    IdentityTable(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    IdentityTable(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_call_appends_to_it(folder, tmp_path):
    path = tmp_path / "identities.tsv"
    watched(folder, path, mosaics())
    for file in folder.iterdir():
        file.unlink()
    watched(folder, path, mosaics(SeriesInstanceUID="1.2.6"))
    assert path.read_text().splitlines()[0].split("\t") == list(COLUMNS)
    assert len(path.read_text().splitlines()) == 3


def test_odd_characters_stay_in_their_cell(folder, tmp_path):
    path = tmp_path / "identities.tsv"
    watched(folder, path, mosaics(PatientID="A\tB"))
    (row,) = read_tsv(path, escaped=True).rows
    assert row.cells["patient_id"] == "A\tB"


def test_what_cannot_be_the_table_is_refused(folder, tmp_path):
    for inside in (folder / "identities.tsv", folder / "deeper" / "identities.tsv"):
        with pytest.raises(InputError, match="lies in the folder that is watched"):
            IdentityTable(inside, folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(InputError, match="lies in the folder that is watched"):
        IdentityTable(tmp_path / "link" / "identities.tsv", folder)
    other = tmp_path / "other.tsv"
    other.write_text("onset\tduration\n")
    with pytest.raises(InputError, match="is another table"):
        IdentityTable(other)
    assert other.read_text() == "onset\tduration\n"
    with pytest.raises(InputError, match="cannot be written"):
        IdentityTable(tmp_path / "nowhere" / "identities.tsv")
    assert list(folder.iterdir()) == []


def test_a_full_disk_stops_no_run_and_its_rows_follow(tmp_path, monkeypatch):
    path, is_full, flush = tmp_path / "identities.tsv", [True], os.fsync
    table = IdentityTable(path)

    def full(descriptor):
        if is_full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    run, _ = RunOptions().run("run-1", "1.2", 2.0, (4, 4, 4), np.diag([3.0, 3.0, 3.0, 1.0]), None)
    (problem,) = table.add(run, 7, "1.2.3", ("PATIENT", "2026"))
    assert "cannot be written" in problem
    assert "PATIENT" not in problem
    assert len(path.read_text().splitlines()) == 1
    is_full[0] = False
    assert table.flush() == []
    assert len(path.read_text().splitlines()) == 2
