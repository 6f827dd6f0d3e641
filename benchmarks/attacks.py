"""Servers under attack: clients that are killed, clients that attack memory, and the effect on a real source.

python -m benchmarks.attacks [--killed N] [--for SECONDS]
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import attackers, chaos
from benchmarks.figures import print_all
from benchmarks.sessions import WAIT_S, Addresses, Part, serving, until
from rtgod.errors import RefusedError, ServerError
from rtgod.journal.journal import journals, read_journal
from rtgod.messages import Run, Volume
from rtgod.protocol.clients import Sender
from rtgod.protocol.keys import ClientKey, Role, add_client, read_client_key
from tests import small

#: Time from one volume of the real source to the next, seconds, and number of volumes in a run.
EACH_S, N_IN_RUN = 0.1, 200
#: Length of an attack, and time after it at which memory is measured, seconds.
ATTACK_S, AFTER_S = 2.0, 0.3
#: Time after which a connection that was not accepted counts as refused, seconds.
LET_IN_S = 0.2
#: Kinds of servers: without keys, and with.
KINDS = ("plain", "curve")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__.splitlines()[0])
    parser.add_argument("--killed", type=int, default=1000, help="clients to kill; default 1000")
    parser.add_argument("--for", dest="for_s", type=float, default=ATTACK_S, help="seconds of each attack on memory")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = killed_clients(Path(folder, "killed"), options.killed)
        stalls_ms = [figures.pop("stall_ms_max")]
        figures |= memory_attacks(Path(folder, "memory"), for_s=options.for_s)
        figures["stall_ms_max"] = max(*stalls_ms, figures["stall_ms_max"])
    print_all(figures)
    return 0


def killed_clients(folder: Path, n: int) -> dict[str, float]:
    """Kill `n` clients of every kind, several at once, while a source sends volumes to servers without and with keys.

    Returns
    -------
    dict
        `killed_clients`; `killed_clients_crashes`, of servers; `killed_clients_lost`, volumes that were not
        acknowledged, or are not in the journal; `stall_ms_max`, the longest time that a volume waited for its
        acknowledgement; and `dead_peer_noticed_s`, if networks can be made here.
    """
    n_killed = n_crashes = n_lost = 0
    stall_ms = 0.0
    for kind in KINDS:
        place = folder / kind
        options = _keys(place, kind)
        with serving(place, *options) as (server, where):
            with _sending(place, kind, where) as source:
                n_killed += _attackers("kill", where, *options, "--n", n // len(KINDS), "--seed", n, for_s=n)
            n_crashes += server.stop()
        n_lost += source.n_lost + source.n_missing(place / "journal")
        stall_ms = max(stall_ms, source.longest_ms)
    return {
        "killed_clients": n_killed,
        "killed_clients_crashes": n_crashes,
        "killed_clients_lost": n_lost,
        "stall_ms_max": stall_ms,
        **dead_peer(folder / "cable"),
    }


def memory_attacks(
    folder: Path, names: Sequence[str] = tuple(attackers.ATTACKS), for_s: float = ATTACK_S
) -> dict[str, float]:
    """Attack the memory of servers without and with keys, in every way in turn, while a source sends volumes.

    Returns
    -------
    dict
        `memory_attack_growth_mb`, the greatest growth of a server's memory in an attack, at its peak;
        `memory_attack_crashes`; `memory_attack_lost`; and `stall_ms_max`, as in `killed_clients`.
    """
    n_crashes = n_lost = 0
    growth_mb = stall_ms = 0.0
    for kind in KINDS:
        place = folder / kind
        possible = attackers.ATTACKS if kind == "plain" else attackers.ATTACKS_WITH_KEYS
        options = _keys(place, kind)
        with serving(place, *options) as (server, where):
            with _sending(place, kind, where) as source:
                for name in (name for name in names if name in possible):
                    until(lambda: lets_in(where), "the server to let others in again")
                    before_mb = _resident_mb(server, "VmRSS", new_peak=True)
                    _attackers(name, where, *options, "--for", for_s, for_s=for_s)
                    time.sleep(AFTER_S)
                    grown_mb = _resident_mb(server, "VmHWM") - before_mb
                    longest_ms = source.longest_since_asked_ms()
                    print(f"{kind}, {name}: {grown_mb:.1f} MB more, {longest_ms:.0f} ms", file=sys.stderr)
                    growth_mb = max(growth_mb, grown_mb)
                    if server.code is not None:
                        break
            n_crashes += server.stop()
        n_lost += source.n_lost + source.n_missing(place / "journal")
        stall_ms = max(stall_ms, source.longest_ms)
    return {
        "memory_attack_growth_mb": growth_mb,
        "memory_attack_crashes": n_crashes,
        "memory_attack_lost": n_lost,
        "stall_ms_max": stall_ms,
    }


def _keys(place: Path, kind: str) -> list[str]:
    """Make keys, and return the options that name them to a server and its attackers; none for a plain server."""
    if kind == "plain":
        return []
    for role in Role:
        add_client(place / "keys", role.value, role)
    return ["--keys", str(place / "keys")]


def _attackers(attack: str, where: Addresses, *options: object, for_s: float) -> int:
    """Run attackers in a process of their own until they end, and return the number that they print."""
    command = [sys.executable, "-m", "benchmarks.attackers", attack, where.ingest, where.publish, *map(str, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=WAIT_S + 2 * for_s)
    return int(done.stdout)


def lets_in(where: Addresses) -> bool:
    """Whether a server accepts new connections: it may refuse them while it deals with an attack."""
    for address in (where.ingest, where.publish):
        ip, port = address.removeprefix("tcp://").split(":")
        try:
            socket.create_connection((ip, int(port)), LET_IN_S).close()
        except OSError:
            return False
    return True


def _resident_mb(server: Part, field: str, *, new_peak: bool = False) -> float:
    """Return a server's memory in MB, now (VmRSS) or at its peak since the last call with `new_peak` (VmHWM)."""
    process = Path(f"/proc/{server.process.pid}")
    if new_peak:
        (process / "clear_refs").write_text("5")
    for line in (process / "status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0  # the server is dead


class _Source:
    """A well-behaved source that sends runs until it is stopped, and measures how long acknowledgements take."""

    def __init__(self, address: str, key: ClientKey | None) -> None:
        self.n_lost, self.longest_ms, self._longest_ms = 0, 0.0, 0.0
        self._acknowledged: list[tuple[str, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(address, key))
        self._thread.start()

    def stop(self) -> None:
        """Stop after the volume that is being sent."""
        self._stop.set()
        self._thread.join(WAIT_S)

    def longest_since_asked_ms(self) -> float:
        """Return the longest time that a message waited since the last call, milliseconds."""
        longest_ms, self._longest_ms = self._longest_ms, 0.0
        return longest_ms

    def n_missing(self, journal: Path) -> int:
        """Return the number of volumes that were acknowledged but are not in the journal."""
        taken = {
            (message.run_id, message.index)
            for path in journals(journal)
            for message in read_journal(path)
            if isinstance(message, Volume)
        }
        return len(set(self._acknowledged) - taken)

    def _send(self, address: str, key: ClientKey | None) -> None:
        volumes = [small.volume(index) for index in range(12)]
        run_id = ""
        with Sender(address, patience_s=WAIT_S / 2, key=key) as sender:
            for number in range(sys.maxsize):
                if number % N_IN_RUN == 0:
                    run_id = f"run-{number // N_IN_RUN}"
                    self._timed(sender, small.run(run_id, n_volumes=N_IN_RUN, blocks=()))
                index = number % N_IN_RUN
                self._timed(sender, Volume(run_id, index, index * small.TR_S, volumes[index % len(volumes)].data))
                if self._stop.wait(EACH_S):
                    return

    def _timed(self, sender: Sender, message: Run | Volume) -> None:
        began_s = time.perf_counter()
        try:
            sender.send(message)
        except (RefusedError, ServerError) as error:
            self.n_lost += 1
            print(f"the source: {error}", file=sys.stderr)
            return
        took_ms = 1e3 * (time.perf_counter() - began_s)
        self.longest_ms, self._longest_ms = max(self.longest_ms, took_ms), max(self._longest_ms, took_ms)
        if isinstance(message, Volume):
            self._acknowledged.append((message.run_id, message.index))


@contextmanager
def _sending(place: Path, kind: str, where: Addresses) -> Iterator[_Source]:
    """Run a source that sends for as long as the context lasts."""
    key = read_client_key(place / "keys" / f"{Role.SOURCE}.key") if kind == "curve" else None
    source = _Source(where.ingest, key)
    try:
        yield source
    finally:
        source.stop()


# ---------------------------------------------------------------- a peer whose cable is pulled

_CLIENTS = """
import sys, time, zmq
from benchmarks.attackers import Place
from pathlib import Path
place = Place(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
clients = [place.connected(zmq.DEALER, "source"), place.connected(zmq.SUB, "watch")]
clients[1].setsockopt(zmq.SUBSCRIBE, b"")
while True:
    clients[1].recv_multipart()
"""


def dead_peer(folder: Path) -> dict[str, float]:
    """Measure how long a server keeps connections of clients whose cable was pulled; no figure if none can be made."""
    with ExitStack() as stack:
        try:
            device, namespace = stack.enter_context(chaos.cable())
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no cable is pulled: networks cannot be made here ({error})", file=sys.stderr)
            return {}
        options = _keys(folder, "curve")
        server, where = stack.enter_context(serving(folder, *options, host=chaos.SERVER_IP))
        arguments = [sys.executable, "-c", _CLIENTS, where.ingest, where.publish, str(folder / "keys")]
        command = ["ip", "netns", "exec", namespace, *arguments]  # the path of `ip` differs from system to system
        clients = subprocess.Popen(command)
        stack.callback(clients.wait, WAIT_S)
        stack.callback(clients.kill)
        ports = [int(address.rpartition(":")[2]) for address in (where.ingest, where.publish)]
        until(lambda: all(n_connections(port) for port in ports), "clients")
        time.sleep(1.5)  # so that one of the clients is idle
        began_s = time.monotonic()
        chaos.plug(device, in_place=False)
        until(lambda: not any(n_connections(port) for port in ports), "the end of the connections")
        noticed_s = time.monotonic() - began_s
        server.stop()
    return {"dead_peer_noticed_s": noticed_s}


def n_connections(port: int) -> int:
    """Return the number of IPv4 connections to a port of this computer, by any process."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
