"""Random numbers as a function of (window key, draw): splitmix64 in counter mode, for a whole batch at once.

Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. Integers wrap at 64 bits.
"""

import numpy as np
import torch
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64


def words(keys_B: Tensor, n_draws: int) -> Tensor:
    """Return `n_draws` random words for every key.

    Parameters
    ----------
    keys_B : tensor, shape (B,), int64

    Returns
    -------
    tensor, shape (B, n_draws), int64
        Uniform over all int64.
    """
    draws = torch.arange(1, n_draws + 1)
    return _mix(_mix(keys_B)[:, None] + draws * GAMMA)


def uniform(words: Tensor) -> Tensor:
    """Map random words to [0, 1), float64."""
    return _shift(words, 11).double() * 2.0**-53


def permutations(words: Tensor) -> Tensor:
    """Return the order of random words along the last axis: uniform permutations, int64."""
    # numpy sorts 64-bit integers three times as fast as torch
    return torch.from_numpy(np.argsort(words.numpy(), axis=-1))


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * MIX_1
    z = (z ^ _shift(z, 27)) * MIX_2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros (torch fills with the sign)."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
