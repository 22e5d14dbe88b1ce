"""`python -m attunet`: the command line, for environments without `attunet` on the path."""

from attunet.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
