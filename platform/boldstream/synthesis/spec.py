"""How many people to make up, and how strongly what they are shows in their scans."""

from typing import ClassVar

import pydantic

from boldstream.config import Config


class Effects(Config):
    """How strongly what people are shows in their scans; 0 plants nothing.

    The first five change connectivity: each adds its size along a direction of its own (of length 1 over the modes) to
    the logarithms of the modes' gains. The next three change dynamics and leave connectivity as it is.
    """

    age: float = 0.8
    """Of one SD of age (8 years), on connectivity."""

    sex: float = 0.8
    """Of the difference of the sexes, on connectivity."""

    site: float = 1.1
    """Of a site, on connectivity."""

    fingerprint: float = pydantic.Field(default=0.4, ge=0)
    """SD of every mode's gain between people, the same in all sessions of a person."""

    trait_fc: float = 0.8
    """Of one SD of ``trait_fc``, on connectivity."""

    trait_autocorrelation: float = 0.08
    """Of one SD of ``trait_autocorrelation``, on all modes' correlation with themselves 2 s before (0.62)."""

    diagnosis: float = -0.05
    """Of ``diagnosis`` (the older have it more often), on the same."""

    trait_directed: float = 0.25
    """Of a large ``trait_directed``, on how modes lead one another (antisymmetric coupling, 2 s before)."""

    motion: float = pydantic.Field(default=1.5, ge=0)
    """SD of the signal that all regions share, in SDs of a region, of one mm of mean FD."""


class SyntheticSpec(Config):
    """A made-up study. More subjects and sessions leave those that are there as they were."""

    n_subjects: int = pydantic.Field(default=200, ge=1)
    """Number of people."""

    n_sessions: int = pydantic.Field(default=2, ge=1)
    """Scans of everybody; people stay who they are."""

    n_sites: int = pydantic.Field(default=8, ge=1)
    """Sites that people are dealt to by chance."""

    n_timepoints: int = pydantic.Field(default=160, ge=10)
    """Length of every scan."""

    n_rois: int | None = pydantic.Field(default=None, ge=2)
    """Number of regions, for an atlas of no known names (LH-001 …, RH-001 …)."""

    seed: int = pydantic.Field(default=0, ge=0)
    """Which people: effects and sites are the same for all seeds, so another seed is a replication."""

    family_size: int = pydantic.Field(default=2, ge=1)
    """So many people in a row are siblings; 1: nobody is."""

    kinship: float = pydantic.Field(default=0.4, ge=0, le=1)
    """Correlation of siblings' fingerprints and traits."""

    connectivity: str | None = None
    """Mean connectivity of real people to take the modes from: a matrix of correlations (.npy, .csv, .tsv, .txt) in the
    atlas's order, or a cohort of the same regions (``name@version``); empty: a model of it."""

    n_modes: int = pydantic.Field(default=40, ge=2)
    """Modes (eigenvectors of the mean connectivity) that carry the signal; fewer where there are fewer regions."""

    noise: float = pydantic.Field(default=0.45, ge=0)
    """SD of every region's white noise; the signal's is a little below 1."""

    effects: Effects = Effects()
    """How strong everything is."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"n_subjects", "n_sessions"})
