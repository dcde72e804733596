"""All that is measured of a table without targets; what cannot be measured is there with its reason."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from boldstream.analysis.compare import debiased_cka
from boldstream.analysis.nuisance import MOTION, MOTION_R2, SITE_ACCURACY, motion_r2, site_accuracy
from boldstream.analysis.quality import identification, mean_pairwise_cosine, rankme
from boldstream.analysis.reliability import Icc, icc, identification_within
from boldstream.analysis.spectrum import alpha_req, covariance_eigenvalues, lidar, measure_spread
from boldstream.errors import ArtifactError
from boldstream.table_diff import read_vectors
from boldstream.tables.find import Version, find_embeddings
from boldstream.tables.quality.config import QualityConfig
from boldstream.tables.quality.encoder import input_sensitivity
from boldstream.tables.quality.sample import FEWEST, Sample, draw_sample
from boldstream.tables.quality.views import Views, find_views

VIEWS = ("parts", "scans")
BEFORE, NEW_BEFORE, NEW_AFTER = "_before", "_new_before", "_new_after"
"""Ends of the names of what an adjusted table's source tells, of the same rows, and of rows not learnt from."""


@dataclass
class Quality:
    """What was measured.

    Attributes
    ----------
    config : QualityConfig
    sample : Sample
    values : dict of str to float
        By the name that MLflow has them under, below ``quality/``.
    missing : dict of str to str
        Why something is not in `values`, by what it is.
    eigenvalues, std : array
        Of the covariance, largest first; of every dimension.
    reliability : dict of str to Icc
        By the name of the views.
    against : Version or None
        What the table is compared with.
    source : Version or None
        The table that an adjusted one was made from.
    alarm : str
        Of the encoder's pretraining; empty where there was none.
    """

    config: QualityConfig
    sample: Sample
    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    eigenvalues: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    std: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    reliability: dict[str, Icc] = field(default_factory=dict)
    against: Version | None = None
    source: Version | None = None
    alarm: str = ""

    @property
    def version(self) -> Version:
        """The table's version."""
        return self.sample.version

    def attempt(self, what: str, measure: Callable[[], dict[str, float]]) -> None:
        """Take up what a measure gives; what it cannot measure is the answer then, not a failure."""
        try:
            found = measure()
        except (ValueError, ArtifactError) as error:
            self.missing[what] = str(error)
            return
        self.values |= {name: value for name, value in found.items() if np.isfinite(value)}
        if undefined := [name for name, value in found.items() if not np.isfinite(value)]:
            self.missing[what] = f"{', '.join(undefined)}: not defined for these vectors"


def measure_quality(config: QualityConfig) -> Quality:
    """Measure a table version, and compare it with another one.

    Raises
    ------
    ArtifactError
        If a version that is named is not there or not whole, or too few rows can be measured.
    """
    version = find_embeddings(config.table, config.warehouse)
    against = find_embeddings(config.against, config.warehouse) if config.against is not None else None
    found = Quality(config, draw_sample(version, config.max_rows, config.seed), against=against)
    _measure_geometry(found)
    views, found.missing = find_views(found.sample)
    for one in views:
        _measure_views(found, one)
    _measure_nuisance(found)
    found.attempt("debiased CKA", lambda: _compare(found))
    sensitivities, why, found.alarm = input_sensitivity(version)
    found.values |= sensitivities
    if why:
        found.missing["input sensitivity"] = why
    return found


def _measure_geometry(found: Quality) -> None:
    x = found.sample.vectors
    spread = measure_spread(x)
    found.std, found.eigenvalues = spread.std, covariance_eigenvalues(x)
    found.values |= {
        "n_rows_measured": float(len(x)),
        "n_broken": float(found.sample.n_broken),
        "n_dims": float(x.shape[1]),
        "dead_dimensions": float(spread.n_dead),
        "std_least": float(spread.std.min()),
        "std_median": float(np.median(spread.std)),
        "std_largest": float(spread.std.max()),
        "rankme": rankme(x),
    }
    found.attempt("mean cosine", lambda: {"mean_cosine": mean_pairwise_cosine(x)})
    found.attempt("RankMe, centred", lambda: {"rankme_centred": rankme(x - x.mean(axis=0))})
    found.attempt("alpha-ReQ", lambda: {"alpha_req": alpha_req(x)})
    found.attempt("spread", lambda: {"participation_ratio": spread.participation_ratio, "top_share": spread.top_share})


