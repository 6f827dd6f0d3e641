"""The participant's side of an experiment: paradigms, screens, triggers, recordings, blinding."""
