"""The quality gate: what a new version of an embedding table must be like to be its champion."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.analysis.drift import Drift, drift
from boldstream.analysis.nuisance import SITE_ACCURACY, site_accuracy
from boldstream.analysis.quality import rankme
from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.versions import iter_batches
from boldstream.errors import few_of
from boldstream.nightly.config import GateConfig


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


class Side:
    """One version of the table, as the gate looks at it: all light columns, and some of the vectors.

    Parameters
    ----------
    table : EmbeddingTable
    most : int
        Vectors kept.
    seed : int
    """

    def __init__(self, table: EmbeddingTable, most: int, seed: int) -> None:
        self.table, self.most, self.seed = table, most, seed

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Light columns, by ``row_key``."""
        return self.table.rows().set_index("row_key")

    @cached_property
    def n_bad(self) -> int:
        """Vectors that hold NaN or infinity, or are all zero."""
        return sum(self._is_bad(vector) for _, vector in self._stream())

    @staticmethod
    def _is_bad(vector: NDArray[np.float32]) -> bool:
        return not np.isfinite(vector).all() or not vector.any()

    def _stream(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        version = self.table.manifest.version
        for batch in iter_batches(self.table.table, version, ["row_key", "embedding"]):
            for key, vector in zip(batch["row_key"].to_pylist(), batch["embedding"], strict=True):
                yield key, np.asarray(vector.values, dtype=np.float32)

    def draw(self, keys: "pd.Index[str]") -> "pd.Index[str]":
        """Return the keys, or a random sample of them."""
        if len(keys) <= self.most:
            return keys
        places = np.random.default_rng(self.seed).choice(len(keys), self.most, replace=False)
        return keys[np.sort(places)]

    def vectors(self, keys: "pd.Index[str]") -> NDArray[np.float64]:
        """Return the vectors of some rows, in their order, shape (n, d); the others are streamed past."""
        place = {key: i for i, key in enumerate(keys)}
        found: dict[int, NDArray[np.float32]] = {place[key]: v for key, v in self._stream() if key in place}
        return np.stack([found[i] for i in range(len(keys))]).astype(np.float64)


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a version.

    Attributes
    ----------
    checks : list of Check
    drift : Drift or None
        Where it was tested.
    """

    checks: list[Check]
    drift: Drift | None

    @property
    def reasons(self) -> list[str]:
        """Why the version is held; empty where it passed."""
        return [f"{check.name}: {check.told}" for check in self.checks if check.passed is False]


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
        self.drift: Drift | None = None

    def judge(self) -> Verdict:
        """Ask all questions; where vectors are broken, none of those that compute with them."""
        checks = [self._coverage(), self._failed(), self._finite()]
        if self.champion is not None:
            checks += [self._set_aside(), self._removed(), self._t_r()]
            if checks[2].passed and self.champion.n_bad == 0:
                checks += [self._drift(), self._rank(), self._site()]
        return Verdict(checks, self.drift)

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
        counts = [sum(one.manifest.content.get("quarantined", {}).values()) for one in (self.cohort, self.before)]
        counts = [n + int(one.get("quarantined", 0)) for n, one in zip(counts, content, strict=True)]
        n_refused = max(0, counts[0] - counts[1])
        n_came = len(self._new) + n_refused
        share = n_refused / n_came if n_came else 0.0
        return Check(
            "set aside",
            share <= self.asked.max_set_aside,
            f"{n_refused} of {n_came} scans that came or changed went to quarantine ({share:.0%}; at most "
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

    def _drift(self) -> Check:
        """Compare the vectors of new scans with the champion's; of another model they have other axes."""
        assert self.champion is not None
        if not self._is_same_model:
            return Check("drift", None, "another model's vectors have other axes")
        new, known = self.candidate.draw(self._new), self.champion.draw(self.champion.rows.index)
        found = len(new) and drift(
            self.champion.vectors(known),
            self.candidate.vectors(new),
            known_subjects=self.champion.rows.loc[known, "subject"],
            new_subjects=self.candidate.rows.loc[new, "subject"],
            seed=self.asked.seed,
        )
        if not found:
            return Check("drift", None, f"{len(new)} new vectors are of too few subjects to be tested")
        self.drift = found
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
        assert self.champion is not None
        found = []
        for side in (self.champion, self.candidate):
            keys = side.draw(side.rows.index)
            rows = side.rows.loc[keys]
            found.append(
                site_accuracy(
                    side.vectors(keys), rows["site"].fillna("").astype(str), rows["subject"], self.asked.seed
                ).get(SITE_ACCURACY)
            )
        before, now = found
        if before is None or now is None:
            return Check("site", None, "fewer than two sites have subjects enough to be told apart")
        return Check(
            "site",
            now - before <= self.asked.max_site_jump,
            f"read from the vectors with a balanced accuracy of {now:.2f}, from the champion's {before:.2f} (at most "
            f"{self.asked.max_site_jump:g} more)",
            now - before,
        )
