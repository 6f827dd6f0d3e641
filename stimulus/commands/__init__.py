"""The commands `rtgod display`, `rtgod stimulus` and `rtgod unblind`."""
