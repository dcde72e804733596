"""The quality gate: what a new version of an embedding table must be like to be its champion."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from boldstream.analysis.drift import drift
from boldstream.analysis.nuisance import SITE_ACCURACY, site_accuracy
from boldstream.analysis.quality import rankme
from boldstream.analysis.roi_statistics import RoiStatistics
from boldstream.artifacts.cohort import Cohort, cohort_tables
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.errors import few_of
from boldstream.nightly.config import GateConfig
from boldstream.nightly.side import Side, n_refused, similarities

SCANS_READ = 200
"""Scans on either side whose series are read for their connectivity."""
NOISE_SD = 2.33
"""Standard errors of a difference of two accuracies that chance exceeds once in a hundred, as if of other subjects."""


@dataclass(frozen=True)
class Check:
    """One question of the gate.

    Attributes
    ----------
    name : str
    passed : bool or None
        None where it could not be asked.
    told : str
        The numbers, in a sentence.
    value : float or None
        For MLflow.
    """

    name: str
    passed: bool | None
    told: str
    value: float | None = None


class Gate:
    """All questions about one new version.

    Parameters
    ----------
    asked : GateConfig
    candidate : EmbeddingTable
    champion : EmbeddingTable or None
        None on the first night: what compares with it is not asked.
    cohort, before : Cohort
        That the two were made of; `before` is None where its version is gone, or there is no champion.
    """

    def __init__(
        self,
        asked: GateConfig,
        candidate: EmbeddingTable,
        champion: EmbeddingTable | None,
        cohort: Cohort,
        before: Cohort | None,
    ) -> None:
        self.asked, self.cohort, self.before = asked, cohort, before
        self.candidate = Side(candidate, asked.max_scans, asked.seed)
        self.champion = Side(champion, asked.max_scans, asked.seed) if champion else None

    def judge(self) -> list[Check]:
        """Ask all questions; where vectors are broken, none of those that compute with them."""
        checks = [self._coverage(), self._failed(), self._finite()]
        if self.champion is not None:
            checks += [self._set_aside(), self._removed(), self._t_r(), self._connectivity()]
            if checks[2].passed and self.champion.n_bad == 0:
                checks += [self._drift(), self._rank(), self._site()]
        return checks

    @cached_property
    def _new(self) -> "pd.Index[str]":
        """Rows that the champion has not, or has of other content."""
        assert self.champion is not None
        before = self.champion.rows["scan_digest"].reindex(self.candidate.rows.index)
        return self.candidate.rows.index[(before != self.candidate.rows["scan_digest"]).to_numpy()]

    @property
    def _is_same_model(self) -> bool:
        assert self.champion is not None
        digests = [side.table.manifest.content.get("model_digest") for side in (self.candidate, self.champion)]
        return digests[0] == digests[1]

    def _counts(self, name: str) -> int:
        return int(self.candidate.table.manifest.content.get(name, 0))

    def _coverage(self) -> Check:
        n_vectors = len(self.candidate.rows)
        n_all = n_vectors + self._counts("quarantined") + self._counts("failed")
        share = n_vectors / n_all
        return Check(
            "coverage",
            share >= self.asked.min_coverage,
            f"{n_vectors} of {n_all} scans have a vector ({share:.1%}; at least {self.asked.min_coverage:.0%})",
            share,
        )

    def _failed(self) -> Check:
        n_failed = self._counts("failed")
        share = n_failed / (len(self.candidate.rows) + self._counts("quarantined") + n_failed)
        return Check(
            "failures",
            share <= self.asked.max_failed,
            f"{n_failed} scans failed ({share:.1%}; at most {self.asked.max_failed:.0%})",
            share,
        )

    def _finite(self) -> Check:
        n_bad = self.candidate.n_bad
        return Check(
            "vectors", n_bad == 0, f"{n_bad} of {len(self.candidate.rows)} are not finite, or all zero", float(n_bad)
        )

    def _set_aside(self) -> Check:
        """Look at what came since the champion, and how much of it is in quarantine, of ingest or of embed."""
        assert self.champion is not None
        if self.before is None:
            return Check("set aside", None, "the cohort version that the champion was made of is gone")
        content = [side.table.manifest.content for side in (self.candidate, self.champion)]
        counts = [
            n_refused(cohort_tables(self.cohort.table.warehouse, self.cohort.manifest.name)[1]),
            sum(self.before.manifest.content.get("quarantined", {}).values()),
        ]
        counts = [n + int(one.get("quarantined", 0)) for n, one in zip(counts, content, strict=True)]
        refused = max(0, counts[0] - counts[1])
        n_came = len(self._new) + refused
        share = refused / n_came if n_came else 0.0
        return Check(
            "set aside",
            share <= self.asked.max_set_aside,
            f"{refused} of {n_came} scans that came or changed went to quarantine ({share:.0%}; at most "
            f"{self.asked.max_set_aside:.0%})",
            share,
        )

    def _removed(self) -> Check:
        assert self.champion is not None
        gone = self.champion.rows.index.difference(self.candidate.rows.index)
        share = len(gone) / len(self.champion.rows)
        return Check(
            "removed",
            share <= self.asked.max_removed,
            f"{len(gone)} of the champion's {len(self.champion.rows)} scans are gone ({share:.1%}; at most "
            f"{self.asked.max_removed:.0%})",
            share,
        )

    def _t_r(self) -> Check:
        assert self.champion is not None
        known, now = (set(side.rows["t_r"].dropna().round(4)) for side in (self.champion, self.candidate))
        other = sorted(now - known)
        named = few_of([f"{t_r:g} s" for t_r in other], 3)
        return Check(
            "repetition time",
            self.asked.new_t_r or not other,
            f"scans with {named}, which the champion has not (new_t_r lets them in)" if other else "as the champion's",
            float(len(other)),
        )

    def _connectivity(self) -> Check:
        """Compare new scans' connectivity with the champion's: not every encoder sees that regions are out of order."""
        assert self.champion is not None
        carried = self.before.statistics() if self.before else None
        if self.before is None or carried is None:
            return Check("connectivity", None, "the champion's cohort is gone, or carries no statistics")
        trained = RoiStatistics.from_bytes(carried)
        sides = []
        for cohort, side, keys in (
            (self.before, self.champion, self.champion.rows.index.difference(self._new)),
            (self.cohort, self.candidate, self._new),
        ):
            rows = side.rows.loc[side.draw(keys, SCANS_READ)].drop_duplicates("scan_key").set_index("scan_key")
            own = pd.Series(similarities(cohort, rows.index, trained), dtype=np.float64)
            sides.append((own.to_numpy()[:, None], rows.loc[own.index, "subject"]))
        (known, known_subjects), (new, new_subjects) = sides
        found = (
            drift(known, new, known_subjects=known_subjects, new_subjects=new_subjects, seed=self.asked.seed)
            if len(new) and len(known)
            else None
        )
        if found is None:
            return Check("connectivity", None, f"{len(new)} new scans are of too few subjects to be tested")
        lower = float(found.shift[0])
        is_off = found.p_value <= self.asked.false_alarms and lower <= -self.asked.min_drift
        return Check(
            "connectivity",
            not is_off,
            f"new scans correlate {new.mean():.2f} with the mean connectivity, the champion's {known.mean():.2f} "
            f"({lower:+.2f} SD, p = {found.p_value:.3f}; held at p <= {self.asked.false_alarms:g} and "
            f"-{self.asked.min_drift:g} SD)",
            found.p_value,
        )

    def _drift(self) -> Check:
        """Compare the vectors of new scans with the champion's; of another model they have other axes."""
        assert self.champion is not None
        if not self._is_same_model:
            return Check("drift", None, "another model's vectors have other axes")
        new, (known, vectors) = self.candidate.draw(self._new), self.champion.sample
        found = len(new) and drift(
            vectors,
            self.candidate.vectors(new),
            known_subjects=self.champion.rows.loc[known, "subject"],
            new_subjects=self.candidate.rows.loc[new, "subject"],
            seed=self.asked.seed,
        )
        if not found:
            return Check("drift", None, f"{len(new)} new vectors are of too few subjects to be tested")
        is_off = found.p_value <= self.asked.false_alarms and found.largest >= self.asked.min_drift
        return Check(
            "drift",
            not is_off,
            f"{found.where} of {found.n_new} new subjects differs by {found.largest:.2f} SD from {found.n_known} known "
            f"ones (p = {found.p_value:.3f} over all dimensions; held at p <= {self.asked.false_alarms:g} and "
            f"{self.asked.min_drift:g} SD)",
            found.p_value,
        )

    def _rank(self) -> Check:
        """Compare effective ranks on as many rows, the same ones as far as both have them."""
        assert self.champion is not None
        common = self.champion.rows.index.intersection(self.candidate.rows.index)
        keys = self.champion.draw(common)
        if len(keys) < 3:
            return Check("rank", None, "too few scans are in both versions")
        before = rankme(self.champion.vectors(keys))
        # new scans take part: with them alone the rank may have collapsed
        pool = self.candidate.draw(self._new.append(common.difference(self._new))[: max(len(keys), 3)])
        now = rankme(self.candidate.vectors(pool))
        return Check(
            "rank",
            now >= self.asked.min_rank * before,
            f"effective rank {now:.1f} of {len(pool)} vectors, the champion's {before:.1f} of {len(keys)} (at least "
            f"{self.asked.min_rank:.0%} of it)",
            now / before,
        )

    def _site(self) -> Check:
        """Compare how well sites can be told; of few subjects that is known to within some tenths only."""
        assert self.champion is not None
        found = []
        for side in (self.champion, self.candidate):
            keys, vectors = side.sample
            rows = side.rows.loc[keys]
            sites = rows["site"].fillna("").astype(str)
            told = site_accuracy(vectors, sites, rows["subject"], self.asked.seed)
            if SITE_ACCURACY not in told:
                return Check("site", None, "fewer than two sites have subjects enough to be told apart")
            n_subjects = rows["subject"][sites != ""].nunique()
            found.append((told[SITE_ACCURACY], told[SITE_ACCURACY] * (1 - told[SITE_ACCURACY]) / n_subjects))
        (before, variance), (now, other) = found
        noise = NOISE_SD * float(np.sqrt(variance + other))
        return Check(
            "site",
            now - before <= self.asked.max_site_jump + noise,
            f"read from the vectors with a balanced accuracy of {now:.2f}, from the champion's {before:.2f} (held "
            f"where it is {self.asked.max_site_jump:g} more, beyond {noise:.2f} that so few subjects leave to chance)",
            now - before,
        )
