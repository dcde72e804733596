"""Which scans are trained on, which are held out, and what their scaling is: one look at the cohort before training."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.analysis.splits import hold_out
from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.encoders.brainjepa.scaling import RoiRobustScaler, Scaler, WindowZscore
from boldstream.errors import ScanError, TrainingError
from boldstream.parcellation.timing import resampled_length
from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.plan import WindowPlan
from boldstream.pretrain.task import ScanSet
from boldstream.storage import filesystem

LIGHT_COLUMNS = ["scan_key", "subject", "t_r", "n_timepoints", "age", "sex"]
FEWEST = 8
"""Held-out scans below this number are too few to measure collapse on; then trained scans are looked at."""
SEX_CODES = {"F": 0.0, "M": 1.0}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingScans:
    """The scans of a cohort, sorted into those that are trained on and those that are not.

    Attributes
    ----------
    plan : WindowPlan
        Of the trained scans.
    scaler : Scaler
        Fitted on the trained scans.
    monitored, probed : ScanSet
        Scans to measure collapse and test probes on, and trained scans to fit probes on.
    held_out_subjects : tuple of str
        Subjects that are not trained on, sorted; empty where all are.
    n_short : int
        Scans that fill no window, or whose repetition time is unknown.
    """

    plan: WindowPlan
    scaler: Scaler
    monitored: ScanSet
    probed: ScanSet
    held_out_subjects: tuple[str, ...]
    n_short: int


def sort_scans(cohort: Cohort, config: PretrainConfig) -> TrainingScans:
    """Look at every scan of a cohort once, in Ray tasks, and decide what it is used for.

    Held-out subjects follow from the seed and their names. With robust scaling the scans' means and standard
    deviations are read too, otherwise only their lengths.

    Raises
    ------
    TrainingError
        If no scan fills a window, too few are left to train on, or the scaling does not fit them.
    """
    scans = _describe(cohort, config)
    usable = scans[scans["usable"]].reset_index(drop=True)
    n_short = len(scans) - len(usable)
    if usable.empty:
        at = f" at {config.target_t_r:g} s" if config.target_t_r else ""
        raise TrainingError(
            f"none of the {n_short} scans of cohort {cohort.label} fills a window of {config.n_timepoints} timepoints"
            f"{at}; use a smaller n_timepoints"
        )
    if n_short:
        logger.warning("pretrain: %d scans are shorter than a window and are left out", n_short)
    held_out = hold_out(usable["subject"].unique().tolist(), config.holdout, config.seed)
    is_out = usable["subject"].isin(held_out)
    trained, rest = usable[~is_out].reset_index(drop=True), usable[is_out].reset_index(drop=True)
    n_windows = len(trained) * config.windows_per_scan
    if config.steps != 0 and n_windows < config.optim.batch_size:
        raise TrainingError(
            f"cohort {cohort.label} gives {n_windows} windows an epoch ({len(trained)} scans to train on, "
            f"windows_per_scan {config.windows_per_scan}), less than one batch of {config.optim.batch_size}; "
            "raise windows_per_scan or lower optim.batch_size"
        )
    plan = _plan(cohort, trained, config)
    seen = (_plan(cohort, rest, config), rest) if len(rest) >= FEWEST else (plan, trained)
    return TrainingScans(
        plan=plan,
        scaler=_fit_scaler(trained, config),
        monitored=_choose(*seen, config.monitor.scans, config.seed),
        probed=_choose(plan, trained, config.monitor.probe_scans, config.seed),
        held_out_subjects=tuple(sorted(held_out)),
        n_short=n_short,
    )


def _plan(cohort: Cohort, scans: pd.DataFrame, config: PretrainConfig) -> WindowPlan:
    file, group, row = (scans[name].to_numpy(dtype=np.int64) for name in ("file", "group", "row"))
    return WindowPlan(
        files=tuple(file.uri for file in cohort.files),
        scan_keys=tuple(scans["scan_key"]),
        file=file,
        group=group,
        row=row,
        length=config.n_timepoints,
        n_rois=len(cohort.roi_names),
        target_t_r=config.target_t_r,
        windows_per_scan=config.windows_per_scan,
        views=config.objective.views,
        seed=config.seed,
    )


def _choose(plan: WindowPlan, scans: pd.DataFrame, most: int, seed: int) -> ScanSet:
    """Choose at most so many scans, at random."""
    chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(scans))[:most])
    rows = scans.iloc[chosen]
    age = rows["age"].to_numpy(dtype=np.float64, na_value=np.nan)
    sex = rows["sex"].str.upper().str[0].map(SEX_CODES).to_numpy(dtype=np.float64, na_value=np.nan)
    return ScanSet(plan, chosen, age, np.asarray(sex, dtype=np.float64))


def _fit_scaler(trained: pd.DataFrame, config: PretrainConfig) -> Scaler:
    if config.scaling == "zscore":
        return WindowZscore().fit()
    return RoiRobustScaler().fit(np.stack(trained["mean"].tolist()), np.stack(trained["std"].tolist()))


def _describe(cohort: Cohort, config: PretrainConfig) -> pd.DataFrame:
    """Return a row a scan: where it lies, whose it is, whether it is usable; sorted by place.

    Files come in the order of their smallest scan keys. Their names are digests of all that they hold, the scans' paths
    too, and would put the windows of the same scans in another order in another folder.
    """
    import ray.data

    uris = [file.uri for file in cohort.files]
    dataset = ray.data.range(len(uris), override_num_blocks=len(uris)).flat_map(
        describe_file, fn_kwargs={"uris": uris, "config": config}
    )
    rows = pd.DataFrame(dataset.iter_rows())
    rows["first"] = rows.groupby("file")["scan_key"].transform("min")
    return rows.sort_values(["first", "group", "row"], ignore_index=True)


def describe_file(item: dict[str, Any], *, uris: list[str], config: PretrainConfig) -> Iterator[dict[str, Any]]:
    """Yield a row a scan of one file; ``mean`` and ``std`` over time (n_rois) where the scaling needs them."""
    number = int(item["id"])
    fs, path = filesystem(uris[number])
    columns = LIGHT_COLUMNS + (["timeseries", "n_rois"] if config.scaling == "robust" else [])
    with fs.open_input_file(path) as stream:
        parquet = pq.ParquetFile(stream)
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=columns)
            statistics = _statistics(rows) if config.scaling == "robust" else [{}] * rows.num_rows
            for row, (light, found) in enumerate(zip(rows.select(LIGHT_COLUMNS).to_pylist(), statistics, strict=True)):
                place = {"file": number, "group": group, "row": row, "usable": _is_usable(light, config)}
                yield place | {name: light[name] for name in ("scan_key", "subject", "age", "sex")} | found


def _statistics(rows: "pq.Table") -> list[dict[str, NDArray[np.float64]]]:
    values = (timeseries.astype(np.float64) for timeseries in iter_timeseries(rows))
    return [{"mean": found.mean(axis=0), "std": found.std(axis=0)} for found in values]


def _is_usable(scan: dict[str, Any], config: PretrainConfig) -> bool:
    if config.target_t_r is None:
        return bool(scan["n_timepoints"] >= config.n_timepoints)
    try:
        return resampled_length(scan["n_timepoints"], scan["t_r"], config.target_t_r) >= config.n_timepoints
    except ScanError:
        return False
