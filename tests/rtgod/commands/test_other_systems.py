"""What Windows lacks is not used on a scanner's console: its modules and functions are taken away, and nothing changes.

No such machine runs these tests; that the packages have wheels for Windows and macOS is looked up by `.ci/run`.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rtgod
from tests.rtgod.inspection.exports import N_VOLUMES, mosaics

#: Modules and functions of Python that are not there on Windows; see the library reference, "Availability".
_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
_FUNCTIONS = {
    "os": (
        "chown", "fchmod", "fork", "geteuid", "getloadavg", "getuid", "killpg", "mkfifo", "nice", "posix_fadvise",
        "posix_fallocate", "pread", "preadv", "pwrite", "sched_getaffinity", "sched_setaffinity", "setsid", "statvfs",
        "sync", "uname", "wait4",
    ),
    "signal": ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pause", "sigwait", "setitimer"),
    "socket": ("AF_UNIX",),
    "time": ("clock_gettime", "tzset"),
}  # fmt: skip
_PRELUDE = f"""
import importlib, multiprocessing, numpy, subprocess, sys, tempfile, uuid, zmq  # which look what system it is
for name in {_MODULES}:
    sys.modules[name] = None
for name, functions in {_FUNCTIONS}.items():
    for function in functions:
        vars(importlib.import_module(name)).pop(function, None)
from rtgod.commands.main import _run
sys.exit(_run(sys.argv[1:]))
"""


def lacking(*arguments):
    command = [sys.executable, "-c", _PRELUDE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_an_export_is_checked_by_the_code_that_watches(tmp_path):
    (tmp_path / "export").mkdir()
    done = lacking("watch", "--check", mosaics(tmp_path / "export"), "--volumes", N_VOLUMES)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Fit for live use"), done.stderr


@pytest.mark.parametrize("command", [["watch"], ["receive"], ["receive", "--protocol", "vsend"]])
def test_the_commands_of_a_console_are_there(command):
    done = lacking(*command, "--help")
    assert done.returncode == 0, done.stderr


def test_nothing_of_the_list_is_named_where_a_console_s_code_is():
    """Or it asks first whether it is there."""
    named = []
    for folder in ("receivers", "sources", "inspection", "protocol", "events", "senders"):
        for path in (Path(rtgod.__file__).parent / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Import):
                    named += [(path.name, alias.name) for alias in node.names if alias.name in _MODULES]
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.attr in _FUNCTIONS.get(node.value.id, ())
                    and f'hasattr({node.value.id}, "{node.attr}")' not in text
                ):
                    named.append((path.name, node.attr))
    assert named == []
