"""What is probed: the scans that all tables have, one vector each, and what is known of who was scanned."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from boldstream.analysis.splits import draw_subjects
from boldstream.artifacts.cohort import Cohort, open_cohort
from boldstream.artifacts.embeddings import EmbeddingTable, open_table
from boldstream.errors import ConfigError, EmbeddingsError, ResultsError, few_of
from boldstream.probe.config import ProbeConfig
from boldstream.probe.targets import check_column

NO_TARGETS = frozenset({"row_key", "scan_key", "part", "scan_digest", "vector_sha256"})
"""Columns that tell a row; those that hold lists are no targets either."""
FROM_SERIES = frozenset({"fc", "fc_kernel", "fc_reduced", "tangent", "moments"})
"""Baselines that read the cohort's time series."""
N_NAMED = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """Scans that are in all tables.

    Attributes
    ----------
    scans : DataFrame
        What the first table tells of them, a row a scan, indexed by ``scan_key`` in sorted order.
    tables : dict of str to EmbeddingTable
    vectors : dict of str to array, shape (n_scans, n_dims), float32
        By table; of a scan that is embedded in parts, the parts' mean.
    latents : dict of str to array, shape (n_scans, n_rois, n_dims), float32
        By table, where they are asked for.
    parts : dict of str to int
        In how many parts each table has a scan.
    left_out : dict of str to int
        By table: scans that lack a part, or that another table or the cohort has not.
    n_sampled_from : int
        Scans before a random part of the subjects was taken.
    cohort : Cohort
    """

    scans: pd.DataFrame
    tables: dict[str, EmbeddingTable]
    vectors: dict[str, NDArray[np.float32]]
    latents: dict[str, NDArray[np.float32]]
    parts: dict[str, int]
    left_out: dict[str, int]
    n_sampled_from: int
    cohort: Cohort

    @property
    def keys(self) -> list[str]:
        """Keys of the scans."""
        return self.scans.index.tolist()


def open_tables(config: ProbeConfig) -> tuple[dict[str, EmbeddingTable], Cohort]:
    """Open the tables and the cohort that they are made of, and check that the columns asked for are there.

    Raises
    ------
    EmbeddingsError, CohortError
        If one is not there or not whole.
    ConfigError
        If tables are of different cohorts, or a column is not there.
    """
    tables = {name: open_table(pointer, config.warehouse) for name, pointer in config.tables.items()}
    first = next(iter(tables))
    made_of = {name: str(table.manifest.content["cohort"]) for name, table in tables.items()}
    if other := [name for name, uri in made_of.items() if uri != made_of[first]]:
        raise ConfigError(
            f"tables.{other[0]}: {tables[other[0]].label!r} was made of cohort {made_of[other[0]]!r}, tables.{first} "
            f"of {made_of[first]!r}; name tables of one cohort"
        )
    fields = tables[first].table.schema
    there = [one.name for one in fields if one.name not in NO_TARGETS and not pa.types.is_list(one.type)]
    for target in config.targets:
        check_column(target.column, there, "targets")
    for column in config.transfer.columns:
        check_column(column, there, "transfer")
    if config.folds.family is not None:
        check_column(config.folds.family, there, "folds.family")
    parent = next((one for one in tables[first].manifest.parents if one.role == "cohort"), None)
    if parent is None:
        raise EmbeddingsError(f"table {tables[first].label} names no cohort; embed it again")
    return tables, open_cohort(f"{parent.uri}@{parent.version}", config.warehouse)


