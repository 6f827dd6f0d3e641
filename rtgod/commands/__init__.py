"""The command line: each module defines one command or one group of commands."""
