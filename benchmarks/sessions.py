"""Real sessions for benchmarks: commands in processes of their own, small runs, and comparison of their answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from rtgod.files import Closing
from rtgod.journal.journal import journals, read_journal
from rtgod.messages import Answer, NotReady, Ranking, Volume
from rtgod.protocol.frames import to_frames
from rtgod.server.session import Session, without_timing
from rtgod.sources import open_source
from tests import small

SEED = 0
WAIT_S = 60.0

Answers = Mapping[tuple[str, int], bytes]


class Part(Closing):
    """Command that runs in a process of its own.

    Parameters
    ----------
    *arguments : str
        Arguments of `rtgod`.
    within : str, optional
        Name of a network namespace to run the command in.
    """

    def __init__(self, *arguments: str, within: str = "") -> None:
        self._arguments = arguments
        self._before = ["ip", "netns", "exec", within] if within else []
        # Error output of the process and of its restarts, in a file without a name, so nobody has to remove it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 # open as long as the part is
        self.start()

    def start(self) -> None:
        """Start the process, or start it again."""
        command = [*self._before, sys.executable, *self.command()]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors
        )

    def command(self) -> list[str]:
        """Return the arguments of the Python interpreter."""
        return ["-m", "rtgod", *self._arguments]

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return self.process.poll()

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def close(self) -> None:
        """Kill the process, if it still runs, and discard its error output."""
        self.kill()
        self._errors.close()

    def stop(self) -> int:
        """Ask the process to end; return 1 and print its error output if it does not end well, else 0."""
        self.process.terminate()
        return self.ended()

    def ended(self, timeout_s: float = WAIT_S) -> int:
        """Wait for the process to end; return 1 and print its error output if it does not end well, else 0."""
        try:
            code: int | str = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = f"none within {timeout_s:g} s"
        if code:
            self._errors.seek(0)
            output = self._errors.read().decode(errors="replace")[-2000:]
            print(f"`rtgod {' '.join(self._arguments)}`: exit code {code}; it said:\n{output}", file=sys.stderr)
        return int(bool(code))

    def resident_mb(self) -> float:
        """Return the resident memory of the process, MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def until(done: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait until `done()` is true; raise TimeoutError after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)


def free_ports(n: int) -> list[int]:
    """Find ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


class Addresses:
    """Addresses on which a server listens, the same after each restart."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.ingest, self.publish = (f"tcp://{host}:{port}" for port in free_ports(2))


@contextmanager
def serving(folder: Path, *more: str, host: str = "127.0.0.1") -> Iterator[tuple[Part, Addresses]]:
    """Run a server with the small decoder; give it, and its addresses, once it is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    small.bundle().save(folder / "bundle")
    where, ready = Addresses(host), folder / "ready.json"
    arguments = ["serve", str(folder / "bundle"), "--ingest", where.ingest, "--publish", where.publish]
    server = Part(*arguments, "--journal", str(folder / "journal"), "--ready-file", str(ready), *more)
    try:
        until(ready.exists, "server")
        yield server, where
    finally:
        server.close()


def run_files(folder: Path, n_runs: int, n_volumes: int) -> list[Path]:
    """Write recorded runs of a head that moves a little."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(SEED), []
    for run in range(n_runs):
        # The head of `small.volume` moves with the index; noise differs from run to run.
        heads = [small.volume(index % 12).data for index in range(n_volumes)]
        voxels = [head + rng.integers(-5, 6, head.shape, np.int16) for head in heads]
        image = nib.Nifti1Image(np.stack(voxels, axis=-1), small.AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((4, 4, 4, small.TR_S))
        paths.append(folder / f"sub-small_run-{run + 1:02}_bold.nii.gz")
        nib.save(image, paths[-1])
    return paths


def undisturbed(runs: Sequence[Path]) -> Answers:
    """Compute the answers to all volumes in this process, by run and index, as bytes without timing."""
    session = Session(small.bundle())
    answers: dict[tuple[str, int], bytes] = {}
    for path in runs:
        source = open_source(path)
        for message in (source.run, *source):
            for answer, _ in session.handle(message):
                answers[answer.run_id, answer.index] = content(answer)
    return answers


def content(answer: Answer) -> bytes:
    """Return the bytes of an answer without its timing, which alone may differ."""
    return b"".join(map(bytes, to_frames(without_timing(answer))))


def differences(journal: Path, expected: Answers) -> dict[str, int]:
    """Count volumes missing in a journal, volumes that are in it twice, and answers that differ from the expected."""
    volumes: Counter[tuple[str, int]] = Counter()
    answers: dict[tuple[str, int], set[bytes]] = {}
    for path in journals(journal):
        for message in read_journal(path):
            if isinstance(message, Volume):
                volumes[message.run_id, message.index] += 1
            elif isinstance(message, Ranking | NotReady):
                answers.setdefault((message.run_id, message.index), set()).add(content(message))
    unknown = volumes.keys() - expected.keys()
    return {
        "lost": len(expected.keys() - volumes.keys()),
        "duplicated": sum(count - 1 for count in volumes.values()) + len(unknown),
        "different_rankings": sum(answers.get(key, set()) != {answer} for key, answer in expected.items()),
    }


def n_volumes_in(journal: Path) -> int:
    """Return the number of volumes in a journal so far."""
    return sum(isinstance(message, Volume) for path in journals(journal) for message in read_journal(path))
