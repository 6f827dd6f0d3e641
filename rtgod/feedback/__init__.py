"""The server's answers in the protocols of other tools: motion and the ranking's numbers as AFNI sends its own."""
