"""Real-time generic object decoding: the online system and the nouns that everything shares."""

from importlib.metadata import version

__version__ = version("rtgod")
