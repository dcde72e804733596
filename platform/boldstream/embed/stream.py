"""The stream of the embed room: files of a cohort, through readers and a pool of encoders, to receipts."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from boldstream.artifacts.files import DataFile
from boldstream.cluster import count_cpus, count_gpus
from boldstream.embed.config import ActorPool
from boldstream.embed.embedder import BrainEncoder
from boldstream.embed.read import read_scans
from boldstream.embed.task import EmbedTask

if TYPE_CHECKING:
    import ray.data

SCANS_A_CALL = 64
BYTES_A_CALL = 64e6
"""With ``batch_size: auto`` an encoder is handed so many scans at once, or so many bytes of them."""
CALLS = 2
"""Of one encoder at a time: one is encoded while the other is cut or written."""
SMALL_BLOCK, LARGE_BLOCK = 16e6, 128e6
"""What a block of scans is counted as, at least and at most: Ray Data cuts up what is larger."""
BLOCKS_AHEAD = 8
"""Blocks of scans an encoder that may lie in the object store, waiting or at work."""
STORE_SHARE = 0.5
"""Of the object store, at most; Ray Data's own bound. The model and what others keep there need the rest."""


def stream_receipts(
    units: Sequence[str], task: EmbedTask, pool: ActorPool, files: Sequence[DataFile]
) -> Iterator[dict[str, Any]]:
    """Embed units of work (see `boldstream.embed.plan`), and yield the receipts as they come.

    Ray Data sends a block to an encoder on the node that holds it, where one is free (its own rule). Readers wait while
    `store_share` of the object store is taken, so memory does not grow with the cohort, nor with the store.
    """
    import ray.data

    rows = [{"unit": unit} for unit in units]
    receipts = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        # half a CPU: with the actors' own number Ray would fuse the reading into them, many files to one task
        .map_batches(read_scans, fn_kwargs={"task": task}, batch_format="pyarrow", batch_size=1, num_cpus=0.5)
        .map_batches(
            BrainEncoder,
            fn_constructor_args=(task,),
            batch_format="pyarrow",
            batch_size=scans_a_call(files, task.batch_size),
            compute=_strategy(pool, task, len(rows)),
            num_cpus=pool.cpus or 1,
            num_gpus=pool.gpus if task.device == "cuda" else 0,
        )
    )
    share = store_share(files, task.actors, ray.cluster_resources()["object_store_memory"])
    receipts.context.override_object_store_memory_limit_fraction = share
    yield from receipts.iter_rows()


def scans_a_call(files: Sequence[DataFile], batch_size: int | str) -> int:
    """Return how many scans an encoder is handed at once: enough for a batch, few enough for the memory."""
    if isinstance(batch_size, int):
        return batch_size
    mean_bytes = sum(file.size for file in files) / max(1, sum(file.rows for file in files))
    return max(1, min(SCANS_A_CALL, int(BYTES_A_CALL / max(1.0, mean_bytes))))


def store_share(files: Sequence[DataFile], n_actors: int, store_bytes: float) -> float:
    """Return the share of the object store that scans may take: some blocks for every encoder, and for the readers."""
    block = min(LARGE_BLOCK, max([SMALL_BLOCK, *(file.size for file in files)]))
    return min(STORE_SHARE, BLOCKS_AHEAD * (n_actors + 1) * block / store_bytes)


def _strategy(pool: ActorPool, task: EmbedTask, n_files: int) -> "ray.data.ActorPoolStrategy":
    """Return a pool that begins with what it keeps, as far as the cluster has room for it now.

    A pool that insists on its size would wait for ever where it leaves no CPU for reading.
    """
    import ray.data

    largest = min(task.actors, n_files)
    # a GPU that has not come yet (an autoscaling cluster) leaves no room either: the pool begins with one
    room = int(count_gpus() / pool.gpus) if task.device == "cuda" else (count_cpus() - 1) // (pool.cpus or 1)
    kept = max(1, min(pool.min, largest, room))
    return ray.data.ActorPoolStrategy(
        min_size=kept,
        max_size=largest,
        max_concurrent_calls_per_actor=CALLS,
        enable_true_multi_threading=True,
    )
