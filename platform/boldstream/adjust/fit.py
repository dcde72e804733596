"""Fitting: the training rows of a table as one float32 matrix, the steps learnt from it, the adjustment stored."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from numpy.typing import NDArray

from boldstream.adjust.config import AdjustConfig
from boldstream.adjust.gather import training_latents, training_matrix
from boldstream.adjust.pooling import TrainedQuery, train_query
from boldstream.adjust.refuse import refuse
from boldstream.adjust.rows import Split, as_array, covariates_of, digest_rows, is_in
from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.nuisance import PooledFor, before_and_after
from boldstream.analysis.pooling import AttentionPooling
from boldstream.analysis.steps import Impute, Step, needed, part_attention
from boldstream.artifacts.adjustment import StoredAdjustment, find_adjustment, publish_adjustment
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.manifest import Parent
from boldstream.errors import AdjustmentError, ConfigError
from boldstream.storage import Warehouse
from boldstream.strategy import Strategy
from boldstream.tracking import JobRun

POOLING = "pooling"
"""Where an adjustment keeps what attention pooling has learnt: prefix of arrays, name of values."""
STEPS: pydantic.TypeAdapter[tuple[Step, ...]] = pydantic.TypeAdapter(tuple[Step, ...])

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """What is fitted: the strategy's steps without those that are left out.

    Attributes
    ----------
    strategy : Strategy
    steps : tuple of Step
    pending : list of str
        Steps that are left out.
    """

    strategy: Strategy
    steps: tuple[Step, ...]
    pending: list[str]

    @property
    def reads(self) -> list[str]:
        """Columns that the steps are fitted with."""
        attention, rest = part_attention(self.steps)
        return [*needed(rest), *([attention.target.column] if attention else [])]

    @classmethod
    def of(cls, config: AdjustConfig, source: EmbeddingTable) -> "Recipe":
        """Read the strategy's file, and check that it could have made the table's vectors.

        Raises
        ------
        ConfigError
        """
        assert config.strategy is not None
        strategy = Strategy.from_yaml(config.strategy)
        theirs, ours = dict(source.manifest.content["strategy"]), strategy.embedding()
        for name in ours.keys() - {"id"}:
            if name in theirs and theirs[name] != ours[name]:
                raise ConfigError(
                    f"{config.strategy}: {name} is {ours[name]!r}, table {source.label} was embedded with "
                    f"{theirs[name]!r}; use a strategy with the table's, or embed with this one"
                )
        steps = tuple(step for step in strategy.adjust if step.step not in config.leave_out)
        if not steps:
            raise ConfigError(f"{config.strategy}: there is no step to apply (adjust is empty, or all are left out)")
        return cls(strategy, steps, [one.describe() for one in strategy.adjust if one.step in config.leave_out])


@dataclass(frozen=True)
class Fitted:
    """A stored adjustment ready to be applied.

    Attributes
    ----------
    steps : tuple of Step
        All of them.
    pooling : AttentionPooling or None
        Makes vectors of regions' latents; None: vectors are the source's.
    adjustment : Adjustment
        The steps that take vectors.
    """

    steps: tuple[Step, ...]
    pooling: AttentionPooling | None
    adjustment: Adjustment


def restore(stored: StoredAdjustment, config: AdjustConfig) -> Fitted:
    """Return a stored adjustment ready to be applied, with the configuration's rule for unseen sites.

    Raises
    ------
    AdjustmentError
        If steps, arrays and values do not belong together.
    """
    learnt = stored.manifest.content["learnt"]
    try:
        steps = STEPS.validate_python(learnt["steps"])
        attention, rest = part_attention(steps)
        impute = Impute.model_validate(learnt["impute"])
        found = Adjustment(rest, impute, config.unseen_site, config.reference_site)
        its, others = part_arrays(stored.arrays)
        found.restore(others, learnt["values"])
        pooling = AttentionPooling().restore(its, learnt.get(POOLING, {})) if attention else None
    except ValueError as error:
        raise AdjustmentError(f"adjustment {stored.label}: {error}; fit it again") from None
    return Fitted(steps, pooling, found)


def part_arrays(arrays: Mapping[str, NDArray]) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Return a stored adjustment's arrays of pooling, without their prefix, and those of its other steps."""
    its = {name.removeprefix(f"{POOLING}."): one for name, one in arrays.items() if name.startswith(f"{POOLING}.")}
    return its, {name: one for name, one in arrays.items() if not name.startswith(f"{POOLING}.")}


