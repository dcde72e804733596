"""Which subjects are held out, or taken: choices that follow from their names and a seed alone."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate


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
    order = _by_hash(subjects, f"{seed} holdout")
    return set(order[: max(2, round(share * len(order)))])


def draw_subjects(subjects: Iterable[str], most: int, seed: int) -> list[str]:
    """Draw subjects with all their rows until the next one's would be too many, in the order of a hash.

    The order of two subjects does not depend on who else is there: tables that share subjects share draws, and new
    subjects only push others out.

    Parameters
    ----------
    subjects : iterable of str
        Of every row.
    most : int
        Rows.
    seed : int
    """
    counts = Counter(subjects)
    # the word keeps the draws of results that were published when only probes drew
    order = _by_hash(counts, f"{seed} probe")
    totals = accumulate(counts[name] for name in order)
    return [name for name, total in zip(order, totals, strict=True) if total <= most]


def _by_hash(names: Iterable[str], salt: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt} {name}".encode()).digest())
