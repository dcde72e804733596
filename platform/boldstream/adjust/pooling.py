"""Attention pooling fitted in the adjust room: whom the query is trained on, for what, and what is told of it."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.adjust.gather import training_latents
from boldstream.adjust.rows import STATE, as_array
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.nuisance import PooledFor
from boldstream.analysis.pooling import AttentionPooling
from boldstream.analysis.splits import hold_out
from boldstream.analysis.steps import AttentionStep
from boldstream.analysis.target_values import has_value, type_values
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.errors import AdjustmentError

N_INNER = 5
"""Inner folds in which the number of epochs is chosen, as heads of the probe room do by default."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedQuery:
    """A query, and what it was trained on.

    Attributes
    ----------
    pooling : AttentionPooling
    pooled_for : PooledFor
        Of all training rows of the adjustment.
    told : dict
        For the manifest: target and kind, seed, epochs, and how many rows and subjects it was trained on or not.
    """

    pooling: AttentionPooling
    pooled_for: PooledFor
    told: dict[str, Any]


def check_latents(source: EmbeddingTable) -> None:
    """Refuse a table whose strategy has kept no latents of regions.

    Raises
    ------
    AdjustmentError
    """
    strategy = source.manifest.content["strategy"]
    if not strategy.get("keep_roi_latents"):
        raise AdjustmentError(
            f"table {source.label} has no latents of regions, which the adjustment pools: strategy "
            f"{strategy['id']!r} has keep_roi_latents: false; embed with one that has keep_roi_latents: true"
        )


def train_query(step: AttentionStep, source: EmbeddingTable, train: pa.Table) -> TrainedQuery:
    """Train the query on those training rows whose subjects have a value of the target.

    Raises
    ------
    AdjustmentError
        If the column is no such target, or too few subjects have a value.
    """
    try:
        kind, classes, y, n_missing = _read_target(step, train)
        subjects = as_array(train["subject"])
        known = ~np.isnan(y)
        people = sorted(set(subjects[known].tolist()))
        drawn = people
        if len(people) > step.max_subjects:
            drawn = sorted(hold_out(people, step.max_subjects / len(people), step.seed))
        pooled_for = PooledFor(y, _deal(train, subjects, y, step.seed))
        chosen = known & np.isin(subjects, drawn)
        pooling = AttentionPooling(kind, epochs=step.epochs)
        pooling.fit(training_latents(source, train.filter(pa.array(chosen))), **pooled_for.of(chosen))
    except ValueError as error:
        raise AdjustmentError(f"step {step.step!r} cannot be trained on rows of {source.label}: {error}") from None
    told = {
        **step.model_dump(mode="json", include={"target", "seed"}),
        "kind": kind,
        "classes": classes,
        "epochs": pooling.epochs_,
        "cohort": source.manifest.content["cohort"],
        "n_train": pooling.n_train_,
        "n_train_subjects": len(drawn),
        "n_rows_without_value": n_missing,
        "n_rows_of_other_classes": int((~known).sum()) - n_missing,
        "n_subjects_without_value": len(set(subjects.tolist())) - len(people),
    }
    _tell(step, told)
    return TrainedQuery(pooling, pooled_for, told)


def _tell(step: AttentionStep, told: dict[str, Any]) -> None:
    logger.info(
        "adjust: query trained for %s (%s) on %d rows of %d subjects for %d epochs; %d subjects have no value of it",
        step.target.name, told["kind"], told["n_train"], told["n_train_subjects"], told["epochs"],
        told["n_subjects_without_value"],
    )  # fmt: skip
    if not told["epochs"]:
        logger.warning(
            "adjust: no number of epochs told %s better than its mean does in inner folds: the pooling is the mean",
            step.target.name,
        )


def _read_target(step: AttentionStep, train: pa.Table) -> tuple[Any, tuple[str, ...] | None, NDArray[np.float64], int]:
    """Return kind, classes, a value a row (NaN for none, and for other classes), and how many rows have none."""
    column = step.target.column
    if column in {*STATE, "scan_key", "subject"} or pa.types.is_nested(train.schema.field(column).type):
        raise ValueError(f"column {column!r} is no target: it tells rows, or holds lists")
    raw = train[column].to_pandas()
    there = has_value(raw)
    if not there.any():
        raise ValueError(f"target {step.target.name!r}: none of {len(raw)} training rows has a value")
    kind, classes, values = type_values(step.target, raw[there])
    y = np.full(len(raw), np.nan)
    y[there] = values
    return kind, classes, y, int((~there).sum())


def _deal(train: pa.Table, subjects: NDArray, y: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Deal rows that have a value to inner folds, subjects as wholes; 0 for the others, which are left out anyway."""
    rows = np.flatnonzero(~np.isnan(y))
    people = pd.DataFrame({"scan": train["row_key"].to_numpy()[rows], "subject": subjects[rows]})
    folds = np.zeros(len(y), dtype=np.int64)
    folds[rows] = nested_folds(people, y[rows], n_folds=N_INNER, n_inner=2, seed=seed).outer[0]
    return folds
