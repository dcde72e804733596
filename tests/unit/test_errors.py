import pytest

from boldstream.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "most", "question"),
    [
        ("agee", ["sex", "age"], 1, "did you mean 'age'?"),
        ("toy", ["toy1", "toys", "sex"], 2, "did you mean 'toys' or 'toy1'?"),
        ("toy", ["toy1", "toys", "sex"], 1, "did you mean 'toys'?"),
        ("toy", iter(["toys", "toys"]), 2, "did you mean 'toys'?"),
        ("lrr", {"lr": "optim.lr", "size": "size"}, 1, "did you mean 'optim.lr'?"),
        ("toy", ["site"], 3, ""),
        ("toy", [], 3, ""),
    ],
)
def test_did_you_mean__offers_what_is_near(name, known, most, question):
    assert did_you_mean(name, known, most) == question
