"""A receiver of a plain protocol that steps when the test says so, with a clock that the test moves."""

import socket

from rtgod.receivers.listening import listening_at
from rtgod.receivers.run_options import RunOptions
from tests.rtgod.receivers.test_watcher import Server


class Receiver:
    """A receiver of one kind, beside a server that takes everything."""

    def __init__(self, kind, **options):
        self.server, self.lines, self.now_s = Server(), [], 0.0
        listening = listening_at("127.0.0.1", 0, ())
        self.receiver = kind(listening, self.server, RunOptions(**options), self.lines.append, lambda: self.now_s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.receiver.__exit__(None, None, None)

    def step(self, n=5, seconds=0.0):
        self.now_s += seconds
        for _ in range(n):
            self.receiver.step(0.02)


def held_port(port=0):
    """Bind a port without listening there: it stays free for a receiver, and nobody else gets it by chance.

    Systems give free ports to whoever connects or listens; one that was only looked up may be taken by the next moment.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        raise
    return held
