"""Which subjects are held out: a choice that follows from their names and a seed alone."""

import hashlib
from collections.abc import Sequence


def hold_out(subjects: Sequence[str], share: float, seed: int) -> set[str]:
    """Choose the subjects that are not trained on: `share` of them by a hash of seed and name, two at least.

    Parameters
    ----------
    subjects : sequence of str
        Each once.
    share : float
        0 holds nobody out.
    seed : int
    """
    if share == 0:
        return set()
    order = sorted(subjects, key=lambda subject: hashlib.sha256(f"{seed} holdout {subject}".encode()).digest())
    return set(order[: max(2, round(share * len(order)))])
