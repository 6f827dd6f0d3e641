"""Triggers, key presses and flips: times of past events, and of the next picture."""
