"""Conditions that nobody may know during a session: sham, sealing, unsealing."""
