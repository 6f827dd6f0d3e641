"""A server that dies is started again at once, on its journal; one that was asked to stop, or cannot start, is not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import typer

from benchmarks.soak import differences, run_files, undisturbed, until
from rtgod.commands.serve import arguments_of
from rtgod.errors import JournalError, ServerError
from rtgod.journal.journal import JournalWriter, check_bundle, read_headers, read_journal
from rtgod.journal.summary import account
from rtgod.messages import Hello, SessionEnd, Status, Volume
from rtgod.protocol.clients import Sender, Subscriber
from rtgod.server.supervision import Supervisor
from tests import small
from tests.serving import FREE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")

#: The promise is 2 s, when two processors are not shared; here several tests may share them.
RESTART_S = 6.0
WAIT_S = 60.0
TERMINAL = ("--backend", "terminal", "--stop-after-runs", "1")

# ---------------------------------------------------------------- a server of a few lines, to die in every way

FAKE = """
import json, os, signal, sys
from pathlib import Path
lives, endings = Path(sys.argv[1]), sys.argv[2:]
if not sys.stdin.readline():
    sys.exit(0)
with lives.open("a") as file:
    file.write("x")
n = lives.stat().st_size
ending = endings[n - 1]
if not ending.startswith("unready "):
    ready = {"ingest": "i", "publish": "p", "journal": "/j/s.rtgod", "n_starts": n, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
ending = ending.removeprefix("unready ")
if ending == "raise":
    raise ValueError("a bug")
if ending == "wait":
    signal.pause()
if ending.startswith("SIG"):
    os.kill(os.getpid(), signal.Signals[ending])
sys.exit(int(ending))
"""


@pytest.fixture
def fake(tmp_path):
    """A supervisor of servers that end in these ways, one after the other; `said` and `lives` tell what happened."""

    def make(*endings, when_ready=lambda: None, **options):
        program = [sys.executable, "-c", FAKE, str(tmp_path / "lives"), *endings]

        def again(ready):
            assert ready.journal == "/j/s.rtgod"
            when_ready()
            return program

        said = []
        supervisor = Supervisor(program, again, said.append, **options)
        supervisor.said = said
        return supervisor

    def lives():
        return (tmp_path / "lives").stat().st_size

    make.lives = lives
    return make


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("SIGKILL", "killed by SIGKILL"),
        ("SIGABRT", "killed by SIGABRT"),
        ("SIGSEGV", "killed by SIGSEGV"),
        ("SIGBUS", "killed by SIGBUS"),
        ("raise", "exit code 1"),
        ("7", "exit code 7"),
    ],
)
def test_whatever_ends_it_unasked_is_a_death(fake, ending, words):
    supervisor = fake(ending, ending, "0")
    assert supervisor.run() == 0
    assert fake.lives() == 3
    assert [line for line in supervisor.said if "died (" in line and words in line] == supervisor.said[::2][:2]
    ready = [line for line in supervisor.said if "ready again" in line]
    assert [line.split(": ")[1].split()[1] for line in ready] == ["2", "3"]


@pytest.mark.parametrize("code", [0, 2])
def test_an_end_that_was_meant_is_none(fake, code):
    supervisor = fake(f"unready {code}", "0")
    assert supervisor.run() == code
    assert fake.lives() == 1
    assert supervisor.said == []


def test_a_server_that_cannot_start_is_tried_again_if_it_could_before(fake):
    supervisor = fake("SIGKILL", "unready 2", "0")
    assert supervisor.run() == 0
    assert fake.lives() == 3
    assert "exit code 2" in supervisor.said[1]


def test_one_that_was_killed_before_it_was_ready_is_started_again(fake):
    assert fake("unready SIGKILL", "0").run() == 0
    assert fake.lives() == 2


def test_five_deaths_within_a_minute_are_enough(fake):
    supervisor = fake(*["SIGSEGV"] * 9)
    with pytest.raises(ServerError) as raised:
        supervisor.run()
    assert fake.lives() == 5
    for words in (
        "5 times within 60 s",
        "SIGSEGV",
        "/j/s.rtgod",
        "nothing that was acknowledged is lost",
        "--supervise",
    ):
        assert words in str(raised.value)


def test_more_deaths_are_not_if_they_lie_further_apart(fake):
    assert fake(*["SIGSEGV"] * 9, "0", within_s=0.0).run() == 0
    assert fake.lives() == 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_that_is_killed_while_it_stops_is_not_started_again(fake, number):
    # Asked for when the server is ready: then this process is asked to stop. The fake has no handler, so it is killed.
    supervisor = fake("wait", "0", when_ready=lambda: os.kill(os.getpid(), number))
    before = signal.signal(number, signal.SIG_DFL)  # `nohup` has hang-ups ignored, by supervisors too
    try:
        assert supervisor.run() == 128 + signal.SIGTERM
    finally:
        signal.signal(number, before)
    assert fake.lives() == 1
    assert "killed by SIGTERM while it stopped" in supervisor.said[-1]


# ---------------------------------------------------------------- the real thing


class Process:
    """A command in a process group of its own, and what it says."""

    def __init__(self, folder, *arguments):
        self.path = folder / f"{arguments[0]}-{time.monotonic_ns()}.txt"
        with self.path.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rtgod", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def said(self):
        return self.path.read_text()

    def ended(self):
        return self.process.wait(WAIT_S)


class Supervised(Process):
    """A supervised server of the small decoder that is ready."""

    def __init__(self, folder, *more):
        self.folder, self.ready_file = folder, folder / "ready.json"
        if not (folder / "bundle").exists():
            small.bundle().save(folder / "bundle")
        arguments = ["serve", "--supervise", folder / "bundle", "--ingest", FREE, "--publish", FREE]
        super().__init__(folder, *arguments, "--journal", folder / "journal", "--ready-file", self.ready_file, *more)
        until(self.ready_file.exists, "server", WAIT_S)

    @property
    def ready(self):
        return json.loads(self.ready_file.read_text())

    def others(self):
        """Processes that it started, but for the server."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in children.split()} - {self.ready["pid"]}

    def kill(self, number):
        """End the server by a signal; returns the seconds until another one is ready."""
        before = self.ready["pid"]
        os.kill(before, number)
        began_s = time.monotonic()
        until(lambda: self.ready["pid"] != before, "server that was started again", WAIT_S)
        return time.monotonic() - began_s


@contextmanager
def supervised(folder, *more):
    server = Supervised(folder, *more)
    try:
        yield server
    finally:
        pids = {server.process.pid, server.ready["pid"]}
        server.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(WAIT_S)
            pids = set()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_a_session_in_which_the_server_dies_is_as_one_in_which_it_does_not(tmp_path):
    rng = random.Random(12)  # noqa: S311 # chance, not secrets
    (run,) = run_files(tmp_path / "runs", 1, 40)
    restarts_s = []
    with supervised(tmp_path, "--new") as server:
        first = server.ready
        assert first["n_starts"] == 1
        display = Process(tmp_path, "display", "--from", first["publish"], "--to", first["ingest"], *TERMINAL)
        source = Process(tmp_path, "replay", run, "--to", first["ingest"], "--speed", 10)
        journal = tmp_path / "journal" / first["journal"].rpartition("/")[2]
        for number, name, most in ((signal.SIGKILL, "SIGKILL", 15), (signal.SIGABRT, "SIGABRT", 30)):
            at = rng.randrange(most - 10, most)
            until(lambda at=at: n_volumes(journal) > at, f"volume {at}", WAIT_S)
            # Another session that did not end, and was written to later.
            shutil.copy(journal, journal.with_name(f"{name}.rtgod"))
            restarts_s.append(server.kill(number))
            now = server.ready
            for field in ("ingest", "publish", "journal"):
                assert now[field] == first[field]
            until(lambda name=name: f"killed by {name}" in server.said, "the supervisor's line", WAIT_S)
        assert source.ended() == 0
        assert display.ended() == 0
        status = Process(tmp_path, "status", "--from", first["publish"])
        assert status.ended() == 0
        server.process.terminate()
        assert server.ended() == 0
    for path in journal.parent.glob("SIG*"):
        path.unlink()
    assert differences(journal.parent, undisturbed([run])) == {"lost": 0, "duplicated": 0, "different_rankings": 0}
    assert isinstance(list(read_journal(journal))[-1], SessionEnd)
    assert account(read_headers(journal)).n_starts == 3
    assert max(restarts_s) < RESTART_S
    assert server.said.count("is ready again") == 2
    assert "Traceback" not in server.said
    for said in (source.said, display.said):
        assert "the server died and was started again" in " ".join(said.split())
    assert "3: the server died" in status.said


def n_volumes(journal):
    return sum(isinstance(message, Volume) for message in read_journal(journal)) if journal.exists() else 0


def test_nobody_is_told_of_a_death_where_there_was_none(tmp_path):
    (run,) = run_files(tmp_path / "runs", 1, 12)
    with supervised(tmp_path) as server:
        display = Process(
            tmp_path, "display", "--from", server.ready["publish"], "--to", server.ready["ingest"], *TERMINAL
        )
        source = Process(tmp_path, "replay", run, "--to", server.ready["ingest"], "--speed", 10)
        assert source.ended() == display.ended() == 0
    for process in (server, source, display):
        assert "died" not in process.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_it_stops_all_in_good_order(tmp_path, number):
    with supervised(tmp_path) as server:
        until(server.others, "the standby")
        pids = {server.ready["pid"], *server.others()}
        # As Ctrl-C in a terminal does: to all of the group.
        os.killpg(server.process.pid, number)
        assert server.ended() == 0
        until(lambda: not any(is_running(pid) for pid in pids), "their end")
        assert isinstance(list(read_journal(tmp_path / "journal" / server.ready["journal"]))[-1], SessionEnd)
        for word in ("Traceback", "died", "while it stopped"):
            assert word not in server.said


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_if_the_supervisor_is_killed_the_server_goes_on_and_the_standby_ends(tmp_path):
    with supervised(tmp_path) as server:
        until(server.others, "the standby")
        standbys, pid = server.others(), server.ready["pid"]
        server.process.kill()
        server.ended()
        try:
            until(lambda: not any(is_running(one) for one in standbys), "the standby's end")
            with Sender(server.ready["ingest"]) as sender, Subscriber(server.ready["publish"]) as subscriber:
                assert not sender.send(small.run()).duplicate
                until(lambda: isinstance(subscriber.poll(1.0), Status), "its status")
        finally:
            os.kill(pid, signal.SIGTERM)
        until(lambda: not is_running(pid), "its end")
        assert isinstance(list(read_journal(tmp_path / "journal" / server.ready["journal"]))[-1], SessionEnd)


def test_the_standby_is_replaced_when_it_dies(tmp_path):
    with supervised(tmp_path) as server:
        until(server.others, "the standby")
        (standby,) = server.others()
        os.kill(standby, signal.SIGKILL)
        until(lambda: server.others() - {standby}, "another one")
        assert server.kill(signal.SIGKILL) < RESTART_S


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["no-such-bundle"], "rtgod calibrate"),
        (["--ingest", "tcp://0.0.0.0:*"], "rtgod keys new"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_what_cannot_start_ends_with_its_own_message(tmp_path, arguments, word):
    command = ["serve", "--supervise", "--journal", tmp_path / "journal", "--publish", FREE, *arguments]
    process = Process(tmp_path, *command)
    assert process.ended() == 2
    assert process.said.count(word) == 1
    assert "died" not in process.said
    assert not list(tmp_path.rglob("*.rtgod"))


def test_the_end_of_the_last_run_is_no_death(tmp_path):
    with supervised(tmp_path, "--runs", "1") as server:
        with Sender(server.ready["ingest"]) as sender:
            for message in small.messages():
                sender.send(message)
        assert server.ended() == 0
    assert "died" not in server.said


# ---------------------------------------------------------------- its parts


def test_a_command_gets_the_arguments_that_it_was_given():
    given = []

    def command(
        context: typer.Context,
        folder: str | None = typer.Argument(None),
        port: int = 3,
        name: str | None = typer.Option(None, "--name"),
        again: bool = typer.Option(False, "--again"),
        sound: bool = True,
    ) -> None:
        given.append((folder, port, name, again, sound))
        lines.append(arguments_of(context))

    app, lines = typer.Typer(), []
    app.command()(command)
    for arguments in ([], ["--port", "5"], ["--again", "--no-sound", "--name", "a b", "--", "--again"]):
        with suppress(SystemExit):
            app(arguments)
        with suppress(SystemExit):
            app(lines[-1])
        assert given[-1] == given[-2]
        assert lines[-1] == lines[-2]
    assert given[-1] == ("--again", 3, "a b", True, False)


@pytest.mark.parametrize(("bundle_id", "fits"), [("a", True), ("b", False), (None, False)])
def test_a_journal_is_gone_on_with_by_its_own_bundle_alone(tmp_path, bundle_id, fits):
    path = tmp_path / "s.rtgod"
    with JournalWriter(path) as journal:
        check_bundle(path, bundle_id)  # it is nobody's yet
        journal.append(Hello("0.1.0", "a", 7, 40))
    if fits:
        check_bundle(path, bundle_id)
    else:
        with pytest.raises(JournalError, match="put back the bundle"):
            check_bundle(path, bundle_id)
