"""The journal on disk: written, read, verified, summarised and exported."""
