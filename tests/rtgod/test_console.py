"""What reaches the terminal of any name: itself, and nothing that the terminal would obey."""

import io
import logging
import os
import re
import subprocess
import sys
import unicodedata
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

from rtgod.commands import main, serve, subprocesses
from rtgod.commands.main import make_app
from rtgod.commands.status import _table_of
from rtgod.console import PlainConsole, forgiving, styled
from rtgod.errors import InputError
from rtgod.messages import Connected, Status
from rtgod.protocol.clients import Sender
from rtgod.text import plain
from tests import small
from tests.serving import PATIENCE_S, running

LIKE_MARKUP = [
    "sub-01[rest]",
    "a[/x]b",
    "[bold]x",
    ":warning:",
    "[link=http://x]y[/link]",
    "[/]",
    "[@click=app.bell]x[/]",
    "\\[bold]",
    "{0} %s 'q' 12:34:56 /path http://h",
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\u202egnp.exe",
    "half \udc80",
    "画像 é",
    "two\nlines\r\x85\u2028",
]
any_text = st.text(st.characters(), min_size=1, max_size=40) | st.sampled_from(LIKE_MARKUP)
WIDE = 1000


def written(say):
    """What a console of many columns, that takes colours, writes; without the colours that are ours."""
    file = io.StringIO()
    say(PlainConsole(file=file, width=WIDE))
    return file.getvalue()