def fit_or_find(
    config: AdjustConfig, recipe: Recipe, source: EmbeddingTable, rows: pa.Table, split: Split, run: JobRun
) -> StoredAdjustment:
    """Return the adjustment that is fitted on just these training rows, fitted now if it is not there.

    Raises
    ------
    AdjustmentError
        If rows are refused, or the steps cannot be learnt from the training rows.
    OutputExistsError
        If the adjustment of this name was fitted with other settings.
    """
    attention, rest = part_attention(recipe.steps)
    adjustment = Adjustment(rest, config.impute, config.unseen_site, config.reference_site)
    lacking = adjustment.lacking(covariates_of(rows), rows.num_rows)
    refused = refuse(lacking, rows, config.refuse)
    chosen = ~is_in(rows["subject"], split.held_out) & ~refused
    if not chosen.any():
        raise AdjustmentError(f"table {source.label} has no training row that can be fitted on")
    train = rows.filter(pa.array(chosen))
    identity = _identity(config, recipe, source, split, train)
    warehouse = Warehouse.at(config.warehouse)
    if found := find_adjustment(warehouse, config.output, identity):
        logger.info("adjust: adjustment %s was fitted on these rows already", found.label)
        return found
    query = train_query(attention, source, train) if attention else None
    x = training_matrix(source, train, query.pooling if query else None)
    logger.info(
        "adjust: fitting on %d rows of %d subjects (%.2f GB), %d subjects held out by the %s's split",
        len(x), n_different(train["subject"]), x.nbytes / 1e9, len(split.held_out), split.told["of"],
    )  # fmt: skip
    _fit(adjustment, x, train, source.label)
    # now that the training rows' sites are known, and before anything is written
    refuse(adjustment.foreign(covariates_of(rows), rows.num_rows), rows, config.refuse)
    return publish_adjustment(
        warehouse,
        config.output,
        _arrays(adjustment, query),
        config=config.model_dump(mode="json"),
        identity=identity,
        parents=[Parent.of(source.ref)],
        rows=len(x),
        content={
            **_described(adjustment, query, recipe),
            "model_digest": identity["model_digest"],
            "split": split.told,
            "n_train": len(x),
            "n_train_subjects": n_different(train["subject"]),
            "imputed_in_training": adjustment.n_filled(covariates_of(train), len(x)),
            "nuisance": _measure(config, adjustment, query, x, source, train),
        },
        mlflow_run_id=run.run_id,
    )


def _identity(
    config: AdjustConfig, recipe: Recipe, source: EmbeddingTable, split: Split, train: pa.Table
) -> dict[str, Any]:
    """Return what an adjustment is fitted on, and by what; a row's digest stands for its covariates and target too."""
    return {
        "table": source.ref.uri,
        "model_digest": source.manifest.content["model_digest"],
        "strategy": recipe.strategy.model_dump(mode="json"),
        "leave_out": list(config.leave_out),
        "impute": config.impute.model_dump(mode="json"),
        "split": split.told,
        "rows": digest_rows(train),
    }


def _fit(adjustment: Adjustment, x: NDArray[np.float32], train: pa.Table, label: str) -> None:
    try:
        adjustment.fit(x, covariates=covariates_of(train))
    except ValueError as error:
        raise AdjustmentError(f"the recipe cannot be fitted on {len(x)} rows of {label}: {error}") from None
    for note in adjustment.notes():
        logger.warning("adjust: %s", note)


def _arrays(adjustment: Adjustment, query: TrainedQuery | None) -> dict[str, NDArray[np.float64]]:
    arrays = adjustment.state()[0]
    its = query.pooling.state()[0] if query else {}
    return arrays | {f"{POOLING}.{name}": array for name, array in its.items()}


def _described(adjustment: Adjustment, query: TrainedQuery | None, recipe: Recipe) -> dict[str, Any]:
    """Return what `restore` needs beside the arrays, and what a manifest tells of a fitted adjustment."""
    assert adjustment.impute is not None
    learnt = {
        "steps": STEPS.dump_python(recipe.steps, mode="json"),
        "impute": adjustment.impute.model_dump(mode="json"),
        "values": adjustment.state()[1],
    }
    told = {"strategy": recipe.strategy.embedding(), "pending": recipe.pending, "notes": adjustment.notes()}
    if query:
        learnt[POOLING], told[POOLING] = query.pooling.state()[1], query.told
    return {"learnt": learnt, **told, **adjustment.dims()}


def n_different(column: pa.ChunkedArray) -> int:
    """Return how many different values a column has."""
    return int(pc.count_distinct(column).as_py())


def _measure(
    config: AdjustConfig,
    adjustment: Adjustment,
    query: TrainedQuery | None,
    x: NDArray[np.float32],
    source: EmbeddingTable,
    train: pa.Table,
) -> dict[str, Any]:
    """Look for site and motion in training rows, at most so many, before and after; the same rows every time."""
    if not config.measured_rows:
        return {"not_measured": "measured_rows is 0"}
    some = np.sort(np.random.default_rng(0).permutation(len(x))[: config.measured_rows])
    covariates = {name: values[some] for name, values in covariates_of(train).items()}
    names = as_array(train["subject"])[some]
    if query is None:
        return before_and_after(adjustment, x[some], covariates, names)
    # each half trains a query of its own: one that has seen both would make neither's rows new
    both = AdjustedFeatures(query.pooling, adjustment)
    latents, pooled_for = training_latents(source, train.take(pa.array(some))), PooledFor(**query.pooled_for.of(some))
    return before_and_after(both, latents, covariates, names, pooled_for=pooled_for)
