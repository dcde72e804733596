"""Ridge and kernel ridge: all penalties and all targets from one eigendecomposition an inner fold."""

from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from boldstream.analysis.heads.inner import centre_of, inner_folds, target_columns
from boldstream.analysis.quality import finite_matrix

ALPHAS = tuple(np.logspace(-4, 4, 25).tolist())
"""Penalties, in mean square lengths of the centred training rows: they suit any number and scale of dimensions."""

Kernel = Literal["linear", "correlation", "rbf"]


class RidgeHead(RegressorMixin, BaseEstimator):
    """Linear regression with a square penalty that every target chooses for itself in the inner folds.

    Gram matrices of the inner training folds are the whole one's minus the inner test fold's, each is decomposed once,
    and penalties and targets (many: permuted ones) cost a product each. With more dimensions than rows the same is
    done on the rows' kernel. Generalised cross-validation would be free, but it leaves single rows out: where subjects
    have relatives or several scans, or sites are held out, their likes stay in, and it picks too small a penalty.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, in mean square lengths of the centred training rows, or as they are.
    relative : bool
        Whether `alphas` are in mean square lengths.
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    alpha_ : array, shape (n_targets,)
        Penalty as `sklearn.linear_model.Ridge` takes it.
    errors_ : array, shape (n_alphas, n_targets)
        Mean over inner folds of the mean squared error.
    coef_ : array, shape (d,) or (n_targets, d)
    intercept_ : float or array, shape (n_targets,)
    """

    def __init__(self, alphas: tuple[float, ...] = ALPHAS, *, relative: bool = True, n_inner: int = 5) -> None:
        self.alphas = alphas
        self.relative = relative
        self.n_inner = n_inner

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Choose penalties and fit.

        Parameters
        ----------
        X : array, shape (n, d)
        y : array, shape (n,) or (n, n_targets)
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, or there are fewer than two inner folds.
        """
        x, targets = finite_matrix(X, "X"), _targets(y, len(np.asarray(X)))
        labels = inner_folds(folds, len(x), self.n_inner)
        centre, mean = centre_of(x), targets.mean(axis=0)
        x, targets = x - centre, targets - mean
        alphas = _absolute(self.alphas, np.square(x).sum() / len(x), self.relative)
        primal = x.shape[1] <= len(x)
        gram = x.T @ x if primal else x @ x.T
        if primal:
            self.errors_ = _primal_errors(x, targets, gram, labels, alphas)
        else:
            self.errors_ = _kernel_errors(gram, targets, labels, alphas)
        self.alpha_ = alphas[np.argmin(self.errors_, axis=0)]
        coef = _solve(gram, x.T @ targets, self.alpha_) if primal else x.T @ _solve(gram, targets, self.alpha_)
        intercept = mean - centre @ coef
        one = np.ndim(y) == 1
        self.coef_ = coef[:, 0] if one else coef.T
        self.intercept_ = float(intercept[0]) if one else intercept
        return self

    @property
    def targets_are_independent(self) -> bool:
        """Whether many targets at once give what each alone gives."""
        return True

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions, shape (n,) or (n, n_targets)."""
        return np.asarray(finite_matrix(X, "X") @ self.coef_.T + self.intercept_)