def is_shown(name, said):
    """Whether the name is there as it is, apart from controls, and nothing of it was obeyed."""
    obeyed = {c for c in said if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")} - {"\n"}
    assert not obeyed, obeyed
    said.encode()
    return plain(name) in said


@given(any_text)
def test_every_string_is_printed_as_it_is(name):
    assert is_shown(name.replace("\n", ""), written(lambda console: console.print(name.replace("\n", ""))))
    assert is_shown(name, written(lambda console: console.print(styled("before ", (name, "bold"), " after"))))


@given(any_text)
@example("\N{COMBINING ACUTE ACCENT}")
@example("\N{ZANABAZAR SQUARE VOWEL SIGN I}")
@example("\N{HANGUL JUNGSEONG FILLER}")
def test_every_cell_and_title_is_printed_as_it_is(name):
    name = name.replace("\n", "").strip() or "x"
    table = Table("column", name, title=name)
    table.add_row(name, styled(name))
    assert written(lambda console: console.print(table)).count(plain(name)) >= 4


@given(any_text)
def test_a_cell_made_for_it_is_safe_in_any_console(name):
    table, file = Table("column"), io.StringIO()
    table.add_row(styled(name))
    Console(file=file, width=WIDE).print(table)
    assert is_shown(name, file.getvalue())


def test_another_console_would_obey():
    """What this is for: without it, names are markup, and controls reach the terminal."""
    file = io.StringIO()
    Console(file=file, width=WIDE).print("sub-01[rest] :warning: \x1b[31mred")
    assert "[rest]" not in file.getvalue()
    assert ":warning:" not in file.getvalue()
    assert "\x1b" in file.getvalue()


@given(any_text, any_text, any_text, any_text)
def test_status(run_id, client, journal, problem):
    status = Status(1.0, 2.0, journal, 10**9, problem, run_id, clients=(Connected(client, "display", 0.5),))
    for console in (PlainConsole(file=io.StringIO(), width=WIDE), Console(file=io.StringIO(), width=WIDE)):
        console.print(_table_of(status))
        said = console.file.getvalue()
        for name in (run_id, client, journal, problem):
            assert is_shown(name, said)


@given(any_text)
def test_headings_and_figures(name):
    with redirect_stdout(io.StringIO()) as out:
        subprocesses.print_figures("figures", {name.replace("\n", " "): 1.0})
        subprocesses.heading(name[:20].replace("\n", " "))
    assert is_shown(name[:20].replace("\n", " "), out.getvalue())


@given(any_text)
def test_progress(name):
    console = PlainConsole(file=io.StringIO(), width=WIDE)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as progress:
        progress.add_task(plain(name), total=1)
    assert is_shown(name, console.file.getvalue())


@pytest.fixture
def log_handler(monkeypatch):
    """The handler of the command line, whose stream is given each time."""
    handlers = []
    monkeypatch.setattr(logging, "basicConfig", lambda **how: handlers.extend(how["handlers"]))
    main._root(verbose=True, version=False)
    return handlers[0]


@pytest.mark.parametrize("name", LIKE_MARKUP)
def test_the_log(log_handler, name):
    with redirect_stderr(io.StringIO()) as err:
        log_handler.console.width = WIDE
        record = logging.LogRecord("rtgod.server.server", logging.WARNING, "", 1, "refused: %s", (name,), None)
        log_handler.handle(record)
    assert is_shown(f"refused: {name}", err.getvalue())


@pytest.mark.parametrize("name", LIKE_MARKUP)
def test_an_error(monkeypatch, name):
    def fails(**_):
        raise InputError(f"{name}: cannot be read")

    monkeypatch.setattr(main, "make_app", lambda _only: fails)
    with redirect_stderr(io.StringIO()) as err, pytest.raises(SystemExit):
        main.main()
    assert is_shown(f"rtgod: {name}: cannot be read", err.getvalue())


def test_a_terminal_that_lacks_a_letter_shows_its_code(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(main, "make_app", lambda _only: lambda **_: print("画 é"))
    with pytest.raises(SystemExit, match="0"):
        main.main()
    out.flush()
    assert out.buffer.getvalue() == b"\\u753b \\xe9\n"


def ran(arguments):
    """What a command says on both streams."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        make_app()(list(map(str, arguments)), prog_name="rtgod", standalone_mode=False)
    return out.getvalue() + err.getvalue()


@pytest.mark.parametrize("name", [name for name in LIKE_MARKUP if "\udc80" not in name])
def test_a_run_s_name_from_the_server_to_its_files(monkeypatch, tmp_path, name):
    """By way of the wire, the status, the journal's list, its check and its export."""
    monkeypatch.setenv("COLUMNS", str(WIDE))
    folder = tmp_path / "j [study] :smile: \x1b[31mA"
    folder.mkdir()
    with running(folder) as server, Sender(server.ingest, name=name) as sender:
        sender.send(small.run(name))
        sender.send(small.volume(0, name))
        said = ran(["status", "--from", server.publish, "--wait", PATIENCE_S])
        assert is_shown(f"{name}-", said), "the client"
        assert re.search(f"^run +{re.escape(plain(name))} *$", said, re.MULTILINE)
    assert is_shown(name, ran(["journal", "ls", folder]))
    said = ran(["journal", "verify", server.journal])
    assert is_shown(f"run {name}: 1 volume ", said)
    assert is_shown(server.journal, said)
    out = tmp_path / "out [v2] \x1b]0;title\x07"
    assert is_shown(f"{out}: ", ran(["journal", "export", server.journal, "--out", out]))
    assert len(list(out.glob("*_bold.nii.gz"))) == 1
    assert not [path for path in out.iterdir() if path.name[0] in "-."]


@pytest.mark.parametrize("folder", ["j [study] A", "j [/red] B", "j \x1b[31mC", ":smile:"])
def test_where_the_server_is_and_its_journal(monkeypatch, tmp_path, folder):
    console = PlainConsole(file=io.StringIO(), width=20)
    monkeypatch.setattr(serve, "console", console)
    with running(tmp_path) as server:
        path = Path(folder) / "a.rtgod"
        serve._announce(server.server, path, None, supervised=False)
        said = console.file.getvalue()
    assert is_shown(f"rankings from {server.publish}, journal {path}", said)
    assert said.count("\n") == 1, "on one line, to copy"


@settings(max_examples=20)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_keys(tmp_path_factory, name):
    folder = (
        tmp_path_factory.mktemp("keys") / plain(name).replace("/", "").replace("\\", "")[:40].strip(".") / "k [red]\x1b"
    )
    said = ran(["keys", "new", "scanner", "--role", "source", "--keys", folder])
    assert is_shown(f"{folder}/scanner.key: ", said)


PRINTS_FIRST = """
import sys
from pathlib import Path
from rtgod.console import PlainConsole, forgiving
sys.stdout = forgiving(sys.stdout)
for number in range(2000):
    print("a line of some length that fills the pipe", number)
    PlainConsole().print("日本語 脳", number)
sys.stdout.flush()
Path(sys.argv[1]).write_text("done")
"""


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_reader_that_has_gone_ends_the_printing_and_not_the_work(tmp_path, encoding):
    out = tmp_path / "out"
    command = [sys.executable, "-c", PRINTS_FIRST, str(out)]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(PATIENCE_S), said) == (0, b"")
    assert out.read_text() == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_printing_and_not_the_work_and_is_told_at_the_end(tmp_path):
    out = tmp_path / "out"
    with Path("/dev/full").open("w") as full:
        subprocess.run([sys.executable, "-c", PRINTS_FIRST, str(out)], stdout=full, timeout=PATIENCE_S, check=True)
        assert out.read_text() == "done"
        done = subprocess.run(
            [sys.executable, "-m", "rtgod", "keys", "new", "scanner", "--role", "source", "--keys", str(tmp_path)],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "rtgod: not all that was printed could be written: No space left on device\n"
    assert (tmp_path / "scanner.key").exists()


def test_what_cannot_be_encoded_is_written_as_its_code():
    command = [sys.executable, "-c", PRINTS_FIRST, os.devnull]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE_S, check=True)
    assert "\\u65e5\\u672c\\u8a9e" in done.stdout.decode("cp1252")


def test_a_stream_in_memory_stays_what_it_is():
    text, raw = io.StringIO(), io.TextIOWrapper(io.BytesIO(), "cp1252")
    assert forgiving(text) is text
    assert forgiving(raw) is raw
    assert raw.errors == "backslashreplace"
