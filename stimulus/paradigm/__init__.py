"""Runs as plain values: schedules, their files, and the scene at each moment."""
