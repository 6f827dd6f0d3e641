"""Work on several processes or machines, with its progress and its times."""
