"""A scanner at the desk: runs played as scanners and their tools send them, with faults on request."""
