"""Entry point of `python -m rtgod`: run the command line."""

from rtgod.commands.main import main

if __name__ == "__main__":
    main()
