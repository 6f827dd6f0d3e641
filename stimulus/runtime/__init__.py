"""A run as it is played: the loop, its server, its log, the participant's answers."""