def _measure_views(found: Quality, views: Views) -> None:
    """Find subjects again from one view in another, and say how alike the views are."""
    first, second = views.vectors[0], views.vectors[-1]
    centre = found.sample.vectors.mean(axis=0)
    end = f"_{views.name}"

    def identified() -> dict[str, float]:
        told, centred = identification(first, second), identification(first - centre, second - centre)
        return {
            f"identification{end}": told.accuracy,
            f"identification_chance{end}": told.chance,
            f"identification_p{end}": told.p_value,
            f"i_diff{end}": told.i_diff,
            f"identification_centred{end}": centred.accuracy,
            f"i_diff_centred{end}": centred.i_diff,
        }

    def within() -> dict[str, float]:
        known = views.sites != ""
        if not known.any():
            raise ValueError("the table has no sites")
        told = identification_within(first[known], second[known], views.sites[known])
        return {
            f"identification_within_site{end}": told.accuracy,
            f"identification_within_site_chance{end}": told.chance,
            f"i_diff_within_site{end}": told.i_diff,
        }

    def reliable() -> dict[str, float]:
        found.reliability[views.name] = told = icc(views.vectors)
        if np.isnan(told.consistency).all():
            raise ValueError("no dimension varies")
        return {
            f"icc_consistency_median{end}": float(np.nanmedian(told.consistency)),
            f"icc_agreement_median{end}": float(np.nanmedian(told.agreement)),
            f"icc_poor_share{end}": float((told.consistency < found.config.thresholds.icc).mean()),
        }

    found.values[f"n_subjects{end}"] = float(views.n_subjects)
    found.attempt(f"identification, {views.title}", identified)
    found.attempt(f"identification within sites, {views.title}", within)
    found.attempt(f"ICC, {views.title}", reliable)
    found.attempt(f"LiDAR, {views.title}", lambda: {f"lidar{end}": lidar(*views.flat())})


def _measure_nuisance(found: Quality) -> None:
    """Look for sites and motion in the vectors, and where they were adjusted, in what they were before."""
    found.attempt("site and motion", lambda: _nuisance_of(found, found.sample.vectors))
    content = found.version.manifest.content
    if "adjustment" not in content:
        return
    found.attempt("site and motion before the adjustment", lambda: _before(found))
    told = content.get("nuisance", {})
    for name in (SITE_ACCURACY, MOTION_R2):
        if f"{name}_after" in told:
            found.values[f"{name}{NEW_BEFORE}"] = float(told[f"{name}_before"])
            found.values[f"{name}{NEW_AFTER}"] = float(told[f"{name}_after"])
    if not any(name.endswith(NEW_AFTER) for name in found.values):
        why = told.get("not_measured", "it was fitted with measured_rows: 0")
        found.missing["site and motion in scans that the adjustment has not learnt from"] = why


def _nuisance_of(found: Quality, x: NDArray[np.float64]) -> dict[str, float]:
    rows, seed = found.sample.rows, found.config.seed
    if not np.ptp(x, axis=0).any():
        raise ValueError("all rows are equal")
    sites = site_accuracy(x, rows["site"], rows["subject"], seed)
    motion = motion_r2(x, rows[MOTION], rows["subject"], seed)
    for told, what, why in (
        (sites, "site", "fewer than two sites have five subjects"),
        (motion, "motion", "fewer than ten subjects have a mean_fd, or all move alike"),
    ):
        if not told:
            found.missing[what] = f"cannot be looked for: {why}"
    return sites | motion


def _before(found: Quality) -> dict[str, float]:
    """Measure the same rows of the table that an adjusted one was made from, at the version that was read."""
    uri = found.version.manifest.content["table"]
    parent = next(one for one in found.version.manifest.parents if one.uri == uri)
    found.source = find_embeddings(f"{parent.uri}@{parent.version}", found.config.warehouse)
    vectors = read_vectors(found.source, set(found.sample.rows["row_key"]))
    told = _nuisance_of(found, np.array([vectors[key] for key in found.sample.rows["row_key"]], dtype=np.float64))
    return {f"{name}{BEFORE}": value for name, value in told.items() if name in (SITE_ACCURACY, MOTION_R2)}


def _compare(found: Quality) -> dict[str, float]:
    """Compare with another version, or the one before, on the rows of the sample that both have."""
    if found.against is None:
        versions = found.version.table.versions
        at = versions.index(found.version.manifest.version)
        if at == 0:
            raise ValueError("this is the first version that there is; --against names another table or version")
        found.against = find_embeddings(f"{found.version.table.uri}@{versions[at - 1]}", found.config.warehouse)
    keys = found.sample.rows["row_key"].tolist()
    others = read_vectors(found.against, set(keys))
    common = [at for at, key in enumerate(keys) if key in others and np.isfinite(others[key]).all()]
    if len(common) < FEWEST:
        raise ValueError(f"{len(common)} of the rows measured are in {found.against.label} too, under the same key")
    value = debiased_cka(found.sample.vectors[common], np.stack([others[keys[at]] for at in common]))
    return {"debiased_cka": value, "n_rows_compared": float(len(common))}
