import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.heads.ridge import ALPHAS
from boldstream.analysis.held_out import held_out

N, D, CUT = 120, 10, 80


def planted(noise=0.5):
    """Vectors, and an age and a sex that are linear in them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D))
    signal = x @ rng.normal(size=D) / np.sqrt(D) + noise * rng.normal(size=N)
    return x, 30 + 10 * signal, np.where(signal > 0, "M", "F")


def test_held_out__scores_against_the_training_mean():
    x, age, sex = planted()
    found = held_out(x[:CUT], age[:CUT], x[CUT:], age[CUT:], "continuous")
    assert set(found) == {"r2", "r", "mae"}
    assert found["r2"] > 0.5
    blind = held_out(np.zeros((CUT, 2)), age[:CUT], np.zeros((N - CUT, 2)), age[CUT:] + 100, "continuous")
    assert blind["r2"] == pytest.approx(0, abs=1e-9)
    assert blind["r"] == 0
    assert blind["mae"] == pytest.approx(np.abs(age[CUT:] + 100 - age[:CUT].mean()).mean())
    found = held_out(x[:CUT], sex[:CUT], x[CUT:], sex[CUT:], "binary")
    assert set(found) == {"auroc", "balanced_accuracy", "auprc", "brier"}
    assert found["auroc"] > 0.8
    assert found["balanced_accuracy"] > 0.65


def test_held_out__is_one_of_the_ridges_that_it_may_choose():
    x, age, _ = planted()
    found = held_out(x[:CUT].astype(np.float32), age[:CUT], x[CUT:], age[CUT:], "continuous")
    errors = []
    for alpha in np.array(ALPHAS) * D:
        model = make_pipeline(StandardScaler(), Ridge(alpha)).fit(x[:CUT], age[:CUT])
        errors.append(np.abs(model.predict(x[CUT:]) - age[CUT:]).mean())
    assert np.isclose(errors, found["mae"], rtol=1e-6).any()
    assert found["mae"] < 1.1 * min(errors)


@pytest.mark.parametrize("d", [3, 300])
def test_held_out__of_collapsed_vectors_gives_numbers(d):
    _, age, sex = planted()
    x = np.full((N, d), 0.1)
    assert held_out(x[:CUT], age[:CUT], x[CUT:], age[CUT:], "continuous")["r"] == 0
    assert held_out(x[:CUT], sex[:CUT], x[CUT:], sex[CUT:], "binary")["auroc"] == 0.5


def test_held_out__takes_two_of_a_class():
    x, _, sex = planted()
    rare = np.where(np.arange(CUT) < 2, "M", "F")
    assert 0 <= held_out(x[:CUT], rare, x[CUT:], sex[CUT:], "binary")["auroc"] <= 1
    with pytest.raises(ValueError, match="train_y has 1 row of a class; a logistic probe needs 2 to choose"):
        held_out(x[1:CUT], rare[1:], x[CUT:], sex[CUT:], "binary")


def test_held_out__refuses():
    x, age, sex = planted()
    with pytest.raises(ValueError, match="train_x has 10 dimensions, test_x 9"):
        held_out(x, age, x[:, 1:], age, "continuous")
    with pytest.raises(ValueError, match=r"test_y has the classes \['F', 'X'\], train_y \['F', 'M'\]"):
        held_out(x, sex, x, np.where(sex == "M", "X", "F"), "binary")
    with pytest.raises(ValueError, match=r"needs two classes, got \['M'\]"):
        held_out(x, sex, x[:3], np.repeat("M", 3), "binary")
    with pytest.raises(ValueError, match="4 groups of relatives are too few for 5 folds"):
        held_out(x[:4], age[:4], x, age, "continuous")
