"""The demos: every room once, on real scans, through the same configurations and doors that a person uses."""

import argparse

from boldstream.demo.abide import ABIDE
from boldstream.demo.hcp import HCP
from boldstream.demo.walk import take

WALKS = {"hcp": HCP, "abide": ABIDE}


def run_demo() -> None:
    """Take the walk that the command line names; without one, that of the seven HCP scans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = "; ".join(f"{name}: {walk.about}" for name, walk in WALKS.items())
    parser.add_argument("walk", nargs="?", choices=sorted(WALKS), default="hcp", help=f"{told} (hcp if none is named)")
    take(WALKS[parser.parse_args().walk])
