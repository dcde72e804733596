"""Does an encoder still see the people? Collapse, position-only tokens and deafness to the input; no labels needed.

For held-out scans during pretraining: gather their tokens with `TokenMoments`, embed the same scans once more
`phase_randomised` and one all-zero scan, then `measure_collapse` and `find_alarms`.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pydantic
from numpy.typing import ArrayLike, NDArray

from boldstream.analysis.quality import mean_pairwise_cosine, rankme
from boldstream.config import Config


@dataclass(frozen=True)
class CollapseMetrics:
    """How much of an encoder's output is about the scans. Variances divide by the count.

    Attributes
    ----------
    feature_std, feature_std_min : float
        Standard deviation of a dimension over all scans and positions: mean and least over dimensions.
    between_std : float
        Standard deviation between scans at the same position (root mean square over positions), mean over dimensions.
    subject_share : float
        Variance between scans at the same position, mean over positions, divided by the variance between positions
        of their mean tokens; both summed over dimensions. 0 where scans do not differ, infinite where only they do.
    rankme : float
        Effective rank of the subject vectors as published, not centred; 1 where all are zero.
    rankme_centred : float
        The same after subtracting the mean vector: 1 where scans differ along one line only, or not at all.
        Rounding noise around one constant vector has a high rank, so read it together with the spreads.
    mean_cosine : float
        Mean cosine of pairs of subject vectors, vectors that are zero left out; 1 where fewer than two are left.
    sensitivity_phase, sensitivity_zero : float
        Mean distance from a scan's vector to that of the scan with randomised phases, and to that of an all-zero
        scan, relative to the mean length of the scans' vectors.
    """

    feature_std: float
    feature_std_min: float
    between_std: float
    subject_share: float
    rankme: float
    rankme_centred: float
    mean_cosine: float
    sensitivity_phase: float
    sensitivity_zero: float

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """Return the numbers by name, each name begun with `prefix`, as a tracker takes them."""
        return {f"{prefix}{name}": value for name, value in dataclasses.asdict(self).items()}


class CollapseThresholds(Config):
    """Where `find_alarms` says that an encoder has collapsed."""

    feature_std: float = pydantic.Field(default=0.01, ge=0)
    """Least mean standard deviation of a dimension over scans and positions."""
    rankme_centred: float = pydantic.Field(default=2.0, ge=1)
    """Least effective rank of the subject vectors without their mean."""
    mean_cosine: float = pydantic.Field(default=0.9999, le=1)
    """Highest mean cosine of two scans' subject vectors."""
    subject_share: float = pydantic.Field(default=1e-3, ge=0)
    """Least variance between scans, as a share of the variance between positions."""
    sensitivity: float = pydantic.Field(default=1e-3, ge=0)
    """Least relative distance of a scan's vector to that of the phase-randomised and of the all-zero scan."""


class TokenMoments:
    """Running moments of the tokens of many scans, and the scans' vectors.

    Memory holds three (n_positions, n_dims) arrays and one vector a scan, whatever the number of scans. Scans are
    added one by one and sums are taken around the first of them in float64, so how scans are batched changes
    nothing and a large common token costs no digits.

    Attributes
    ----------
    count : int
        Scans so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first = np.empty((0, 0))
        self._sum = np.empty((0, 0))
        self._squares = np.empty((0, 0))
        self._vectors: list[NDArray[np.float64]] = []

    def add(self, tokens: ArrayLike) -> None:
        """Take up some scans' tokens.

        Parameters
        ----------
        tokens : array, shape (n_scans, n_positions, n_dims)
            Each scan's tokens, positions in the same order in every scan.

        Raises
        ------
        ValueError
            If the shape does not fit that of the scans before, or values are not finite.
        """
        batch = np.asarray(tokens)
        if batch.ndim != 3 or 0 in batch.shape[1:]:
            raise ValueError(f"tokens are (n_scans, n_positions, n_dims), got shape {batch.shape}")
        if self.count and batch.shape[1:] != self._first.shape:
            raise ValueError(f"tokens are {batch.shape[1:]} a scan, but {self._first.shape} in the scans before")
        _check_finite(batch, "tokens hold", "; the encoder diverged")
        for scan in batch:
            values = scan.astype(np.float64)
            if not self.count:
                self._first = values
                self._sum, self._squares = np.zeros_like(values), np.zeros_like(values)
            shifted = values - self._first
            self._sum += shifted
            self._squares += np.square(shifted)
            self._vectors.append(values.mean(axis=0))
            self.count += 1

    def vectors(self) -> NDArray[np.float64]:
        """Return the subject vectors, every scan's mean token in order, (n_scans, n_dims); ValueError without one."""
        self._need(1)
        return np.stack(self._vectors)

    def position_means(self) -> NDArray[np.float64]:
        """Return the mean token of every position over scans, shape (n_positions, n_dims); ValueError without one."""
        self._need(1)
        return np.asarray(self._first + self._sum / self.count)

    def between_variance(self) -> NDArray[np.float64]:
        """Return the variance between scans at every position, (n_positions, n_dims); ValueError below two scans."""
        self._need(2)
        mean = self._sum / self.count
        return np.asarray(np.maximum(self._squares / self.count - np.square(mean), 0.0))

    def _need(self, scans: int) -> None:
        if self.count < scans:
            raise ValueError(f"{self.count} scan(s) added, at least {scans} needed")


