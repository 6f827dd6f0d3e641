"""Triggers, key presses and flips: when things happened, and when they will be seen."""
