"""The command line: each module makes one command, or a few, of the parts below."""
