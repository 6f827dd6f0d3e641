"""The commands about journals, as a person types them."""

import os
import time

import pytest
from typer.testing import CliRunner

from rtgod.commands.journal import journal
from rtgod.errors import InputError, JournalError
from rtgod.journal.journal import MAGIC, JournalWriter
from rtgod.messages import NotReady, Reason
from tests import small
from tests.journals import event, record


def run(*arguments):
    """The result of a command; its errors are raised."""
    result = CliRunner().invoke(journal, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def folder(tmp_path):
    """One session that ended, with a run that was started again and a lost volume, and a newer one that died."""
    again = small.messages("run-1~2", range(3))
    record(tmp_path / "1.rtgod", [*small.messages(indices=[0, 1, 3])[:-1], event(0), *again], small.bundle())
    record(tmp_path / "0.rtgod", [], ended=False)
    os.utime(tmp_path / "1.rtgod", (0, 0))
    return tmp_path


def test_ls_has_a_line_for_each_run(folder):
    (folder / "other.rtgod").write_bytes(b"something else")
    result = run("ls", folder)
    heading, first, second, third = (line.split() for line in result.stdout.strip().splitlines())
    assert heading[:6] == ["journal", "written", "MB", "session", "events", "subject"]
    assert heading[6:] == ["run", "taken", "answered", "lost", "rankings", "end"]
    size = f"{(folder / '1.rtgod').stat().st_size / 1e6:.1f}"
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(0)).split()
    assert first[:6] == ["1.rtgod", *date, size, "ended", "1"]
    assert first[6:] == ["small", "run-1", "3", "of", "12", "4", "1", "0", "not", "ended"]
    assert second == ["run-1~2", "3", "of", "12", "3", "0", "0", "after", "3"]
    assert (third[0], third[4:]) == ("0.rtgod", ["not", "ended", "0", "none"])
    assert "other.rtgod: not a journal" in result.stderr


def test_ls_of_a_journal_lists_it_alone(folder):
    lines = run("ls", folder / "1.rtgod").stdout.strip().splitlines()
    assert [line.split()[0] for line in lines] == ["journal", "1.rtgod", "run-1~2"]


def test_ls_of_nothing_says_so(tmp_path):
    with pytest.raises(JournalError, match="absent: no such folder or journal"):
        run("ls", tmp_path / "absent")
    empty = run("ls", tmp_path)
    assert (empty.stdout, empty.exit_code) == ("", 0)
    assert "holds no journal" in empty.stderr
    (tmp_path / "text.rtgod").write_bytes(b"something else")
    with pytest.raises(JournalError, match="not a journal"):
        run("ls", tmp_path / "text.rtgod")


def test_verify_says_what_is_there_and_what_is_missing(folder):
    result = run("verify", folder / "1.rtgod")
    assert result.exit_code == 0
    first, *rest = result.stdout.splitlines()
    assert first.endswith("every checksum is right; ended")
    assert rest == ["run run-1: 3 volumes taken, lost: 3", "run run-1~2: 3 volumes taken, lost: none"]


def test_verify_measures_a_torn_tail_and_what_will_be_answered(tmp_path):
    path = tmp_path / "a.rtgod"
    record(path, small.messages(indices=[0, 1])[:-1], ended=False)
    with JournalWriter.resume(path) as writer:
        writer.append(small.volume(3))
    with path.open("ab") as file:
        file.write(b"\nrec" + bytes(33))
    result = run("verify", path)
    assert result.exit_code == 0
    assert "; not ended\n" in result.stdout
    assert "torn tail of 37 bytes" in result.stdout
    assert "run run-1: volumes 3-4 will be answered when the server goes on" in result.stdout


def test_verify_fails_where_a_volume_has_two_answers(tmp_path):
    path = tmp_path / "a.rtgod"
    record(path, small.messages(), small.bundle(), ended=False)
    with JournalWriter.resume(path) as writer:
        writer.append(NotReady("run-1", 4, Reason.MOTION))
    result = run("verify", path)
    assert result.exit_code == 2
    assert "wrong: run run-1: volume 5 was answered" in result.stdout


def test_verify_finds_a_flipped_bit(folder):
    path = folder / "1.rtgod"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalError, match="damaged"):
        run("verify", path)
    with pytest.raises(JournalError, match="cannot be read"):
        run("verify", folder / "absent.rtgod")


def test_verify_of_a_journal_with_nothing_in_it(tmp_path):
    (tmp_path / "a.rtgod").write_bytes(MAGIC)
    assert run("verify", tmp_path / "a.rtgod").exit_code == 0


def test_export_names_what_it_made(folder):
    assert run("export", folder / "1.rtgod", "--out", folder / "out").stdout == f"{folder / 'out'}: run-1, run-1~2\n"
    assert (folder / "out" / "run-1~2_bold.nii.gz").is_file()
    with pytest.raises(InputError, match="exists already"):
        run("export", folder / "1.rtgod", "--out", folder / "out")
    shown = run("export", folder / "1.rtgod", "--out", folder / "out", "--dry-run").stdout
    assert "run-1: 3 volumes, 1 lost, as zeros; 4 answered" in shown
    assert "run-1~2: 3 volumes, 0 lost" in shown
    assert "1 client's event" in shown
    assert "already there: it would be refused" in " ".join(shown.split())
    run("export", folder / "1.rtgod", "--out", folder / "dry", "--dry-run")
    assert not (folder / "dry").exists()
    assert "holds none" in run("export", folder / "0.rtgod", "--out", folder / "empty").stdout
