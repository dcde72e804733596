"""The scan of a made-up person: modes that differ in gain, last and lead one another; noise; motion."""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from boldstream.synthesis.brain import Brain
from boldstream.synthesis.people import Person, scan_mean_fd
from boldstream.synthesis.spec import SyntheticSpec

SERIES_STREAM = 41
STEP = 2.0
"""Seconds after which `AUTOCORRELATION` and all effects on it hold."""
AUTOCORRELATION, OF_MODES = 0.62, 0.04
LEAST, LARGEST = 0.1, 0.93


def draw_scan(person: Person, session: int, brain: Brain, spec: SyntheticSpec, t_r: float) -> NDArray[np.float32]:
    """Draw the scan of a person's session.

    Modes follow ``x_t = A x_(t-1) + e_t``, ``e_t`` with the covariance ``I - A A'``, from ``x_0 ~ N(0, I)`` on: at all
    times their covariance is I, whatever A is. So connectivity, which is ``modes diag(gains^2) modes'`` but for noise
    and motion, says nothing of dynamics, and dynamics nothing of connectivity.

    Parameters
    ----------
    person : Person
    session : int
        From 1 on.
    brain : Brain
    spec : SyntheticSpec
    t_r : float
        Seconds. Dynamics are those of one continuous process, so they look slower at a shorter t_r.

    Returns
    -------
    array, shape (n_timepoints, n_rois), float32
        Of mean 0, SDs are about 1.
    """
    rng = np.random.default_rng([SERIES_STREAM, spec.seed, person.number, session])
    steps = transition(person, brain, spec, t_r)
    innovation = linalg.cholesky(np.eye(brain.n_modes) - steps @ steps.T, lower=True)
    x = rng.normal(size=(spec.n_timepoints, brain.n_modes))
    x[1:] = x[1:] @ innovation.T
    for t in range(1, spec.n_timepoints):
        x[t] += steps @ x[t - 1]
    values = (gains(person, brain, spec) * x) @ brain.modes.T
    values += spec.noise * rng.normal(size=values.shape)
    values += spec.effects.motion * scan_mean_fd(person, session, spec) * rng.normal(size=(spec.n_timepoints, 1))
    return values.astype(np.float32)


def gains(person: Person, brain: Brain, spec: SyntheticSpec) -> NDArray[np.float64]:
    """Return by how much a person's modes are stronger than the mean's, shape (n_modes,)."""
    effects, along = spec.effects, brain.directions
    log_gain = effects.age * person.z_age * along["age"]
    log_gain = log_gain + effects.sex * (0.5 if person.sex == "M" else -0.5) * along["sex"]
    log_gain += effects.trait_fc * person.traits["trait_fc"] * along["trait_fc"]
    log_gain += effects.site * brain.sites[person.site]
    log_gain += effects.fingerprint * person.fingerprint
    return np.exp(log_gain)


def transition(person: Person, brain: Brain, spec: SyntheticSpec, t_r: float) -> NDArray[np.float64]:
    """Return the matrix A of a person's modes from one timepoint to the next, shape (n_modes, n_modes).

    It is the exponential of a diagonal of decays plus an antisymmetric coupling, so ``A A'`` is always below I.
    """
    effects = spec.effects
    level = AUTOCORRELATION + OF_MODES * brain.persistence
    level = level + effects.trait_autocorrelation * person.traits["trait_autocorrelation"]
    level += effects.diagnosis * person.diagnosis
    decay = np.diag(np.log(np.clip(level, LEAST, LARGEST)))
    lead = effects.trait_directed * np.tanh(person.traits["trait_directed"]) / AUTOCORRELATION
    return np.asarray(linalg.expm(t_r / STEP * (decay + lead * brain.coupling.T)))
