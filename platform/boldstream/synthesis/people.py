"""Made-up people: who they are, drawn from the seed and their number alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import SourceError
from boldstream.synthesis.spec import SyntheticSpec

PERSON_STREAM, KIN_STREAM, MOTION_STREAM = 31, 32, 33

MEAN_AGE, SD_AGE = 62.0, 8.0
DIAGNOSED_AT, DIAGNOSED_WITHIN = 68.0, 6.0
"""Years: at this age half of the people have the diagnosis; one goes into the logistic function over the other."""
MEDIAN_FD, FD_OF_AGE, FD_OF_PERSON, FD_OF_SESSION = 0.13, 0.25, 0.5, 0.3
"""Median of mean FD in mm, and what SDs of age, person and session add to its logarithm."""
TRAITS = ("trait_fc", "trait_autocorrelation", "trait_directed")
DIGITS = 6


@dataclass(frozen=True, eq=False)
class Person:
    """One made-up person.

    Attributes
    ----------
    number : int
        From 1 on.
    family : int
        From 1 on.
    site : int
        From 0 on.
    age : float
        Years.
    sex : {"F", "M"}
    diagnosis : bool
        Likelier at an older age.
    traits : dict of float
        ``trait_fc``, ``trait_autocorrelation`` and ``trait_directed``, of mean 0 and SD 1.
    fingerprint : array, shape (n_modes,)
        Of mean 0 and SD 1.
    log_fd : float
        Logarithm of what is usual for them in mean FD (mm).
    """

    number: int
    family: int
    site: int
    age: float
    sex: str
    diagnosis: bool
    traits: dict[str, float]
    fingerprint: NDArray[np.float64]
    log_fd: float

    @property
    def subject(self) -> str:
        """Label, e.g. ``000001``."""
        return self.label(self.number)

    @staticmethod
    def label(number: int) -> str:
        """Return the label of the person of a number."""
        return f"{number:0{DIGITS}d}"

    @property
    def z_age(self) -> float:
        """Age in SDs from its mean."""
        return (self.age - MEAN_AGE) / SD_AGE


def draw_person(number: int, spec: SyntheticSpec, n_modes: int = 0) -> Person:
    """Draw one person.

    Parameters
    ----------
    number : int
        From 1 on.
    spec : SyntheticSpec
    n_modes : int
        Of the brain, for the fingerprint; nothing else depends on it.

    Raises
    ------
    SourceError
        If the number is below 1.
    """
    if number < 1:
        raise SourceError(f"person {number}: people are numbered from 1 on")
    family = (number - 1) // spec.family_size + 1
    own = np.random.default_rng([PERSON_STREAM, spec.seed, number])
    kin = np.random.default_rng([KIN_STREAM, spec.seed, family])
    years, fd = own.normal(size=2)
    of_sex, of_site, of_diagnosis = own.random(3)
    n_drawn = len(TRAITS) + n_modes
    shared = np.sqrt(spec.kinship) * kin.normal(size=n_drawn) + np.sqrt(1 - spec.kinship) * own.normal(size=n_drawn)
    age = round(float(MEAN_AGE + SD_AGE * years), 1)
    z_age = (age - MEAN_AGE) / SD_AGE
    return Person(
        number=number,
        family=family,
        site=int(of_site * spec.n_sites),
        age=age,
        sex="F" if of_sex < 0.5 else "M",
        diagnosis=bool(of_diagnosis < 1 / (1 + np.exp(-(age - DIAGNOSED_AT) / DIAGNOSED_WITHIN))),
        traits=dict(zip(TRAITS, map(float, shared), strict=False)),
        fingerprint=shared[len(TRAITS) :],
        log_fd=float(np.log(MEDIAN_FD) + FD_OF_AGE * z_age + FD_OF_PERSON * fd),
    )


def scan_mean_fd(person: Person, session: int, spec: SyntheticSpec) -> float:
    """Return the mean framewise displacement (mm) of a person's scan; sessions count from 1."""
    rng = np.random.default_rng([MOTION_STREAM, spec.seed, person.number, session])
    return round(float(np.exp(person.log_fd + FD_OF_SESSION * rng.normal())), 4)