class KernelRidgeHead(RegressorMixin, BaseEstimator):
    """Ridge regression on the similarities of rows; penalty, and width of an RBF, chosen in the inner folds.

    The correlation kernel on connectivity is the baseline of He et al. (2020), NeuroImage 206:116276.

    Parameters
    ----------
    kernel : {"linear", "correlation", "rbf"}
        Inner product; Pearson's correlation over dimensions; exp(-distance² / (width · median distance²)).
    alphas : sequence of float
        In means of the centred training kernel's diagonal.
    widths : sequence of float
        Of an RBF, in median square distances of the training rows.
    n_inner : int

    Attributes
    ----------
    alpha_ : array, shape (n_targets,)
    width_ : float
        Chosen for all targets together, by the mean of their errors relative to their variances.
    """

    def __init__(
        self,
        kernel: Kernel = "correlation",
        *,
        alphas: tuple[float, ...] = ALPHAS,
        widths: tuple[float, ...] = (0.25, 1.0, 4.0),
        n_inner: int = 5,
    ) -> None:
        self.kernel = kernel
        self.alphas = alphas
        self.widths = widths
        self.n_inner = n_inner

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Choose and fit; arguments and errors as `RidgeHead.fit`, and ValueError for a kernel that is not known."""
        if self.kernel not in ("linear", "correlation", "rbf"):
            raise ValueError(f"kernel is 'linear', 'correlation' or 'rbf', got {self.kernel!r}")
        x = finite_matrix(X, "X")
        self.centre_ = np.zeros(x.shape[1]) if self.kernel == "correlation" else centre_of(x)
        self.rows_ = _rows(x - self.centre_, self.kernel)
        targets = _targets(y, len(self.rows_))
        labels = inner_folds(folds, len(self.rows_), self.n_inner)
        self.mean_ = targets.mean(axis=0)
        centred = targets - self.mean_
        spread = np.square(centred).mean(axis=0)
        best = np.inf
        for width in self._widths():
            kernel = self._similarity(self.rows_, width)
            usual, middle = float(np.trace(kernel)), kernel.mean(axis=0)
            kernel = kernel - middle - middle[:, None] + middle.mean()
            if np.trace(kernel) <= usual * len(kernel) * np.finfo(np.float64).eps:
                kernel[:] = 0.0  # rows are equal but for rounding
            alphas = _absolute(self.alphas, float(np.trace(kernel)) / len(kernel), relative=True)
            errors = _kernel_errors(kernel, centred, labels, alphas)
            least = float((errors.min(axis=0) / np.where(spread > 0, spread, 1.0)).mean())
            if least < best:
                best, self.width_, self.errors_ = least, width, errors
                self.alpha_ = alphas[np.argmin(errors, axis=0)]
                self.middle_, self.dual_ = middle, _solve(kernel, centred, self.alpha_)
        self.one_ = np.ndim(y) == 1
        return self

    @property
    def targets_are_independent(self) -> bool:
        """Whether many targets at once give what each alone gives: not if they share the choice of a width."""
        return self.kernel != "rbf"

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions, shape (n,) or (n, n_targets)."""
        kernel = self._similarity(_rows(finite_matrix(X, "X") - self.centre_, self.kernel), self.width_)
        # dual coefficients sum to 0, so rows need not be centred
        found = (kernel - self.middle_) @ self.dual_ + self.mean_
        return np.asarray(found[:, 0] if self.one_ else found)

    def _widths(self) -> list[float]:
        if self.kernel != "rbf":
            return [1.0]
        distance = _square_distances(self.rows_, self.rows_)
        usual = float(np.median(distance[np.triu_indices(len(distance), 1)]))
        return [width * (usual if usual > 0 else 1.0) for width in self.widths]

    def _similarity(self, rows: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        if self.kernel == "rbf":
            return np.exp(-_square_distances(rows, self.rows_) / width)
        return rows @ self.rows_.T


def _rows(x: NDArray[np.float64], kernel: Kernel) -> NDArray[np.float64]:
    if kernel != "correlation":
        return x
    centred = x - x.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1.0))


def _square_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    return np.asarray(np.maximum(squares, 0.0))


def _targets(y: ArrayLike, n: int) -> NDArray[np.float64]:
    targets = target_columns(y, n)
    return targets[:, None] if targets.ndim == 1 else targets


def _absolute(alphas: tuple[float, ...], scale: float, relative: bool) -> NDArray[np.float64]:
    values = np.asarray(alphas, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not (values > 0).all():
        raise ValueError(f"penalties are positive numbers, got {alphas}")
    return values * (scale if relative and scale > 0 else 1.0)


def _eigen(gram: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy.linalg import eigh

    values, vectors = eigh(gram, overwrite_a=True, check_finite=False)
    return np.maximum(values, 0.0), vectors


def _solve(gram: NDArray[np.float64], right: NDArray[np.float64], alphas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (gram + alpha)^-1 right, an alpha each column; the Gram matrix is overwritten."""
    values, vectors = _eigen(gram)
    return np.asarray(vectors @ ((vectors.T @ right) / (values[:, None] + alphas)))


def _primal_errors(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    gram: NDArray[np.float64],
    labels: NDArray[np.int64],
    alphas: NDArray[np.float64],
) -> NDArray[np.float64]:
    cross = x.T @ y
    errors = []
    for test in _tests(labels):
        inside, truth = x[test], y[test]
        n = len(x) - len(inside)
        # the rest's sums: all sums are 0 after centring
        centre, mean = -inside.sum(axis=0) / n, -truth.sum(axis=0) / n
        values, vectors = _eigen(gram - inside.T @ inside - n * np.outer(centre, centre))
        weights = vectors.T @ (cross - inside.T @ truth - n * np.outer(centre, mean))
        errors.append(_path((inside - centre) @ vectors, weights, values, truth - mean, alphas))
    return np.mean(errors, axis=0)


def _kernel_errors(
    kernel: NDArray[np.float64], y: NDArray[np.float64], labels: NDArray[np.int64], alphas: NDArray[np.float64]
) -> NDArray[np.float64]:
    errors = []
    for test in _tests(labels):
        train = ~test
        inside = kernel[np.ix_(train, train)]
        middle = inside.mean(axis=0)
        mean = y[train].mean(axis=0)
        values, vectors = _eigen(inside - middle - middle[:, None] + middle.mean())
        # weights are orthogonal to a constant, so rows need not be centred
        across = kernel[np.ix_(test, train)] - middle
        errors.append(_path(across @ vectors, vectors.T @ (y[train] - mean), values, y[test] - mean, alphas))
    return np.mean(errors, axis=0)


def _path(
    rotated: NDArray[np.float64],
    weights: NDArray[np.float64],
    values: NDArray[np.float64],
    truth: NDArray[np.float64],
    alphas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the mean squared error of every penalty and target."""
    return np.stack(
        [np.square(truth - rotated @ (weights / (values[:, None] + alpha))).mean(axis=0) for alpha in alphas]
    )


def _tests(labels: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    for label in np.unique(labels):
        yield labels == label
