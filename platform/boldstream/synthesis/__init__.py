"""Made-up people whose truth is known: who they are is drawn from a seed, their scans from who they are.

`SyntheticSpec` says how many and how strong, `make_brain` what all have in common, `draw_person` and `draw_scan` give
one of them by number. Everything follows from (seed, number, session), so people can be made anywhere, in any order.
"""

from boldstream.synthesis.brain import Brain, make_brain
from boldstream.synthesis.people import Person, draw_person, scan_mean_fd
from boldstream.synthesis.series import draw_scan
from boldstream.synthesis.spec import Effects, SyntheticSpec

__all__ = ["Brain", "Effects", "Person", "SyntheticSpec", "draw_person", "draw_scan", "make_brain", "scan_mean_fd"]
