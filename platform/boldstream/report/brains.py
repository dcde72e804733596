"""Where in the brain a linear probe's prediction comes from, by the regions' own latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.attribution import region_shares, region_terms
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.intervals import Estimate, bootstrap_ci
from boldstream.analysis.nested import METRICS, TargetKind, predict_nested
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.versions import iter_batches
from boldstream.errors import ConfigError
from boldstream.report.material import Selection
from boldstream.report.probes import CHANCE
from boldstream.report.probes import METRICS as METRIC_TITLES
from boldstream.report.wording import capital, told_value

LATENTS = "roi_latents"
FEWEST = 20
"""Subjects below which no probe is fitted: five folds of four tell nothing."""
N_BOOTSTRAP = 1000
STANDS_OUT = 2.0
"""Times an even share below which the page says that no region stands out."""
N_NAMED = 10
"""Regions that are named."""


@dataclass(frozen=True)
class BrainMap:
    """What every region adds to a probe's prediction of one target.

    Attributes
    ----------
    target, table : str
    kind : {"continuous", "binary"}
    n : int
        Subjects.
    metric : str
    value : Estimate
        Out-of-fold score of the same probe in these subjects, with its 95 % interval.
    shares : array, shape (n_rois,)
        Share of the variance of the predictions that comes with the region; they sum to 1, and may be negative.
    """

    target: str
    table: str
    kind: TargetKind
    n: int
    metric: str
    value: Estimate
    shares: NDArray[np.float64]

    @property
    def times_even(self) -> NDArray[np.float64]:
        """The shares, by what every region would have if all were alike."""
        return self.shares * len(self.shares)

    def sentence(self, roi_names: Sequence[str]) -> str:
        """Say which region has the most, and whether it stands out."""
        times, most = self.times_even, int(self.shares.argmax())
        told = f"{roi_names[most]} has the most, {times[most]:.1f} times an even share"
        return f"{told}: no region stands out." if times[most] < STANDS_OUT else f"{told}."

    def top(self, roi_names: Sequence[str]) -> list[tuple[str, float]]:
        """Return the regions with the largest shares."""
        order = np.argsort(-self.shares, kind="stable")[:N_NAMED]
        return [(roi_names[i], float(self.shares[i])) for i in order]


@dataclass(frozen=True)
class Brains:
    """The maps of all targets, and why some have none.

    Attributes
    ----------
    maps : list of BrainMap
    missing : list of str
        Sentences.
    """

    maps: list[BrainMap]
    missing: list[str]


def map_targets(
    table: EmbeddingTable, name: str, selection: Selection, vectors: NDArray[np.float32], targets: Sequence[str]
) -> Brains:
    """Fit a ridge probe of each target to the chosen scans, and follow its predictions back to the regions.

    A vector is the mean of its regions' latents, so a linear prediction is a sum over regions, and a region's share is
    what the predictions vary by with it (`analysis.attribution`). The probe is a ridge on the table's scaled
    dimensions; how well it predicts is measured in folds by subject, where it looks in one fitted to all.

    Parameters
    ----------
    table : EmbeddingTable
        With ``roi_latents``, else there is no map.
    name : str
    selection : Selection
    vectors : array, shape (n_parts, n_scans, n_dims)
        The table's, of the chosen scans.
    targets : sequence of str
        Columns of the table.

    Raises
    ------
    ConfigError
        If the table has no such column.
    """
    if not targets:
        return Brains([], [])
    if absent := [target for target in targets if target not in selection.rows.columns]:
        raise ConfigError(f"brain_targets: table {table.label} has no column {absent[0]!r}")
    if not _has_latents(table):
        return Brains(
            [],
            [
                f"Table {name} has no latents of single regions, so nothing tells where a probe looks: embed with "
                "keep_roi_latents: true in the strategy."
            ],
        )
    x = vectors.mean(axis=0, dtype=np.float64)
    fitted, missing = [], []
    for target in targets:
        found = _fit(target, selection.rows, x)
        if isinstance(found, str):
            missing.append(found)
        else:
            fitted.append(found)
    if not fitted:
        return Brains([], missing)
    terms = read_terms(table, selection, np.stack([one.weights for one in fitted]))
    maps = [
        BrainMap(one.target, name, one.kind, len(one.rows), one.metric, one.value, region_shares(own[one.rows]))
        for one, own in zip(fitted, terms, strict=True)
    ]
    return Brains(maps, missing)


@dataclass(frozen=True)
class _Fitted:
    target: str
    kind: TargetKind
    rows: NDArray[np.int64]
    metric: str
    value: Estimate
    weights: NDArray[np.float64]


def _fit(target: str, rows: pd.DataFrame, x: NDArray[np.float64]) -> _Fitted | str:
    """Fit the probe of one target, or say why there is none."""
    there = np.flatnonzero(rows[target].notna().to_numpy())
    if len(there) < FEWEST:
        return f"{capital(target)}: known of {len(there)} of the subjects measured here, at least {FEWEST} are needed."
    values = rows[target].iloc[there]
    levels = sorted(values.unique().tolist())
    kind: TargetKind = "binary" if len(levels) == 2 else "continuous"
    if len(levels) < 2 or (kind == "continuous" and not pd.api.types.is_numeric_dtype(values)):
        what = f"has {len(levels)} values that are no numbers"
        return f"{capital(target)}: {what}; a linear probe needs numbers or two classes."
    y = (values == levels[1]).to_numpy(dtype=np.float64) if kind == "binary" else values.to_numpy(dtype=np.float64)
    scans = rows.iloc[there][["subject", "site"]].assign(scan=rows.index[there].astype(str))
    metric = next(iter(METRICS[kind]))
    try:
        folds = nested_folds(scans, y)
        guesses = predict_nested(x[there], y, folds, RidgeHead(), kind=kind, front=StandardScaler())
        value = bootstrap_ci(METRICS[kind][metric], *guesses.arrays, n=N_BOOTSTRAP)
    except ValueError as error:
        return f"{capital(target)}: no probe can be fitted ({error})."
    if value.low <= CHANCE[metric]:
        return (
            f"{capital(target)}: in these {len(there)} subjects the probe is not told from knowing nothing "
            f"({METRIC_TITLES[metric]} {told_value(value)}), so its regions "
            "mean nothing."
        )
    scaler = StandardScaler().fit(x[there])
    head = RidgeHead().fit(scaler.transform(x[there]), y, folds.outer[0])
    return _Fitted(target, kind, there, metric, value, head.coef_ / scaler.scale_)


def read_terms(table: EmbeddingTable, selection: Selection, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stream the latents of the chosen scans and return every region's terms, shape (n_targets, n_scans, n_rois).

    Parameters
    ----------
    table : EmbeddingTable
    selection : Selection
    weights : array, shape (n_targets, n_dims)
    """
    place = {key: i for i, key in enumerate(selection.scans)}
    wanted = pa.array(selection.scans, pa.string())
    found: NDArray[np.float64] | None = None
    for batch in iter_batches(table.table, table.manifest.version, ["scan_key", LATENTS]):
        rows = batch.filter(pc.is_in(batch["scan_key"].cast(pa.string()), value_set=wanted))
        for key, latents in zip(rows["scan_key"].to_pylist(), rows[LATENTS], strict=True):
            terms = region_terms(np.asarray(latents.values).reshape(-1, weights.shape[1]), weights)
            if found is None:
                found = np.zeros((len(terms), len(place), terms.shape[1]))
            found[:, place[key]] += terms / selection.n_parts
    assert found is not None
    return found


def _has_latents(table: EmbeddingTable) -> bool:
    strategy: dict[str, Any] = table.manifest.content["strategy"]
    return bool(strategy.get("keep_roi_latents")) and "adjustment" not in table.manifest.content


def numbers_of_brains(brains: Brains, roi_names: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows, as JSON types."""
    return {
        "not_shown": brains.missing,
        "targets": {
            one.target: {
                "table": one.table,
                "kind": one.kind,
                "n_subjects": one.n,
                "metric": one.metric,
                "value": one.value.value,
                "interval": [one.value.low, one.value.high],
                "sentence": one.sentence(roi_names),
                "top": dict(one.top(roi_names)),
                "shares": dict(zip(roi_names, one.shares.round(6).tolist(), strict=True)),
            }
            for one in brains.maps
        },
    }
