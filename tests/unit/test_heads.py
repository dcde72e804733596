import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsRegressor

from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.heads.linear_classifiers import STRENGTHS, LogisticHead, SvmHead
from boldstream.analysis.heads.mlp import MlpHead
from boldstream.analysis.heads.neighbours import NeighboursHead
from boldstream.analysis.heads.ridge import ALPHAS, KernelRidgeHead, RidgeHead
from boldstream.analysis.heads.span import RowSpan
from boldstream.analysis.metrics import auc, indicators


def planted(n=150, d=8, seed=0):
    """Vectors of uneven scale, a target linear in them, two classes, uneven inner folds, and new vectors."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * rng.uniform(0.2, 5, d) + 3
    signal = (x - x.mean(axis=0)) @ rng.normal(size=d) / np.sqrt(d)
    y = 7 + signal + 2 * rng.normal(size=n)
    return (
        x,
        y,
        np.where(y > np.quantile(y, 0.7), "ill", "well"),
        rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1]),
        x[::-1] + 0.3,
    )


def splits_of(folds):
    return [(np.flatnonzero(folds != label), np.flatnonzero(folds == label)) for label in np.unique(folds)]


def chosen_by_hand(models, x, y, folds):
    errors = [
        np.mean([np.square(clone(m).fit(x[a], y[a]).predict(x[b]) - y[b]).mean() for a, b in splits_of(folds)])
        for m in models
    ]
    return models[int(np.argmin(errors))].fit(x, y)


@pytest.mark.parametrize("d", [8, 400])
def test_ridge__is_scikit_learns_with_the_same_folds(d):
    x, y, _, folds, new = planted(d=d)
    targets = np.column_stack([y, np.random.default_rng(0).permutation(y), x[:, 0]])
    head = RidgeHead().fit(x, targets, folds)
    scale = np.square(x - x.mean(axis=0)).sum() / len(x)
    assert len(set(head.alpha_)) > 1
    for at, target in enumerate(targets.T):
        theirs = RidgeCV(np.array(ALPHAS) * scale, cv=splits_of(folds), scoring="neg_mean_squared_error").fit(x, target)
        assert head.alpha_[at] == pytest.approx(theirs.alpha_)
        np.testing.assert_allclose(head.predict(new)[:, at], theirs.predict(new), rtol=1e-6)
        np.testing.assert_allclose(RidgeHead().fit(x, target, folds).predict(new), theirs.predict(new), rtol=1e-6)
    absolute = RidgeHead((3.0,), relative=False).fit(x, y, folds)
    np.testing.assert_allclose(absolute.predict(new), Ridge(3.0).fit(x, y).predict(new), rtol=1e-7)


def test_ridge__scale_and_shift_of_vectors_change_nothing():
    x, y, _, folds, new = planted()
    np.testing.assert_allclose(
        RidgeHead().fit(100 * x - 5, y, folds).predict(100 * new - 5), RidgeHead().fit(x, y, folds).predict(new)
    )


@pytest.mark.parametrize("d", [3, 300])
def test_heads__of_constant_vectors_predict_the_mean(d):
    _, y, ill, folds, _ = planted()
    x = np.full((len(y), d), 0.1)
    for head in (RidgeHead(), KernelRidgeHead("linear"), KernelRidgeHead("rbf"), KernelRidgeHead()):
        np.testing.assert_allclose(head.fit(x, y, folds).predict(x), y.mean())
    for head in (LogisticHead(), SvmHead()):
        assert np.ptp(head.fit(x, ill, folds).decision_function(x)) == 0
    np.testing.assert_allclose(LogisticHead().fit(x, ill, folds).decision_function(x), 0, atol=1e-5)


def test_kernel_ridge__agrees_with_ridge_and_scikit_learn():
    x, y, _, folds, new = planted(d=20)
    linear = KernelRidgeHead("linear").fit(x, y, folds)
    np.testing.assert_allclose(linear.predict(new), RidgeHead().fit(x, y, folds).predict(new), rtol=1e-7)
    rows = x - x.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    other = new - new.mean(axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    correlation = KernelRidgeHead("correlation").fit(x, y, folds)
    np.testing.assert_allclose(correlation.predict(new), RidgeHead().fit(rows, y, folds).predict(other), rtol=1e-7)
    rbf = KernelRidgeHead("rbf", alphas=(0.3,), widths=(1.0,)).fit(x, y, folds)
    kernel, across = rbf_kernel(x, x, 1 / rbf.width_), rbf_kernel(new, x, 1 / rbf.width_)
    middle = np.eye(len(x)) - 1 / len(x)
    alpha = 0.3 * np.trace(middle @ kernel @ middle) / len(x)
    theirs = KernelRidge(alpha=alpha, kernel="precomputed").fit(middle @ kernel @ middle, y - y.mean())
    centred = (across - kernel.mean(axis=0)) @ middle
    np.testing.assert_allclose(rbf.predict(new), theirs.predict(centred) + y.mean(), rtol=1e-7)


def test_kernel_ridge__chooses_the_width_that_fits():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, size=(200, 1))
    y = np.sin(4 * x[:, 0]) + 0.1 * rng.normal(size=200)
    head = KernelRidgeHead("rbf", widths=(0.02, 1.0, 50.0)).fit(x, np.column_stack([y, y]))
    assert head.width_ == pytest.approx(0.02 * KernelRidgeHead("rbf", widths=(1.0,)).fit(x, y).width_)
    assert head.predict(x).shape == (200, 2)
    with pytest.raises(ValueError, match="kernel is 'linear', 'correlation' or 'rbf', got 'cosine'"):
        KernelRidgeHead("cosine").fit(x, y)


@pytest.mark.parametrize("d", [8, 400])
def test_logistic__is_scikit_learns_with_the_strength_chosen_by_auc(d):
    x, _, ill, folds, new = planted(d=d)
    head = LogisticHead().fit(x, ill, folds)
    assert list(head.classes_) == ["ill", "well"]
    centre = x.mean(axis=0)
    scale = np.sqrt(np.square(x - centre).sum() / len(x))
    areas = []
    for strength in STRENGTHS:
        decision = np.empty(len(x))
        for a, b in splits_of(folds):
            model = LogisticRegression(C=strength, max_iter=10_000)
            decision[b] = model.fit((x[a] - centre) / scale, ill[a]).decision_function((x[b] - centre) / scale)
        areas.append(auc(ill, decision, folds))
    assert head.auc_ == pytest.approx(max(areas), abs=2e-3)
    theirs = LogisticRegression(C=head.strength_, max_iter=10_000, tol=1e-8)
    theirs.fit((x - centre) / scale, ill)
    asked = (new - centre) / scale
    np.testing.assert_allclose(head.predict_proba(new), theirs.predict_proba(asked), atol=0.02)
    share = (ill == "well").mean()
    np.testing.assert_allclose(
        head.decision_function(new), theirs.decision_function(asked) - np.log(share / (1 - share)), atol=0.1
    )
    assert set(head.predict(new)) <= {"ill", "well"}


@pytest.mark.parametrize("head", [LogisticHead(), SvmHead()])
@pytest.mark.parametrize("d", [8, 300])
def test_classifiers__find_a_planted_class_and_calibrate_it(head, d):
    x, _, ill, folds, _ = planted(n=600, d=8)
    if d > 8:
        x = x @ np.random.default_rng(1).normal(size=(8, d))
        x, ill, folds = x[:250], ill[:250], folds[:250]
    half = len(x) // 2
    fitted = clone(head).fit(x[:half], ill[:half], folds[:half])
    chance, well = fitted.predict_proba(x[half:])[:, 1], ill[half:] == "well"
    assert auc(well, fitted.decision_function(x[half:])) > 0.8
    assert chance.mean() == pytest.approx(well.mean(), abs=0.08)
    assert np.square(chance - well).mean() < 0.8 * well.mean() * (1 - well.mean())
    # at the balanced boundary both classes are found, though one is twice as frequent
    guess = fitted.predict(x[half:]) == "well"
    assert min(guess[well].mean(), 1 - guess[~well].mean()) > 0.6


def test_neighbours__are_scikit_learns_with_the_number_chosen_in_the_folds():
    x, y, _, folds, new = planted(d=3)
    head = NeighboursHead().fit(x, y, folds)
    models = [KNeighborsRegressor(count) for count in head.counts if count <= 90 - 10]
    theirs = chosen_by_hand(models, x, y, folds)
    assert head.count_ == theirs.n_neighbors > 1
    np.testing.assert_allclose(head.predict(new), theirs.predict(new))
    with pytest.raises(ValueError, match="an inner training fold has 2 rows, fewer than 5 neighbours"):
        NeighboursHead((5,)).fit(x[:4], y[:4], [0, 0, 1, 1])


def test_mlp__finds_what_no_line_does_and_stops_where_there_is_nothing():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4))
    y = 100 + 10 * np.abs(x[:, 0]) + rng.normal(size=400)
    head = MlpHead(hidden=16, epochs=(1, 32, 64), learning_rate=0.02).fit(x[:300], y[:300])
    guess = head.predict(x[300:])
    assert 1 - np.square(y[300:] - guess).sum() / np.square(y[300:] - y[:300].mean()).sum() > 0.6
    assert head.epochs_ > 1
    np.testing.assert_array_equal(guess, clone(head).fit(x[:300], y[:300]).predict(x[300:]))
    assert MlpHead(hidden=16, epochs=(4, 64), learning_rate=0.02).fit(x, rng.normal(size=400)).epochs_ == 4
    far = np.abs(x[:, 0]) > 0.7
    found = MlpHead("binary", hidden=16, epochs=(32,), learning_rate=0.02).fit(x[:300], far[:300]).predict(x[300:])
    assert found.min() >= 0 <= found.max() <= 1
    assert auc(far[300:], found) > 0.9
    with pytest.raises(ValueError, match=r"a binary target is 0 and 1, got \[-1.0, 1.0\]"):
        MlpHead("binary").fit(x, np.where(far, 1, -1))


def test_row_span__keeps_inner_products_of_training_and_other_rows():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(20, 50)), rng.normal(size=(5, 50))
    span = RowSpan().fit(x)
    np.testing.assert_allclose(span.transform(other) @ span.transform(x).T, other @ x.T, atol=1e-9)
    assert span.transform(x).shape[1] <= 20
    np.testing.assert_array_equal(RowSpan().fit(x.T).transform(x.T), x.T)
    np.testing.assert_array_equal(RowSpan().fit(np.zeros((2, 5))).transform(np.ones((1, 5))), [[0.0]])


@pytest.mark.parametrize(
    "head", [RidgeHead(), KernelRidgeHead(), NeighboursHead(), MlpHead(), LogisticHead(), SvmHead()]
)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((150, 8), np.nan)}, "X holds 1200 values that are NaN or infinite"),
        ({"y": np.zeros(3)}, r"shape \(3,\)"),
        ({"folds": np.zeros(150, dtype=int)}, "a head chooses in at least 2 inner folds"),
        ({"folds": np.linspace(0, 1, 150)}, "inner folds are whole numbers, one a row; got float64"),
        ({"folds": [0, 1]}, r"one a row; got int64 \(2,\), 150 rows"),
    ],
)
def test_heads__refuse(head, change, message):
    x, y, _, folds, _ = planted()
    values = {"x": x, "y": (y > 7).astype(float) if hasattr(head, "strengths") else y, "folds": folds} | change
    with pytest.raises(ValueError, match=message):
        clone(head).fit(values["x"], values["y"], values["folds"])


def test_heads__refuse_targets_and_penalties():
    x, y, ill, folds, _ = planted()
    with pytest.raises(ValueError, match="y holds 1 values that are NaN"):
        RidgeHead().fit(x, np.where(np.arange(150) == 3, np.inf, y), folds)
    with pytest.raises(ValueError, match="y holds 150 values that are NaN"):
        RidgeHead().fit(x, np.column_stack([y, np.full(150, np.nan)]), folds)
    with pytest.raises(ValueError, match=r"penalties are positive numbers, got \(0.0,\)"):
        RidgeHead((0.0,)).fit(x, y, folds)
    with pytest.raises(ValueError, match="the rows outside an inner fold have one class only"):
        LogisticHead().fit(x, ill, (ill == "ill").astype(int))
    parted = np.where(ill == "ill", 0, 1) + 2 * (np.arange(150) % 2)
    with pytest.raises(ValueError, match="no inner fold has both classes"):
        LogisticHead().fit(x, ill, parted)


@pytest.mark.parametrize("kind", ["continuous", "binary", "multiclass"])
def test_make_head__gives_every_head_that_suits_the_target(kind):
    x, y, ill, folds, new = planted()
    codes = np.digitize(y, np.quantile(y, [0.4, 0.7]))
    target = {"continuous": y, "binary": (ill == "ill").astype(float), "multiclass": indicators(codes, 3)}[kind]
    for name in ["mean", "ridge", "kernel_ridge", "knn", "mlp"]:
        found = make_head(name, kind).fit(x, target, folds).predict(new)
        assert found.shape == (len(new), *target.shape[1:])
        assert np.isfinite(found).all()
    if kind == "continuous":
        return
    for name in ["logistic", "svm", "prototype"]:
        fitted = make_head(name, kind).fit(x, codes if kind == "multiclass" else target, folds)
        assert set(fitted.predict(new)) <= set(fitted.classes_)
        np.testing.assert_allclose(fitted.predict_proba(new).sum(axis=1), 1)


def test_make_head__refuses():
    with pytest.raises(ValueError, match="logistic tells classes apart, the target is continuous; use ridge"):
        make_head("logistic", "continuous")
    with pytest.raises(
        ValueError,
        match="heads are mean, ridge, kernel_ridge, knn, logistic, svm, prototype, mlp, attention, got 'lasso'",
    ):
        make_head("lasso", "binary")
