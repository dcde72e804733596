"""Command lines that are no room's configuration: parsers that complain in one line."""

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, like every other error of boldstream."""

    def error(self, message: str) -> NoReturn:
        """End with one line and status 2."""
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` tells more)\n")

    def parse_known_args(self, *arguments: Any, **more: Any) -> tuple[Any, list[str]]:
        """Parse, and complain of what is left over: argparse leaves that to the outermost parser, with its help."""
        found, rest = super().parse_known_args(*arguments, **more)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest
