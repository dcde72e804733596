"""Random numbers as a function of (window key, draw): splitmix64 in counter mode, for a whole batch at once.

Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. Integers wrap at 64 bits; they
are numpy's, because torch has no arithmetic of unsigned integers and sorts long ones at a third of the speed.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def words(keys_B: Tensor, n_draws: int) -> NDArray[np.uint64]:
    """Return `n_draws` random words for every key.

    Parameters
    ----------
    keys_B : tensor, shape (B,), int64, on the CPU

    Returns
    -------
    array, shape (B, n_draws), uint64
        Uniform over all words.
    """
    keys = keys_B.contiguous().numpy().view(np.uint64)
    return _mix(_mix(keys.copy())[:, None] + np.arange(1, n_draws + 1, dtype=np.uint64) * GAMMA)


def uniform(words: NDArray[np.uint64]) -> Tensor:
    """Map random words to [0, 1), float64."""
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53)


def permutations(words: NDArray[np.uint64]) -> Tensor:
    """Return the order of random words along the last axis: uniform permutations, int64."""
    return torch.from_numpy(np.argsort(words, axis=-1))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix in place."""
    for bits, factor in ((30, MIX_1), (27, MIX_2)):
        z ^= z >> np.uint64(bits)
        z *= factor
    z ^= z >> np.uint64(31)
    return z
