"""Disturbed sessions: killed processes, bad networks, hostile messages, clients that stop, keys that are wrong.

Servers, sources and displays are the real commands in processes of their own; the decoder and its volumes are small, so
that a session takes seconds. The journal of a disturbed session, and the answers that it published, are compared with
the answers to the same volumes in one process that nothing disturbs. The exit code is 1 if any figure is out of its
limits.

    python -m benchmarks.soak [--short] [--kills N] [--frames N] [--volumes N] [--json PATH]
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import zmq

from benchmarks import attacks, blinding, chaos, hostile, poison, restarts, supervised
from benchmarks.figures import print_all, write_json
from benchmarks.sessions import (
    SEED,
    WAIT_S,
    Addresses,
    Answers,
    Part,
    content,
    differences,
    n_volumes_in,
    run_files,
    serving,
    undisturbed,
    until,
)
from rtgod.errors import RefusedError, ServerError
from rtgod.journal.journal import journals, read_journal
from rtgod.messages import NotReady, Ranking, Refused, Run, Status, Volume
from rtgod.protocol.clients import Sender, Subscriber
from rtgod.protocol.frames import from_frames
from rtgod.protocol.keys import ClientKey, Role, add_client, read_client_key
from rtgod.replay import send_run
from rtgod.sources import open_source
from tests import small

N_RUNS, N_VOLUMES = 3, 40
#: Factor by which runs are replayed faster than they were scanned: a volume each 50 ms.
SPEED = 40.0
N_DISPLAYS = 10
#: Number of turns at full speed; a display is stopped in every second of them.
N_TURNS = 8
#: Greatest values of figures; a larger one is a failure, as is one above 0 whose name has a word of `NOUGHT`.
MOST = {
    "rss_growth_mb": 10.0,
    "hostile_rss_growth_mb": 20.0,
    "memory_attack_growth_mb": 150.0,
    "stall_ms_max": 2_000.0,
    "dead_peer_noticed_s": 10.0,
    "restart_s_after_20000": 5.0,
}
LEAST_LEAK_AUC = 0.9
NOUGHT = ("lost", "duplicated", "different", "crashes", "not_refused", "not_let_in", "gave_up", "during_the_cut")

#: Greatest number of starts of a source that gives up, as a person would start it; volumes not sent then are lost.
MOST_STARTS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a minute instead of many")
    parser.add_argument("--kills", type=int, help="of processes; default 500, short 6")
    parser.add_argument("--frames", type=int, help="hostile messages; default 100000, short 2000")
    parser.add_argument("--volumes", type=int, help="at full speed; default 20000, short 600")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    print(f"seed {SEED}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, float] = {}
        figures |= killed(Path(folder, "killed"), options.kills or (6 if options.short else 500))
        figures |= garbled(Path(folder, "garbled"), 1 if options.short else 10)
        figures |= broken(Path(folder, "broken"), 1 if options.short else 10)
        figures |= cut(Path(folder, "cut"), 3.0 if options.short else 30.0)
        figures |= attacked(Path(folder, "attacked"), options.frames or (2_000 if options.short else 100_000))
        figures |= full_speed(Path(folder, "speed"), options.volumes or (600 if options.short else 20_000))
        figures |= keys(Path(folder, "keys"))
        figures |= supervised.supervised(Path(folder, "supervised"), 2 if options.short else 40)
        figures |= restarts.restarted(Path(folder, "restarted"), 300 if options.short else 20_000)
        figures |= edges(Path(folder), short=options.short)
        if not options.short:  # it takes minutes, and has a test of its own
            figures |= blinding.blinding(Path(folder, "blinding"), 40)
    figures["crashes"] = sum(figures.pop(name) for name in [*figures] if name.endswith("_crashes"))
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    for name in (failures := failed(figures)):
        print(f"NOT as it must be: {name}", file=sys.stderr)
    return int(bool(failures))


def edges(folder: Path, *, short: bool) -> dict[str, float]:
    """Measure with clients that are killed, messages that could break a server, and clients that attack memory."""
    parts = [
        attacks.killed_clients(folder / "killed-clients", 24 if short else 1_000),
        poison.poison(folder / "poison", 1 if short else 20),
        attacks.memory_attacks(folder / "memory", for_s=0.5 if short else attacks.ATTACK_S),
    ]
    stalls_ms = [part.pop("stall_ms_max") for part in parts]
    return {name: value for part in parts for name, value in part.items()} | {"stall_ms_max": max(stalls_ms)}


def failed(figures: Mapping[str, float]) -> list[str]:
    """Return the names of the figures that are out of their limits."""
    above = [name for name, value in figures.items() if value > _most(name)]
    # The test of blinding must tell conditions apart no better than by chance, but must find the leak given to it.
    if figures.get("blinding_auc", 0.0) > figures.get("blinding_auc_null_p99", 1.0):
        above.append("blinding_auc")
    if figures.get("blinding_auc_of_a_leak", 1.0) < LEAST_LEAK_AUC:
        above.append("blinding_auc_of_a_leak")
    return above


def _most(name: str) -> float:
    return MOST.get(name, 0.0 if any(word in name for word in NOUGHT) else math.inf)


# ---------------------------------------------------------------- killed processes


def killed(folder: Path, n_kills: int) -> dict[str, float]:
    """Kill server, source and display at random moments of sessions, until `n_kills` were killed."""
    rng = random.Random(SEED)  # noqa: S311 # chance, not secrets
    runs = run_files(folder / "runs", N_RUNS, N_VOLUMES)
    expected = undisturbed(runs)
    totals: Counter[str] = Counter()
    restarts_s: list[float] = []
    while totals["kills"] < n_kills:
        place = folder / f"session-{totals['sessions']}"
        totals += disturbed(place, runs, expected, rng, n_kills - totals["kills"], restarts_s)
        totals.update(differences(place / "journal", expected))
        print(f"kills: {totals['kills']} of {n_kills}, {dict(totals)}", file=sys.stderr)
    names = ("kills", "kills_server", "kills_source", "kills_display", "sessions", "lost", "duplicated")
    return {
        **{name: totals[name] for name in (*names, "different_rankings", "published", "published_different")},
        "kill_crashes": totals["crashes"],
        "restart_s_median": float(np.median(restarts_s)) if restarts_s else 0.0,
        "restart_s_p99": float(np.percentile(restarts_s, 99)) if restarts_s else 0.0,
    }


def disturbed(
    place: Path,
    runs: Sequence[Path],
    expected: Answers,
    rng: random.Random,
    n_kills: int,
    restarts_s: list[float],
) -> Counter[str]:
    """Run a session in which up to `n_kills` processes are killed; return counts of its events."""
    counts = Counter(sessions=1)
    with serving(place) as (server, where), Subscriber(where.publish) as subscriber:
        ready = place / "ready.json"
        with Part("display", "--from", where.publish, "--to", where.ingest, "--backend", "terminal") as display:
            for path in runs:
                with Part("replay", str(path), "--to", where.ingest, "--speed", str(SPEED)) as source:
                    parts = {"server": server, "source": source, "display": display}
                    give_up_s = time.monotonic() + 10 * WAIT_S
                    while source.code is None and time.monotonic() < give_up_s:
                        counts += heard(subscriber, rng.uniform(0.0, 1.0), expected)
                        if counts["kills"] >= n_kills or source.code is not None:
                            continue
                        # The display keeps no data, so it is killed less often.
                        name = rng.choice(("server", "server", "source", "source", "display"))
                        parts[name].kill()
                        counts.update(("kills", f"kills_{name}"))
                        if name == "server":
                            ready.unlink(missing_ok=True)
                        parts[name].start()
                        # In the other cases the server may be killed while it is starting.
                        if name == "server" and rng.random() < 0.7:
                            started_s = time.monotonic()
                            until(ready.exists, "server that was started again")
                            restarts_s.append(time.monotonic() - started_s)
                    counts["crashes"] += source.ended()
            until(ready.exists, "server")  # the server may be starting once more
            counts["crashes"] += server.stop()
    return counts


def heard(subscriber: Subscriber, for_s: float, expected: Answers) -> Counter[str]:
    """Listen for `for_s` seconds; count the published answers, and those that differ from the expected ones."""
    counts: Counter[str] = Counter()
    until_s = time.monotonic() + for_s
    while (left_s := until_s - time.monotonic()) > 0:
        answer = subscriber.poll(left_s)
        if isinstance(answer, Ranking | NotReady):
            counts["published"] += 1
            counts["published_different"] += content(answer) != expected.get((answer.run_id, answer.index))
    return counts


# ---------------------------------------------------------------- a bad network


def garbled(folder: Path, n_runs: int) -> dict[str, float]:
    """Send runs through a proxy that loses, delays, doubles and cuts messages, both ways."""
    runs = run_files(folder / "runs", n_runs, N_VOLUMES)
    with serving(folder) as (server, where):
        with chaos.garbling(where.ingest, SEED) as (address, fates):
            gave_up = send_all(runs, address)
        crashed = server.stop()
    counts = differences(folder / "journal", undisturbed(runs))
    return {
        **{f"messages_{fate.replace(' ', '_')}": fates[fate] for fate in chaos.FATES},
        **{f"proxy_{name}": value for name, value in counts.items()},
        "proxy_sources_gave_up": gave_up,
        "proxy_crashes": crashed,
    }


def broken(folder: Path, n_runs: int) -> dict[str, float]:
    """Send runs, and listen, through connections that break at random, within messages."""
    runs = run_files(folder / "runs", n_runs, N_VOLUMES)
    expected = undisturbed(runs)
    with serving(folder) as (server, where):
        with (
            chaos.breaking(where.ingest, SEED) as (ingest, of_sources),
            chaos.breaking(where.publish, SEED) as (publish, of_displays),
            Subscriber(publish) as subscriber,
            ThreadPoolExecutor(1) as pool,
        ):
            # Listening must go on while runs are sent: after a break, only a subscriber that reads subscribes anew.
            sending = pool.submit(send_all, runs, ingest)
            published: Counter[str] = Counter()
            while not sending.done():
                published += heard(subscriber, 0.1, expected)
            published += heard(subscriber, 1.0, expected)
        crashed = server.stop()
    return {
        "connections_broken": of_sources["broken"] + of_displays["broken"],
        "connections_published": published["published"],
        "connections_published_different": published["published_different"],
        **{f"connections_{name}": value for name, value in differences(folder / "journal", expected).items()},
        "connections_sources_gave_up": sending.result(),
        "connections_crashes": crashed,
    }


def send_all(runs: Sequence[Path], address: str) -> int:
    """Send runs as `rtgod replay` does, as fast as possible; return how often a source gave up."""
    n_gave_up = 0
    for path in runs:
        source = open_source(path)
        for _ in range(MOST_STARTS):
            try:
                with Sender(address, timeout_s=0.2, patience_s=WAIT_S) as sender:
                    list(send_run(source, sender, math.inf, acquisition=source.acquisition()))
                break
            except (RefusedError, ServerError) as error:
                n_gave_up += 1
                print(f"{path.name}: the source gave up: {error}", file=sys.stderr)
    return n_gave_up


# ---------------------------------------------------------------- a cut cable


def cut(folder: Path, cut_s: float) -> dict[str, float]:
    """Pull the cable between a source and the server for a while; return no figures if networks cannot be made."""
    runs = run_files(folder / "runs", 1, N_VOLUMES)
    add_client(folder / "keys", "scanner", Role.SOURCE)
    key = str(folder / "keys" / "scanner.key")
    journal = folder / "journal"
    with ExitStack() as stack:
        try:
            device, namespace = stack.enter_context(chaos.cable())
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no cable is pulled: networks cannot be made here ({error})", file=sys.stderr)
            return {}
        of_server = serving(folder, "--keys", str(folder / "keys"), host=chaos.SERVER_IP)
        server, where = stack.enter_context(of_server)
        source = Part("replay", str(runs[0]), "--to", where.ingest, "--speed", "10", "--key", key, within=namespace)
        stack.enter_context(source)
        until(lambda: n_volumes_in(journal) > 5, "the first volumes")
        chaos.plug(device, in_place=False)
        # Data that were on their way have arrived by then, or are lost.
        time.sleep(min(1.0, cut_s / 2))
        before = n_volumes_in(journal)
        time.sleep(cut_s - min(1.0, cut_s / 2))
        meanwhile = n_volumes_in(journal) - before
        chaos.plug(device, in_place=True)
        crashed = source.ended(2 * WAIT_S) + server.stop()
    return {
        "network_cut_s": cut_s,
        "volumes_during_the_cut": meanwhile,
        **{f"cut_{name}": value for name, value in differences(journal, undisturbed(runs)).items()},
        "cut_crashes": crashed,
    }


# ---------------------------------------------------------------- hostile frames


def attacked(folder: Path, n: int) -> dict[str, float]:
    """Send `n` hostile messages: the server must refuse each with a reason, go on, and not grow."""
    rng = random.Random(SEED)  # noqa: S311 # chance, not secrets
    counts: Counter[str] = Counter()
    resident_mb = []
    with serving(folder) as (server, where), zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(where.ingest)

        def send(frames: list[bytes]) -> None:
            if counts["silent"]:
                return  # a server that did not answer once is dead; waiting again would cost a minute each time
            client.send_multipart(frames)
            if not client.poll(WAIT_S * 1e3):
                counts["silent"] += 1
                return
            reply = from_frames(client.recv_multipart())
            counts["refused"] += isinstance(reply, Refused) and bool(reply.why.strip())
            counts["sent"] += 1
            if counts["sent"] % 100 == 0:  # and bytes that are no message at all
                for address in (where.ingest, where.publish):
                    write_plainly(address, hostile.garbage(rng))
                    counts["garbage"] += 1
            if counts["sent"] == n // 10:
                resident_mb.append(server.resident_mb())

        for _ in range(n - n // 2):
            send(hostile.by_bytes(rng))
        hostile.send_by_fields(n // 2, send)
        if crashed := server.code is not None:
            server.ended()
        else:
            resident_mb.append(server.resident_mb())
            with Sender(where.ingest) as sender:
                sender.send(small.run())
            crashed = bool(server.stop())
    return {
        "hostile_frames": counts["sent"],
        "hostile_not_refused": n - counts["refused"],
        "hostile_connections": counts["garbage"],
        "hostile_rss_growth_mb": resident_mb[-1] - resident_mb[0],
        "hostile_crashes": crashed,
    }


def write_plainly(address: str, data: bytes) -> None:
    """Open a plain connection, send bytes, and leave."""
    host, port = address.removeprefix("tcp://").split(":")
    # The server may well hang up before all is sent.
    with suppress(ConnectionError), socket.create_connection((host, int(port)), WAIT_S) as plain:
        plain.sendall(data)


# ---------------------------------------------------------------- full speed, and a client that stops


def full_speed(folder: Path, n: int) -> dict[str, float]:
    """Send volumes as fast as the server takes them, to ten displays; every second turn, one of them is stopped.

    The time from one acknowledgement to the next is measured. It holds all that the server does for a volume, also
    publishing, which only a source can see. (The stages in a ranking end before it is published.)
    """
    n_in_turn = n // N_TURNS
    with serving(folder) as (server, where), ExitStack() as stack:
        displays: list[Part] = [_Screen(where, folder / "screen.ready")]
        displays += [_Listener(where.publish, str(folder / f"{number}.ready")) for number in range(N_DISPLAYS - 1)]
        for display in displays:
            stack.enter_context(display)
        until(lambda: len([*folder.glob("*.ready")]) == N_DISPLAYS, "displays")
        sender = stack.enter_context(Sender(where.ingest))
        volumes = [small.volume(index) for index in range(12)]
        resident_mb, turns_ms = [server.resident_mb()], []
        # The first turn fills caches and pools.
        for turn in range(-1, N_TURNS):
            stopped = turn % 2 == 1 and turn > 0
            os.kill(displays[0].process.pid, signal.SIGSTOP if stopped else signal.SIGCONT)
            run_id = f"run-{turn + 1}"
            sender.send(small.run(run_id, n_volumes=None, blocks=()))
            times_s = [time.perf_counter()]
            for index in range(n_in_turn):
                sender.send(Volume(run_id, index, index * small.TR_S, volumes[index % len(volumes)].data))
                times_s.append(time.perf_counter())
            turns_ms.append(1e3 * np.diff(times_s)[1:])
            resident_mb.append(server.resident_mb())
        os.kill(displays[0].process.pid, signal.SIGCONT)
        crashed = server.stop()
    alone, beside = ([np.percentile(ms, 99) for ms in turns_ms[1 + offset :: 2]] for offset in (0, 1))
    return {
        "volumes_at_full_speed": n_in_turn * N_TURNS,
        "rss_growth_mb": resident_mb[-1] - resident_mb[1],
        "server_p99_ms": float(np.median(alone)),
        "server_p99_ms_lowest": float(min(alone)),
        "server_p99_ms_highest": float(max(alone)),
        "server_p99_ms_with_stopped_display": float(np.median(beside)),
        "speed_crashes": crashed,
    }


class _Screen(Part):
    """A display that writes a file once it has heard the server."""

    def __init__(self, where: Addresses, ready: Path) -> None:
        super().__init__(
            *("display", "--from", where.publish, "--to", where.ingest),
            *("--backend", "terminal", "--ready-file", str(ready)),
        )


class _Listener(Part):
    """A subscriber that writes a file once it has heard the server, reads all it hears, and does nothing with it."""

    _CODE = """
