"""Screens and scenes as pixels: in a PsychoPy window, without one, or as text."""
