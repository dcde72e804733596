"""Command lines that are no room's configuration: parsers that complain in one line."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, like every other error of boldstream."""

    def error(self, message: str) -> NoReturn:
        """End with one line and status 2."""
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` tells more)\n")
