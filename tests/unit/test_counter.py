import torch
from hypothesis import given
from hypothesis import strategies as st

from boldstream.encoders.brainjepa.masks.counter import permutations, uniform, words

KEYS = st.integers(-(2**63), 2**63 - 1)


def splitmix64(state):
    """Mix one state in Python's whole numbers."""
    z = state % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


@given(key=KEYS, n_draws=st.integers(1, 5))
def test_words__are_splitmix64_in_counter_mode(key, n_draws):
    expected = [splitmix64(splitmix64(key) + draw * 0x9E3779B97F4A7C15) for draw in range(1, n_draws + 1)]
    found = words(torch.tensor([key]), n_draws)
    assert found[0].tolist() == expected
    assert uniform(found)[0].tolist() == [(word >> 11) / 2**53 for word in expected]


def test_words__of_splitmix64_are_the_published_ones():
    # first outputs of the reference generator for seed 1234567 (prng.di.unimi.it/splitmix64.c)
    assert splitmix64(1234567 + 0x9E3779B97F4A7C15) == 6457827717110365317
    assert splitmix64(1234567 + 2 * 0x9E3779B97F4A7C15) == 3203168211198807973


def test_permutations__are_the_order_of_the_words():
    found = words(torch.arange(3), 20)
    for order, row in zip(permutations(found).tolist(), found.tolist(), strict=True):
        assert order == sorted(range(20), key=row.__getitem__)
