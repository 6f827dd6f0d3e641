"""The journal on disk: writing, reading, verification, summary and export."""
