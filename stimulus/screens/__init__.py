"""Screens of the participant as plain values: no window, no font, no clock."""
