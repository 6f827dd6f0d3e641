"""Runs as plain values: schedules, their files, and what is on the screen at each moment."""
