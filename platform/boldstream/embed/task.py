"""What every worker of an embed run is told, and the tables that travel between them."""

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from boldstream.embed.attempt import FAILURE_COLUMNS
from boldstream.encoders.interface import Precision
from boldstream.strategy import Strategy

DIGEST = "row_digest"


@dataclass(frozen=True)
class EmbedTask:
    """What every worker of a run is told.

    Attributes
    ----------
    strategy : Strategy
    parts : int
    batch_size : int or "auto"
        Windows in one forward pass.
    actors : int
        Most encoders at a time.
    gpus : float
        GPUs of one encoder.
    threads : int or None
        Of one encoder on a CPU; None: its share of the machine's cores.
    device : str
    precision : {"float32", "bfloat16"}
    compile : bool
    stamp : dict
        Columns that are the same in every row: strategy, model version, cohort version and digests.
    carried : pyarrow.Schema
        The cohort's columns that go into the embedding table.
    schema : pyarrow.Schema
        Of the embedding table.
    table_uri, quarantine_uri, failures_uri : str
        Where the three tables live.
    run_id : str
        MLflow run, for the rows of failures.
    model_files : ray.ObjectRef
        The model folder as a mapping of file names to bytes, put into the object store once a run.
    watch : RemoteWatch
        Told which scans encoders are at work on.
    """

    strategy: Strategy
    parts: int
    batch_size: int | Literal["auto"]
    actors: int
    gpus: float
    threads: int | None
    device: str
    precision: Precision
    compile: bool
    stamp: dict[str, str]
    carried: pa.Schema
    schema: pa.Schema
    table_uri: str
    quarantine_uri: str
    failures_uri: str
    run_id: str
    model_files: Any
    watch: Any

    @property
    def read_columns(self) -> list[str]:
        """The cohort's columns that the readers read."""
        return [*self.carried.names, DIGEST, "timeseries"]

    @property
    def scan_schema(self) -> pa.Schema:
        """Of the rows between reader and encoder; of a scan that could not be read only the keys are there."""
        fields = [field.with_nullable(True) for field in self.carried]
        fields += [pa.field(DIGEST, pa.string()), pa.field("timeseries", pa.list_(pa.float32()))]
        return pa.schema([*fields, pa.field("attempt", pa.int32()), *_texts(FAILURE_COLUMNS)])

    @property
    def row_schema(self) -> pa.Schema:
        """Of the rows between encoder and writer: the table's, and the columns of refusals and failures."""
        fields = [field.with_nullable(True) for field in self.schema]
        return pa.schema([*fields, pa.field("attempt", pa.int32()), *_texts(("reason", *FAILURE_COLUMNS))])


def _texts(names: tuple[str, ...]) -> list[pa.Field]:
    return [pa.field(name, pa.string()) for name in names]
