"""Lets `python -m rtgod` run the command line."""

from rtgod.cli import main

if __name__ == "__main__":
    main()
