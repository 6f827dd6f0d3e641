"""Conditions that nobody may know during a session: sham feedback, sealing, unsealing."""