def measure_collapse(moments: TokenMoments, phase: ArrayLike, zero: ArrayLike) -> CollapseMetrics:
    """Measure collapse on held-out scans.

    A collapsed encoder (all vectors equal, or all zero) gives numbers like any other.

    Parameters
    ----------
    moments : TokenMoments
        Of the scans as they are; at least two.
    phase : array, shape (n_scans, n_dims)
        Subject vectors of the same scans, in the same order, from windows with randomised phases.
    zero : array, shape (n_dims,) or (n_scans, n_dims)
        Subject vector of an all-zero scan.

    Raises
    ------
    ValueError
        If there are fewer than two scans, or the other vectors do not fit them or are not finite.
    """
    between = moments.between_variance()
    vectors = moments.vectors()
    positions = moments.position_means().var(axis=0)
    features = np.sqrt(between.mean(axis=0) + positions)  # law of total variance
    # around the first row, so that equal rows leave exact zeros
    centred = vectors - vectors[0]
    centred -= centred.mean(axis=0)
    return CollapseMetrics(
        feature_std=float(features.mean()),
        feature_std_min=float(features.min()),
        between_std=float(np.sqrt(between.mean(axis=0)).mean()),
        subject_share=_ratio(float(between.mean(axis=0).sum()), float(positions.sum())),
        rankme=_rank(vectors),
        rankme_centred=_rank(centred),
        mean_cosine=_cosine(vectors),
        sensitivity_phase=_sensitivity(vectors, _beside(phase, vectors, "phase")),
        sensitivity_zero=_sensitivity(vectors, _beside(zero, vectors, "zero")),
    )


def find_alarms(metrics: CollapseMetrics, thresholds: CollapseThresholds) -> list[str]:
    """Say in one sentence each what is wrong with an encoder; an empty list where nothing is.

    Every sentence has the number, the threshold and what it means.
    """
    limits = {
        "feature_std": (thresholds.feature_std, "features hardly vary over scans and positions (constant encoder)"),
        "subject_share": (
            thresholds.subject_share,
            "tokens vary between positions, hardly between scans (position-only encoder)",
        ),
        "rankme_centred": (thresholds.rankme_centred, "scans differ along one line, if at all (dimensional collapse)"),
        "sensitivity_phase": (
            thresholds.sensitivity,
            "scans without coupling between regions get nearly the same vectors (encoder ignores connectivity)",
        ),
        "sensitivity_zero": (
            thresholds.sensitivity,
            "an all-zero scan gets nearly the vector of a real one (encoder ignores its input)",
        ),
    }
    alarms = []
    for name, (least, meaning) in limits.items():
        value = getattr(metrics, name)
        if not value >= least:
            alarms.append(f"{name} {value:.6g} is below {least:g}: {meaning}")
    if not metrics.mean_cosine <= thresholds.mean_cosine:
        alarms.append(
            f"mean_cosine {metrics.mean_cosine:.6g} is above {thresholds.mean_cosine:g}: "
            "the vectors of all scans point the same way (complete collapse, or a common offset that drowns the scans)"
        )
    return alarms


def phase_randomised(windows: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """Draw surrogate windows with every region's power spectrum, and no coupling between regions.

    The Fourier phases of every window and region are drawn independently and uniformly. Surrogates that keep the
    coupling add one random phase to all channels at a frequency (Prichard & Theiler); here every region gets its
    own, as for single series (Theiler et al.), because the coupling is what an encoder should notice. The mean
    (frequency 0) is kept; the highest frequency of an even length is real, so only its sign is drawn.

    Parameters
    ----------
    windows : array, shape (W, T, R)
        Windows, any unit.
    rng : numpy.random.Generator
        W * (T // 2 + 1) * R numbers are drawn, a window after the other: batches of windows give what all of them
        at once give.

    Returns
    -------
    array, shape (W, T, R)
        Of the windows' float type; float64 for integers.

    Raises
    ------
    ValueError
        If the shape is another one, or values are not finite.

    References
    ----------
    Theiler et al. (1992), Physica D 58:77; Prichard & Theiler (1994), Phys. Rev. Lett. 73:951.
    """
    values = np.asarray(windows)
    if values.ndim != 3 or values.shape[1] == 0:
        raise ValueError(f"windows are (W, n_timepoints, n_rois), got shape {values.shape}")
    _check_finite(values, "windows hold")
    n_timepoints = values.shape[1]
    spectrum = np.fft.rfft(values.astype(np.float64), axis=1)
    turn = np.exp(2j * np.pi * rng.random(spectrum.shape))
    turn[:, 0] = 1.0
    if n_timepoints % 2 == 0:
        turn[:, -1] = np.where(turn[:, -1].real < 0, -1.0, 1.0)
    surrogate = np.fft.irfft(spectrum * turn, n=n_timepoints, axis=1)
    kind = values.dtype if np.issubdtype(values.dtype, np.floating) else np.float64
    return np.asarray(surrogate, dtype=kind)


def _check_finite(values: NDArray, what: str, hint: str = "") -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{what} {int((~np.isfinite(values)).sum())} values that are NaN or infinite{hint}")


def _rank(x: NDArray[np.float64]) -> float:
    return rankme(x) if x.any() else 1.0


def _cosine(x: NDArray[np.float64]) -> float:
    directed = x[x.any(axis=1)]
    return min(mean_pairwise_cosine(directed), 1.0) if len(directed) > 1 else 1.0


def _ratio(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole > 0 else float("inf")


def _beside(other: ArrayLike, vectors: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return the vectors to compare with, a row a scan."""
    values = np.asarray(other, dtype=np.float64)
    if values.shape not in {vectors.shape, vectors.shape[1:]}:
        raise ValueError(f"{name} has shape {values.shape}, the scans' vectors have {vectors.shape}")
    _check_finite(values, f"{name} holds")
    return np.broadcast_to(values, vectors.shape)


def _sensitivity(vectors: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    distance, length = (float(np.linalg.norm(x, axis=1).sum()) for x in (vectors - other, vectors))
    return _ratio(distance, length)
