"""A receiver of a plain protocol that steps when the test says so, with a clock that the test moves."""

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
