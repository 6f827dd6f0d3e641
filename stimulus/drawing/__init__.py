"""Drawing of screens and scenes: in a PsychoPy window, into an array without one, or as text."""