def read_material(config: ProbeConfig, tables: dict[str, EmbeddingTable], cohort: Cohort) -> Material:
    """Read the tables' vectors and choose the scans.

    Raises
    ------
    ResultsError
        If no scan is in all tables.
    """
    first = next(iter(tables))
    read = {name: _read_table(one, _columns(config, one) if name == first else []) for name, one in tables.items()}
    pooled = {name: _read_latents(one, cohort) for name, one in tables.items() if config.attention}
    keys = [set(found.scans.index) for found in read.values()]
    if FROM_SERIES & set(config.baselines):
        keys.append({key for _, found in cohort.keys_by_file() for key in found})
    common = set.intersection(*keys)
    if not common:
        counts = ", ".join(f"{name}: {len(found.scans)}" for name, found in read.items())
        raise ResultsError(f"tables: no scan is in all of them and in the cohort (scans in each: {counts})")
    scans = read[first].scans.loc[sorted(common)]
    chosen = scans
    if config.max_scans is not None and len(scans) > config.max_scans:
        chosen = scans[scans["subject"].isin(draw_subjects(scans["subject"], config.max_scans, config.seed))]
        logger.info("probe: %d of %d scans, those of a random part of the subjects", len(chosen), len(scans))
    material = Material(
        scans=chosen,
        tables=tables,
        vectors={name: found.vectors[found.scans.index.get_indexer(chosen.index)] for name, found in read.items()},
        latents={name: found[read[name].scans.index.get_indexer(chosen.index)] for name, found in pooled.items()},
        parts={name: found.n_parts for name, found in read.items()},
        left_out={name: found.n_rows_of_scans - len(common) for name, found in read.items()},
        n_sampled_from=len(scans),
        cohort=cohort,
    )
    for name, count in material.left_out.items():
        if count:
            logger.warning("probe: %d scans of table %s lack a part, or are not in all tables", count, name)
    return material


@dataclass(frozen=True)
class _Read:
    scans: pd.DataFrame
    vectors: NDArray[np.float32]
    n_parts: int
    n_rows_of_scans: int


def _columns(config: ProbeConfig, table: EmbeddingTable) -> list[str]:
    """Return the columns of the table that the configuration has a use for, and the covariates of adjustments."""
    wanted = ["subject", "site", "age", "sex", "mean_fd", "global_signal_flag", *config.confounds]
    wanted += [target.column for target in config.targets]
    wanted += [config.folds.family] if config.folds.family else []
    wanted += ["t_r", *config.transfer.columns] if config.transfer.is_asked else []
    there = set(table.table.schema.names)
    return [name for name in dict.fromkeys(wanted) if name in there and name != "scan_key"]


def _read_table(table: EmbeddingTable, columns: Sequence[str]) -> _Read:
    """Read vectors, and average the parts of every scan that has all of them."""
    rows, means, whole = _means(table, "embedding", _read_rows(table, ["embedding", *columns]))
    keys, starts = np.unique(rows["scan_key"].to_numpy(dtype=str), return_index=True)
    scans = rows.iloc[starts].set_index("scan_key")[whole]
    return _Read(scans, means, int(table.manifest.content.get("parts", 1)), len(keys))


def _read_latents(table: EmbeddingTable, cohort: Cohort) -> NDArray[np.float32]:
    """Read regions' latents of the scans that `_read_table` gives, (n_scans, n_rois, n_dims)."""
    rows = _read_rows(table, ["roi_latents"])
    if rows["roi_latents"].null_count:
        raise ResultsError(
            f"table {table.label} has no latents of regions to pool by attention; embed with a strategy that has "
            "keep_roi_latents: true"
        )
    _, means, _ = _means(table, "roi_latents", rows)
    return means.reshape(len(means), len(cohort.roi_names), -1)


def _read_rows(table: EmbeddingTable, columns: Sequence[str]) -> pa.Table:
    """Return columns of all rows, by scan."""
    rows = table.table.column(["scan_key", *columns], table.manifest.version)
    return rows.sort_by("scan_key").combine_chunks()


def _means(
    table: EmbeddingTable, column: str, rows: pa.Table
) -> tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.bool_]]:
    """Return other columns of all rows by scan, the parts' mean of the whole scans, and which scans are whole."""
    n_parts = int(table.manifest.content.get("parts", 1))
    lengths = pc.unique(pc.list_value_length(rows[column])).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        told = few_of(sorted(map(str, lengths)), N_NAMED)
        raise ResultsError(f"the vectors of {table.label} have different lengths, or none ({told}); embed them again")
    flat = pa.concat_arrays([chunk.flatten() for chunk in rows[column].chunks])
    vectors = np.asarray(flat, dtype=np.float32).reshape(rows.num_rows, -1)
    light = rows.drop_columns([column]).to_pandas()
    _, starts, counts = np.unique(light["scan_key"].to_numpy(dtype=str), return_index=True, return_counts=True)
    means = vectors if n_parts == 1 else np.add.reduceat(vectors, starts, axis=0) / counts[:, None].astype(np.float32)
    whole: NDArray[np.bool_] = counts == n_parts
    if not np.isfinite(means).all():
        raise ResultsError(f"table {table.label} has vectors that are not finite; embed these scans again")
    return light, np.asarray(means[whole], dtype=np.float32), whole
