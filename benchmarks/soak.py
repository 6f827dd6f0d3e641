"""What a session survives: killed processes, hostile frames, clients that stop, keys that are wrong.

Servers, sources and displays are the real commands in processes of their own; the decoder and its volumes are small, so
that a session takes seconds. What a disturbed session has in its journal is compared with what the same volumes give in
one process that nobody disturbs.

    python -m benchmarks.soak [--short] [--kills N] [--frames N] [--volumes N] [--json PATH]
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import zmq

from benchmarks.figures import print_all, write_json
from rtgod import wire
from rtgod.client import Sender, Subscriber
from rtgod.errors import RefusedError, ServerError, WireError
from rtgod.journal import journals, read_journal
from rtgod.keys import Role, add_client, read_client_key
from rtgod.messages import Answer, NotReady, Ranking, Refused, Status, Volume
from rtgod.replay import send_run
from rtgod.session import Session, without_timing
from rtgod.sources import open_source
from tests import small

SEED = 0
N_RUNS, N_VOLUMES = 3, 40
#: Runs are replayed so much faster than they were scanned: a volume each 50 ms.
SPEED = 40.0
WAIT_S = 60.0
N_DISPLAYS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a minute instead of many")
    parser.add_argument("--kills", type=int, help="of processes; default 500, short 6")
    parser.add_argument("--frames", type=int, help="hostile messages; default 100000, short 2000")
    parser.add_argument("--volumes", type=int, help="at full speed; default 20000, short 600")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, float] = {}
        figures |= killed(Path(folder, "killed"), options.kills or (6 if options.short else 500))
        figures |= proxied(Path(folder, "proxied"), 1 if options.short else 10)
        figures |= cut(Path(folder, "cut"), 3.0 if options.short else 30.0)
        figures |= hostile(Path(folder, "hostile"), options.frames or (2_000 if options.short else 100_000))
        figures |= full_speed(Path(folder, "speed"), options.volumes or (600 if options.short else 20_000))
        figures |= keys(Path(folder, "keys"))
    figures["crashes"] = figures.pop("hostile_crashes") + figures.pop("speed_crashes")
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


# ---------------------------------------------------------------- processes


class Part:
    """One command in a process of its own.

    Parameters
    ----------
    *arguments : str
        Of `rtgod`.
    within : str, optional
        A network namespace to run it in.
    """

    def __init__(self, *arguments: str, within: str = "") -> None:
        self._arguments = arguments
        self._before = ["ip", "netns", "exec", within] if within else []
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        command = [*self._before, sys.executable, "-m", "rtgod", *self._arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return self.process.poll()

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def stop(self) -> int:
        """Ask it to end."""
        self.process.terminate()
        return self.process.wait(WAIT_S)

    def resident_mb(self) -> float:
        """Its memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def until(done: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait for something, but not forever."""
    deadline_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Addresses:
    """Where a server listens, whenever it is started."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.ingest, self.publish = (f"tcp://{host}:{port}" for port in free_ports(2))


@contextmanager
def serving(folder: Path, *more: str, host: str = "127.0.0.1") -> Iterator[tuple[Part, Addresses]]:
    """A server of the small decoder that is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    small.bundle().save(folder / "bundle")
    where, ready = Addresses(host), folder / "ready.json"
    arguments = ["serve", str(folder / "bundle"), "--ingest", where.ingest, "--publish", where.publish]
    server = Part(*arguments, "--journal", str(folder / "journal"), "--ready-file", str(ready), *more)
    try:
        until(ready.exists, "server")
        yield server, where
    finally:
        if server.code is None:
            server.kill()


def run_files(folder: Path, n_runs: int, n_volumes: int) -> list[Path]:
    """Recorded runs of a head that moves a little."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(SEED), []
    for run in range(n_runs):
        # `small.volume` moves with its index; what differs from run to run is noise.
        heads = [small.volume(index % 12).data for index in range(n_volumes)]
        voxels = [head + rng.integers(-5, 6, head.shape, np.int16) for head in heads]
        image = nib.Nifti1Image(np.stack(voxels, axis=-1), small.AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((4, 4, 4, small.TR_S))
        paths.append(folder / f"sub-small_run-{run + 1:02}_bold.nii.gz")
        nib.save(image, paths[-1])
    return paths


# ---------------------------------------------------------------- killed processes


def killed(folder: Path, n_kills: int) -> dict[str, float]:
    """Kill server, source and display at random moments of a session, until there were enough kills."""
    rng = random.Random(SEED)  # noqa: S311 # chance, not secrets
    runs = run_files(folder / "runs", N_RUNS, N_VOLUMES)
    expected = undisturbed(runs)
    totals: Counter[str] = Counter()
    restarts_s: list[float] = []
    session = 0
    while totals["kills"] < n_kills:
        session += 1
        place = folder / f"session-{session}"
        totals["kills"] += disturbed(place, runs, rng, n_kills - totals["kills"], restarts_s)
        totals.update(differences(place / "journal", expected))
        print(f"kills: {totals['kills']} of {n_kills}, {dict(totals)}", file=sys.stderr)
    return {
        "kills": totals["kills"],
        "sessions": session,
        "lost": totals["lost"],
        "duplicated": totals["duplicated"],
        "different_rankings": totals["different"],
        "restart_s_median": float(np.median(restarts_s)) if restarts_s else 0.0,
    }


def undisturbed(runs: list[Path]) -> dict[tuple[str, int], bytes]:
    """The answers to all volumes, by run and index, as bytes without timing."""
    session = Session(small.bundle())
    answers: dict[tuple[str, int], bytes] = {}
    for path in runs:
        source = open_source(path)
        for message in (source.run, *source):
            for answer, _ in session.take(message):
                answers[answer.run_id, answer.index] = content(answer)
    return answers


def content(answer: Answer) -> bytes:
    """What must not change."""
    return b"".join(map(bytes, wire.to_frames(without_timing(answer))))


def disturbed(place: Path, runs: list[Path], rng: random.Random, n_kills: int, restarts_s: list[float]) -> int:
    """One session, in which up to `n_kills` processes are killed; how many were."""
    n_killed = 0
    with serving(place) as (server, where):
        ready = place / "ready.json"
        display = Part("display", "--from", where.publish, "--to", where.ingest, "--backend", "terminal")
        try:
            for path in runs:
                source = Part("replay", str(path), "--to", where.ingest, "--speed", str(SPEED))
                began_s = time.monotonic()
                while source.code is None:
                    time.sleep(rng.uniform(0.0, 1.0))
                    if n_killed < n_kills and source.code is None:
                        victim = rng.choice((server, server, source, source, display))
                        victim.kill()
                        n_killed += 1
                        if victim is server:
                            ready.unlink(missing_ok=True)
                            victim.start()
                            started_s = time.monotonic()
                            if rng.random() < 0.7:  # else it may be killed while it is starting
                                until(ready.exists, "server that was started again")
                                restarts_s.append(time.monotonic() - started_s)
                        else:
                            victim.start()
                    if n_killed >= n_kills or time.monotonic() - began_s > 10 * WAIT_S:
                        break
                until(lambda one=source: one.code is not None, f"{path.name} sent")
                if source.code:
                    raise RuntimeError(f"replay ended with {source.code}")
            until((place / "ready.json").exists, "server")  # it may be starting once more
            if server.stop():
                raise RuntimeError("the server did not end well")
        finally:
            display.kill()
    return n_killed


def differences(journal: Path, expected: dict[tuple[str, int], bytes]) -> dict[str, int]:
    """Volumes that are missing, volumes that count twice, and answers that are not what they should be."""
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
        "different": sum(answers.get(key, set()) != {answer} for key, answer in expected.items()),
    }


# ---------------------------------------------------------------- a bad network


def proxied(folder: Path, n_runs: int) -> dict[str, float]:
    """Send runs through a proxy that loses, delays, doubles and cuts messages, both ways."""
    runs = run_files(folder / "runs", n_runs, N_VOLUMES)
    expected = undisturbed(runs)
    stop, n_disturbed = threading.Event(), [0]
    with serving(folder) as (server, where), zmq.Context() as context, context.socket(zmq.ROUTER) as front:
        front.linger = 0
        port = front.bind_to_random_port("tcp://127.0.0.1")
        thread = threading.Thread(target=bad_network, args=(context, front, where.ingest, stop, n_disturbed))
        thread.start()
        try:
            for path in runs:
                with Sender(f"tcp://127.0.0.1:{port}", timeout_s=0.2, patience_s=WAIT_S) as sender:
                    source = open_source(path)
                    list(send_run(source, sender, math.inf, acquisition=source.acquisition()))
        finally:
            stop.set()
            thread.join(WAIT_S)
        server.stop()
    found = differences(folder / "journal", expected)
    return {
        "proxy_disturbed": float(n_disturbed[0]),
        "proxy_lost": float(found["lost"]),
        "proxy_duplicated": float(found["duplicated"]),
        "proxy_different_rankings": float(found["different"]),
    }


def bad_network(
    context: zmq.Context[zmq.Socket[bytes]],
    front: zmq.Socket[bytes],
    server: str,
    stop: threading.Event,
    n_disturbed: list[int],
) -> None:
    """Pass messages on, most of them as they are, until told to stop."""
    rng = random.Random(SEED)  # noqa: S311 # chance, not secrets
    backs: dict[bytes, zmq.Socket[bytes]] = {}
    due: list[tuple[float, zmq.Socket[bytes], list[bytes]]] = []
    with ExitStack() as stack:
        while not stop.is_set():
            arrived = []
            while front.poll(0 if backs else 5):
                identity, *frames = front.recv_multipart()
                if identity not in backs:
                    backs[identity] = back = stack.enter_context(context.socket(zmq.DEALER))
                    back.linger = 0
                    back.connect(server)
                arrived.append((backs[identity], [], frames))
            for identity, back in backs.items():
                while back.poll(1):
                    arrived.append((front, [identity], back.recv_multipart()))
            now_s = time.monotonic()
            for to, address, frames in arrived:
                fate = rng.random()
                n_disturbed[0] += fate < 0.2
                if fate < 0.05:
                    continue
                if fate < 0.1:  # cut, and once more as it was
                    cut = [*frames[:-1], frames[-1][: len(frames[-1]) // 2]]
                    due.append((now_s, to, [*address, *cut]))
                delay_s = rng.uniform(0.0, 0.5) if 0.1 <= fate < 0.15 else 0.0
                due += [(now_s + delay_s, to, [*address, *frames])] * (2 if 0.15 <= fate < 0.2 else 1)
            for one in [one for one in due if one[0] <= now_s]:
                due.remove(one)
                one[1].send_multipart(one[2])


# ---------------------------------------------------------------- a cut cable

_SERVER_IP, _SOURCE_IP = "10.213.77.1", "10.213.77.2"


def cut(folder: Path, cut_s: float) -> dict[str, float]:
    """Cut the cable between a source and the server for a while; {} where no network can be made to cut."""
    names = [f"rt{os.getpid()}{end}" for end in "ab"]
    runs = run_files(folder / "runs", 1, N_VOLUMES)
    expected = undisturbed(runs)
    add_client(folder / "keys", "scanner", Role.SOURCE)
    with ExitStack() as stack:
        try:
            make_network(names, stack)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no cable is cut: networks cannot be made here ({error})", file=sys.stderr)
            return {}
        server, where = stack.enter_context(serving(folder, "--keys", str(folder / "keys"), host=_SERVER_IP))
        key = str(folder / "keys" / "scanner.key")
        source = Part("replay", str(runs[0]), "--to", where.ingest, "--speed", "10", "--key", key, within=names[1])
        stack.callback(source.kill)
        journal = folder / "journal"
        until(lambda: n_volumes_in(journal) > 5, "the first volumes")
        ip("link", "set", names[0], "down")
        before = n_volumes_in(journal)
        time.sleep(cut_s)
        meanwhile = n_volumes_in(journal) - before
        ip("link", "set", names[0], "up")
        until(lambda: source.code is not None, "the run sent", 2 * WAIT_S)
        if source.code:
            raise RuntimeError(f"replay ended with {source.code}")
        server.stop()
    found = differences(folder / "journal", expected)
    return {
        "network_cut_s": cut_s,
        "volumes_during_the_cut": float(meanwhile),
        "cut_lost": float(found["lost"]),
        "cut_duplicated": float(found["duplicated"]),
        "cut_different_rankings": float(found["different"]),
    }


def make_network(names: list[str], stack: ExitStack) -> None:
    """Two ends of a cable: one here, one in a network namespace of its own that is named as that end."""
    ip("netns", "add", names[1])
    stack.callback(ip, "netns", "del", names[1])
    ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
    ip("link", "set", names[1], "netns", names[1])
    ip("addr", "add", f"{_SERVER_IP}/24", "dev", names[0])
    ip("link", "set", names[0], "up")
    for end in (("addr", "add", f"{_SOURCE_IP}/24", "dev", names[1]), ("link", "set", names[1], "up")):
        ip("-n", names[1], *end)


def ip(*arguments: str) -> None:
    """Run Linux's tool for networks."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=WAIT_S)  # noqa: S607 # where it is differs


def n_volumes_in(journal: Path) -> int:
    """Volumes that were acknowledged so far."""
    return sum(isinstance(message, Volume) for path in journals(journal) for message in read_journal(path))


# ---------------------------------------------------------------- hostile frames


def hostile(folder: Path, n: int) -> dict[str, float]:
    """Send malformed messages: each must be refused, and say why; the server goes on, and does not grow."""
    rng = np.random.default_rng(SEED)
    refused = unexplained = 0
    with serving(folder) as (server, where), zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(where.ingest)
        before_mb = None
        for number in range(n):
            frames = damaged(rng)
            client.send_multipart(frames)
            if not client.poll(WAIT_S * 1e3):
                break
            reply = wire.from_frames(client.recv_multipart())
            refused += isinstance(reply, Refused) and bool(reply.why)
            unexplained += not isinstance(reply, Refused) or not reply.why
            if number == n // 10:
                before_mb = server.resident_mb()
            if number % 100 == 0:  # and bytes that are no ZeroMQ at all
                garbage(where.ingest, rng)
                garbage(where.publish, rng)
        growth_mb = server.resident_mb() - (before_mb or server.resident_mb())
        with Sender(where.ingest) as sender:
            alive = not sender.send(small.run()).duplicate
        crashed = server.code is not None or not alive or server.stop() != 0
    return {
        "hostile_frames": refused,
        "hostile_not_refused": n - refused,
        "hostile_rss_growth_mb": growth_mb,
        "hostile_crashes": float(crashed),
    }


def damaged(rng: np.random.Generator) -> list[bytes]:
    """Frames that are no message, as `wire` agrees: real ones with bytes changed, cut, added, repeated or left out."""
    originals = [small.run(), small.volume(int(rng.integers(12))), small.RANKING, Session(None).hello()]
    while True:
        frames = [bytearray(bytes(frame)) for frame in wire.to_frames(originals[rng.integers(len(originals))])]
        at = int(rng.integers(len(frames)))
        match rng.integers(6):
            case 0:
                frames[0][rng.integers(len(frames[0]))] = int(rng.integers(256))
            case 1:
                del frames[at][int(rng.integers(len(frames[at]))) :]
            case 2:
                frames[at] += rng.bytes(int(rng.integers(1, 100)))
            case 3:
                frames.insert(at, bytearray(frames[at]))
            case 4:
                frames = [bytearray(rng.bytes(int(rng.integers(200)))) for _ in range(rng.integers(1, 5))]
            case _:
                del frames[at]
        sent = [bytes(frame) for frame in frames]
        try:
            message = wire.from_frames(sent)
        except WireError:
            if sent:
                return sent
        else:
            if isinstance(message, Ranking):
                return sent  # well formed, but none that a server takes


def garbage(address: str, rng: np.random.Generator) -> None:
    """Open a plain connection, send bytes, and leave."""
    host, port = address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as plain:
        plain.sendall(rng.bytes(int(rng.integers(1, 2000))))


# ---------------------------------------------------------------- full speed, and a client that stops


def full_speed(folder: Path, n: int) -> dict[str, float]:
    """Volumes as fast as the server takes them, with displays, the second half of them with one that was stopped."""
    p99_ms, resident_mb = [], []
    with serving(folder) as (server, where), ExitStack() as stack, Sender(where.ingest) as sender:
        displays = [Part("display", "--from", where.publish, "--to", where.ingest, "--backend", "terminal")]
        displays += [_listener(where.publish) for _ in range(N_DISPLAYS - 1)]
        for one in displays:
            stack.callback(one.kill)
        subscriber = stack.enter_context(Subscriber(where.publish))
        volumes = [small.volume(index % 12) for index in range(12)]
        n_half = n // 2
        for half in range(2):
            run_id = f"run-{half}"
            if half:
                os.kill(displays[0].process.pid, signal.SIGSTOP)
            sender.send(small.run(run_id, n_volumes=None, blocks=()))
            latencies_ms = []
            for index in range(n_half):
                volume = volumes[index % 12]
                sender.send(Volume(run_id, index, index * small.TR_S, volume.data))
                while (message := subscriber.poll()) is not None:
                    if isinstance(message, Ranking | NotReady) and message.run_id == run_id:
                        latencies_ms.append(sum(message.stage_ms.values()))
                if index in (n_half // 5, n_half - 1):
                    resident_mb.append(server.resident_mb())
            p99_ms.append(float(np.percentile(latencies_ms[n_half // 5 :], 99)))
        os.kill(displays[0].process.pid, signal.SIGCONT)
        crashed = server.code is not None or server.stop() != 0
    return {
        "volumes_at_full_speed": 2.0 * n_half,
        "rss_growth_mb": resident_mb[-1] - resident_mb[0],
        "p99_ms": p99_ms[0],
        "p99_ms_with_a_stopped_display": p99_ms[1],
        "speed_crashes": float(crashed),
    }


class _Listener(Part):
    """A subscriber that reads all it hears, and does nothing with it."""

    CODE = "import sys; from rtgod.client import Subscriber\ns = Subscriber(sys.argv[1])\nwhile True: s.poll(1)"

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", self.CODE, *self._arguments])


def _listener(address: str) -> Part:
    return _Listener(address)


# ---------------------------------------------------------------- keys


def keys(folder: Path) -> dict[str, float]:
    """Clients that must not send volumes, and whether one that may still can."""
    for role in Role:
        add_client(folder / "keys", role.value, role)
    add_client(folder / "other", "stranger", Role.SOURCE)
    theirs = read_client_key(folder / "keys" / "source.key")
    stranger = read_client_key(folder / "other" / "stranger.key")
    to_us = type(stranger)(stranger.name, stranger.role, stranger.public, stranger.secret, theirs.server)
    wrong = {"no key": None, "another server's key": stranger, "a key that nobody registered": to_us}
    wrong |= {role: read_client_key(folder / "keys" / f"{role}.key") for role in ("watch", "display")}
    refused = 0
    with serving(folder, "--keys", str(folder / "keys")) as (server, where):
        for name, key in wrong.items():
            try:
                with Sender(where.ingest, timeout_s=1.0, patience_s=3.0, key=key) as sender:
                    sender.send(small.run())
            except (RefusedError, ServerError):
                refused += 1
            else:
                print(f"NOT refused: {name}", file=sys.stderr)
        with Sender(where.ingest, key=theirs) as sender:
            taken = not sender.send(small.run()).duplicate
        with Subscriber(where.publish, wrong["watch"]) as watching:
            deadline_s = time.monotonic() + WAIT_S
            while not (seen := isinstance(watching.poll(1.0), Status)) and time.monotonic() < deadline_s:
                pass
        crashed = server.stop() != 0
    return {
        "wrong_keys": float(len(wrong)),
        "wrong_keys_refused": float(refused),
        "right_keys_let_in": float(taken) + float(seen),
        "keyed_server_crashes": float(crashed),
    }


if __name__ == "__main__":
    sys.exit(main())
