"""Fitting: the training rows of a table as one float32 matrix, the steps learnt from it, the adjustment stored."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from numpy.typing import NDArray

from boldstream.adjust.config import AdjustConfig
from boldstream.adjust.refuse import refuse
from boldstream.adjust.rows import Split, as_array, covariates_of, digest_rows, is_in
from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.nuisance import before_and_after
from boldstream.analysis.steps import Impute, Step
from boldstream.artifacts.adjustment import StoredAdjustment, find_adjustment, publish_adjustment
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.manifest import Parent
from boldstream.artifacts.versions import iter_batches
from boldstream.errors import AdjustmentError, ConfigError
from boldstream.storage import Warehouse
from boldstream.strategy import Strategy
from boldstream.tracking import JobRun

GATHERED = 8192
"""Rows that are looked up at a time."""
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


def restore(stored: StoredAdjustment, config: AdjustConfig) -> Adjustment:
    """Return a stored adjustment ready to be applied, with the configuration's rule for unseen sites.

    Raises
    ------
    AdjustmentError
        If steps, arrays and values do not belong together.
    """
    learnt = stored.manifest.content["learnt"]
    try:
        steps = STEPS.validate_python(learnt["steps"])
        impute = Impute.model_validate(learnt["impute"])
        found = Adjustment(steps, impute, config.unseen_site, config.reference_site)
        found.restore(stored.arrays, learnt["values"])
    except ValueError as error:
        raise AdjustmentError(f"adjustment {stored.label}: {error}; fit it again") from None
    return found


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
    adjustment = Adjustment(recipe.steps, config.impute, config.unseen_site, config.reference_site)
    lacking = adjustment.lacking(covariates_of(rows), rows.num_rows)
    refused = refuse(lacking, rows, config.refuse)
    chosen = ~is_in(rows["subject"], split.held_out) & ~refused
    if not chosen.any():
        raise AdjustmentError(f"table {source.label} has no training row that can be fitted on")
    train = rows.filter(pa.array(chosen))
    identity = {
        "table": source.ref.uri,
        "model_digest": source.manifest.content["model_digest"],
        "strategy": recipe.strategy.model_dump(mode="json"),
        "leave_out": list(config.leave_out),
        "impute": config.impute.model_dump(mode="json"),
        "split": split.told,
        "rows": digest_rows(train),
    }
    warehouse = Warehouse.at(config.warehouse)
    if found := find_adjustment(warehouse, config.output, identity):
        logger.info("adjust: adjustment %s was fitted on these rows already", found.label)
        return found
    x = training_matrix(source, train)
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
        adjustment.state()[0],
        config=config.model_dump(mode="json"),
        identity=identity,
        parents=[Parent.of(source.ref)],
        rows=len(x),
        content={
            **_described(adjustment, recipe),
            "model_digest": identity["model_digest"],
            "split": split.told,
            "n_train": len(x),
            "n_train_subjects": n_different(train["subject"]),
            "imputed_in_training": adjustment.n_filled(covariates_of(train), len(x)),
            "nuisance": _measure(config, adjustment, x, train),
        },
        mlflow_run_id=run.run_id,
    )


def _fit(adjustment: Adjustment, x: NDArray[np.float32], train: pa.Table, label: str) -> None:
    try:
        adjustment.fit(x, covariates=covariates_of(train))
    except ValueError as error:
        raise AdjustmentError(f"the recipe cannot be fitted on {len(x)} rows of {label}: {error}") from None
    for note in adjustment.notes():
        logger.warning("adjust: %s", note)


def _described(adjustment: Adjustment, recipe: Recipe) -> dict[str, Any]:
    """Return what `restore` needs beside the arrays, and what a manifest tells of a fitted adjustment."""
    assert adjustment.impute is not None
    learnt = {
        "steps": STEPS.dump_python(recipe.steps, mode="json"),
        "impute": adjustment.impute.model_dump(mode="json"),
        "values": adjustment.state()[1],
    }
    told = {"strategy": recipe.strategy.embedding(), "pending": recipe.pending, "notes": adjustment.notes()}
    return {"learnt": learnt, **told, **adjustment.dims()}


def n_different(column: pa.ChunkedArray) -> int:
    """Return how many different values a column has."""
    return int(pc.count_distinct(column).as_py())


def training_matrix(source: EmbeddingTable, train: pa.Table) -> NDArray[np.float32]:
    """Return the vectors of training rows in their order, shape (n_train, p): 4 bytes a value, and nothing else whole.

    Raises
    ------
    AdjustmentError
        If vectors differ in length.
    """
    keys = train["row_key"].combine_chunks()
    found: NDArray[np.float32] | None = None
    waiting: list[pa.RecordBatch] = []

    def take() -> None:
        nonlocal found
        rows = pa.Table.from_batches(waiting)
        waiting.clear()
        places = pc.index_in(rows["row_key"].cast(pa.string()), value_set=keys).combine_chunks()
        rows = rows.filter(places.is_valid())
        if not rows.num_rows:
            return
        vectors = vectors_of(rows["embedding"], source.label, None if found is None else found.shape[1])
        if found is None:
            found = np.empty((len(keys), vectors.shape[1]), dtype=np.float32)
        found[places.drop_null().to_numpy()] = vectors

    for batch in iter_batches(source.table, source.manifest.version, ["row_key", "embedding"]):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= GATHERED:
            take()
    if waiting:
        take()
    assert found is not None
    return found


def vectors_of(column: pa.ChunkedArray, label: str, n_dims: int | None = None) -> NDArray[np.float32]:
    """Return a column of vectors as a matrix.

    Raises
    ------
    AdjustmentError
        If they differ in length, or have not the length that is asked.
    """
    lengths = set(pc.unique(pc.list_value_length(column)).to_pylist())
    if len(lengths) != 1 or (n_dims is not None and lengths != {n_dims}):
        told = ", ".join(map(str, sorted(lengths | ({n_dims} if n_dims is not None else set()))))
        raise AdjustmentError(f"the vectors of {label} have different lengths ({told}); embed it again")
    flat = column.combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(column), -1)


def _measure(config: AdjustConfig, adjustment: Adjustment, x: NDArray[np.float32], train: pa.Table) -> dict[str, Any]:
    """Look for site and motion in training rows, at most so many, before and after; the same rows every time."""
    if not config.measured_rows:
        return {"not_measured": "measured_rows is 0"}
    some = np.sort(np.random.default_rng(0).permutation(len(x))[: config.measured_rows])
    covariates = {name: values[some] for name, values in covariates_of(train).items()}
    return before_and_after(adjustment, x[some], covariates, as_array(train["subject"])[some])
