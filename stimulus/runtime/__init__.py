"""Playing of a run: the loop, its server, its log, the participant's answers."""
