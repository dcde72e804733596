"""`python -m boldstream …` is the `boldstream` command, where only the package is at hand and not its script."""

from boldstream.cli import main

if __name__ == "__main__":
    main()