import pathlib, sys
from rtgod.protocol.clients import Subscriber
with Subscriber(sys.argv[1]) as subscriber:
    while subscriber.poll(1) is None:
        pass
    pathlib.Path(sys.argv[2]).touch()
    while True:
        subscriber.poll(1)
"""

    def command(self) -> list[str]:
        return ["-c", self._CODE, *self._arguments]


# ---------------------------------------------------------------- keys


def keys(folder: Path) -> dict[str, float]:
    """Send with keys of clients that must not send, and check that a source's key still can, and a watcher's watch."""
    for role in Role:
        add_client(folder / "keys", role.value, role)
    add_client(folder / "other", "stranger", Role.SOURCE)
    registered = {role: read_client_key(folder / "keys" / f"{role}.key") for role in Role}
    stranger = read_client_key(folder / "other" / "stranger.key")
    wrong = {
        "no key": None,
        "another server's key": stranger,
        "a key that nobody registered": dataclasses.replace(stranger, server=registered[Role.SOURCE].server),
        "a key to watch with": registered[Role.WATCH],
        "a display's key": registered[Role.DISPLAY],
    }
    let_in = not_let_in = 0
    with serving(folder, "--keys", str(folder / "keys")) as (server, where):
        for name, key in wrong.items():
            for message in (small.run(), small.volume(0)):
                if not (why := why_refused(where.ingest, key, message)):
                    let_in += 1
                print(f"{name}, {type(message).__name__}: {why or 'NOT refused'}", file=sys.stderr)
        not_let_in += bool(why_refused(where.ingest, registered[Role.SOURCE], small.run()))
        with Subscriber(where.publish, registered[Role.WATCH]) as watching:
            until(lambda: isinstance(watching.poll(1.0), Status), "a watcher's first status")
        crashed = server.stop()
    (journal,) = journals(folder / "journal")
    taken = sum(isinstance(message, Run | Volume) for message in read_journal(journal))
    return {
        "wrong_keys": len(wrong),
        "wrong_keys_not_refused": let_in + max(0, taken - 1),
        "right_keys_not_let_in": not_let_in,
        "key_crashes": crashed,
    }


def why_refused(address: str, key: ClientKey | None, message: Run | Volume) -> str:
    """Return why a server refuses a message from a client with this key; empty if it takes the message."""
    try:
        with Sender(address, timeout_s=1.0, patience_s=3.0, key=key) as sender:
            sender.send(message)
    except (RefusedError, ServerError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
