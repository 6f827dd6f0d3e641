"""Real-time generic object decoding: the online system, the types that all packages share, and a Python API.

The names in `__all__` are the API; everything else may move. Each is imported when it is first used, so that
`import rtgod` loads neither numba nor ZeroMQ. Code that needs the packages of calibration is in `calibration`; `rtgod`
does not depend on it.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtgod.api import decode_run as decode_run
    from rtgod.api import load_bundle as load_bundle
    from rtgod.api import open_run as open_run
    from rtgod.api import read_events as read_events
    from rtgod.api import read_journal as read_journal
    from rtgod.api import read_key as read_key
    from rtgod.api import status as status
    from rtgod.api import subscribe as subscribe
    from rtgod.bundle import DecoderBundle as DecoderBundle
    from rtgod.errors import InputError as InputError
    from rtgod.errors import RtgodError as RtgodError
    from rtgod.errors import ServerError as ServerError
    from rtgod.events.table import label_of as label_of
    from rtgod.journal.contents import Journal as Journal
    from rtgod.messages import Block as Block
    from rtgod.messages import Event as Event
    from rtgod.messages import Motion as Motion
    from rtgod.messages import NotReady as NotReady
    from rtgod.messages import Ranking as Ranking
    from rtgod.messages import Reason as Reason
    from rtgod.messages import Run as Run
    from rtgod.messages import RunEnd as RunEnd
    from rtgod.messages import Volume as Volume
    from rtgod.protocol.clients import Sender as Sender
    from rtgod.replay import send_run as send_run
    from rtgod.settings import PipelineSettings as PipelineSettings
    from rtgod.sources import Source as Source

__version__ = version("rtgod")

#: Public names by module.
_PUBLIC = {
    "rtgod.api": (
        "decode_run",
        "load_bundle",
        "open_run",
        "read_events",
        "read_journal",
        "read_key",
        "status",
        "subscribe",
    ),
    "rtgod.bundle": ("DecoderBundle",),
    "rtgod.errors": ("InputError", "RtgodError", "ServerError"),
    "rtgod.events.table": ("label_of",),
    "rtgod.journal.contents": ("Journal",),
    "rtgod.messages": ("Block", "Event", "Motion", "NotReady", "Ranking", "Reason", "Run", "RunEnd", "Volume"),
    "rtgod.protocol.clients": ("Sender",),
    "rtgod.replay": ("send_run",),
    "rtgod.settings": ("PipelineSettings",),
    "rtgod.sources": ("Source",),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]


# Hidden from type checkers: with it they would accept every misspelt name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
