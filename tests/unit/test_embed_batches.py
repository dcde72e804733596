"""Windows of many scans in batches: sizes that are found, memory that runs out, encoders that die."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boldstream.artifacts.cohort import NOT_CARRIED, cohort_schema
from boldstream.artifacts.embeddings import embedding_schema
from boldstream.embed.batch_size import LARGEST, BatchSize, HostMemory, out_of_memory
from boldstream.embed.embedder import Desk
from boldstream.embed.encode import encode_scans
from boldstream.embed.task import EmbedTask
from boldstream.embed.watch import ScanWatch
from boldstream.encoders.windows import WindowSpec, cut_windows
from boldstream.storage import local_path
from boldstream.strategy import Strategy

LENGTH, N_ROIS, N_PATCHES, WIDTH = 8, 5, 2, 3
STRATEGY = Strategy.model_validate({"id": "s", "window": {"length": LENGTH, "stride": 4}, "keep_roi_latents": True})
CARRIED = pa.schema([field for field in cohort_schema({}) if field.name not in NOT_CARRIED])
DEADLY, FAULTY = 1e6, 1e5


class PlantedEncoder:
    """Encodes a window by fixed weights; out of memory beyond a size, faulty or deadly at values that are planted."""

    def __init__(self, limit=10**9):
        self.limit = limit
        self.sizes = []
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(LENGTH // N_PATCHES, WIDTH, generator=generator)

    def encode(self, windows):
        self.sizes.append(len(windows))
        if (windows == DEADLY).any():
            raise SystemExit  # no exception that anybody catches: as near to a death as one process comes
        if (windows == FAULTY).any():
            raise ValueError("this window is faulty")
        if len(windows) > self.limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(windows)} windows")
        patches = torch.from_numpy(windows.copy()).transpose(1, 2).unflatten(2, (N_PATCHES, -1))
        return torch.tanh(patches @ self.weights)


class Boundless:
    """Memory that is never short."""

    def peak(self):
        return 0

    def room(self):
        return 10**12


class Linear:
    """Memory of which a window takes one unit, as measured by the largest batch that was told."""

    def __init__(self, total, base=10):
        self.total, self.used = total, base

    def peak(self):
        return self.used

    def room(self):
        return self.total - self.used


def search(batch, seconds, memory=None, base=10):
    """Let a search run on passes whose durations a function gives; returns the sizes that it tried."""
    tried = []
    while not batch.settled:
        tried.append(batch.size)
        if memory is not None:
            memory.used = max(memory.used, base + batch.size)
        batch.tell(batch.size, seconds(batch.size))
    return list(dict.fromkeys(tried))


def test_search__ends_where_throughput_stops_rising():
    batch = BatchSize("auto", Boundless(), timed=True)
    # windows are computed 8 at a time, whether there are so many or not
    assert search(batch, lambda size: np.ceil(size / 8)) == [1, 2, 4, 8, 16, 32]
    assert batch.size == 8
    slow = BatchSize("auto", Boundless(), timed=True)
    assert search(slow, lambda size: float(size)) == [1, 2, 4]
    assert slow.size == 1


def test_search__takes_one_slow_pass_for_what_it_is():
    batch = BatchSize("auto", Boundless(), timed=True)
    passes = Counter()

    def seconds(size):
        passes[size] += 1
        return 100.0 if passes[size] == 1 else max(size, 16) / 16

    search(batch, seconds)
    assert batch.size == 16


@given(total=st.integers(30, 5000))
def test_search__stays_below_the_memory_there_is(total):
    memory = Linear(total)
    batch = BatchSize("auto", memory, timed=False)
    search(batch, lambda size: 0.0, memory)
    assert memory.used <= total
    # and takes a fair part of it
    assert batch.size == LARGEST or 10 + 4 * batch.size > 0.6 * total


def test_passes_of_the_last_windows__say_nothing():
    batch = BatchSize(4, Boundless(), timed=True)
    batch.tell(4, 1.0)
    assert batch.size == 4
    auto = BatchSize("auto", Boundless(), timed=True)
    auto.tell(1, 1.0)
    auto.tell(1, 1.0)
    for _ in range(5):
        auto.tell(1, 1.0)
    assert (auto.size, auto.settled) == (2, False)


def test_host_memory__is_shared():
    assert 0 < HostMemory(2).room() <= HostMemory(1).room()
    assert HostMemory(1).peak() > 10_000_000


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory__is_told_from_other_errors(error, told):
    assert out_of_memory(error) is told


def test_out_of_memory__is_what_torch_raises_on_this_cpu():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def scans_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, N_ROIS)).astype(np.float32) for length in lengths]


def cut(series):
    return [cut_windows(values, None, STRATEGY.window) for values in series]


def one_by_one(series):
    """Vector and region means of each scan from its windows, each encoded by itself."""
    encoder, found = PlantedEncoder(), []
    for windows in cut(series):
        tokens = torch.cat([encoder.encode(window[None]) for window in windows.values]).numpy().astype(np.float64)
        found.append((tokens.mean(axis=(0, 1, 2)), tokens.mean(axis=(0, 2)).ravel()))
    return found


def assert_same(found, expected):
    for (vector, regions), (wanted, wanted_regions) in zip(found, expected, strict=True):
        assert vector.dtype == regions.dtype == np.float32
        np.testing.assert_allclose(vector, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(regions, wanted_regions, rtol=1e-5, atol=1e-6)


@given(
    lengths=st.lists(st.integers(8, 70), min_size=1, max_size=9), size=st.one_of(st.integers(1, 40), st.just("auto"))
)
def test_scans__are_encoded_alike_in_batches_of_every_size(lengths, size):
    series = scans_of(lengths)
    encoder = PlantedEncoder()
    batch = BatchSize(size, Boundless(), timed=True)
    assert_same(encode_scans(cut(series), encoder, STRATEGY, batch), one_by_one(series))
    n_windows = sum(len(windows.values) for windows in cut(series))
    assert sum(encoder.sizes) == n_windows
    if size != "auto":
        # full batches, across scans
        assert encoder.sizes[:-1] == [size] * (len(encoder.sizes) - 1)


@given(lengths=st.lists(st.integers(8, 70), min_size=1, max_size=9), limit=st.integers(1, 20), size=st.integers(1, 64))
def test_memory_that_runs_out__halves_the_batch_for_good(lengths, limit, size):
    series = scans_of(lengths)
    encoder = PlantedEncoder(limit)
    batch = BatchSize(size, Boundless(), timed=True)
    assert_same(encode_scans(cut(series), encoder, STRATEGY, batch), one_by_one(series))
    n_windows = sum(len(windows.values) for windows in cut(series))
    if min(size, n_windows) > limit:
        assert limit / 2 - 1 < batch.size <= limit
    too_large = [tried for tried in encoder.sizes if tried > limit]
    assert too_large == sorted(set(too_large), reverse=True)  # no size was tried twice
    before = len(encoder.sizes)
    encode_scans(cut(series), encoder, STRATEGY, batch)
    assert max(encoder.sizes[before:]) <= limit


def test_search__that_meets_the_end_of_memory_goes_on_with_half():
    (series,) = scans_of([8 + 4 * 400])
    encoder = PlantedEncoder(limit=37)
    batch = BatchSize("auto", Boundless(), timed=False)
    assert_same(encode_scans(cut([series]), encoder, STRATEGY, batch), one_by_one([series]))
    assert batch.size == 32
    assert [size for size in encoder.sizes if size > 37] == [64]


def test_window_that_does_not_fit_alone__is_a_failure_of_its_scan():
    encoder = PlantedEncoder(limit=0)
    (found,) = encode_scans(cut(scans_of([20])), encoder, STRATEGY, BatchSize(8, Boundless(), timed=True))
    assert found.columns["error_class"] == "torch.OutOfMemoryError"
    assert encoder.sizes == [4, 2, 1]


def test_long_scan__is_cut_without_copying_its_windows():
    (series,) = scans_of([20_000])
    windows = cut_windows(series, None, WindowSpec(length=160, stride=1)).values
    assert np.shares_memory(windows, series)
    assert windows.shape == (20_000 - 159, 160, N_ROIS)


def task_of(tmp_path):
    names = ("table_uri", "quarantine_uri", "failures_uri")
    schema = embedding_schema(CARRIED)
    stamp = dict.fromkeys(("strategy_id", "model_version", "model_digest", "cohort_version", "cohort_digest"), "x")
    return EmbedTask(
        strategy=STRATEGY, parts=1, batch_size=4, actors=1, gpus=1.0, threads=None, device="cpu", precision="float32",
        compile=False, stamp=stamp, carried=CARRIED, schema=schema, run_id="r", model_files=None, watch=None,
        **{name: (tmp_path / name).as_uri() for name in names},
    )  # fmt: skip


def batch_of(task, series):
    rows = [
        {
            "scan_key": f"sub-{i}", "subject": str(i), "row_digest": "d", "timeseries": values.ravel(), "attempt": 1,
            "n_timepoints": len(values), "n_rois": N_ROIS, "bad_rois": [], "source_uri": "x", "source_sha256": "0",
        }
        for i, values in enumerate(series)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, task.scan_schema)


def embed_through_deaths(task, batch, watch):
    """Embed a batch as Ray does: with a new encoder after each death, the same scans again."""
    for deaths in range(10):
        desk = Desk(PlantedEncoder(), BatchSize(task.batch_size, Boundless(), timed=True), task, watch, "a")
        try:
            return desk.embed(batch), deaths
        except SystemExit:
            continue
    raise AssertionError("the batch was tried for ever")


def test_scans_that_kill_their_encoder__are_found_and_given_up(tmp_path):
    task, watch = task_of(tmp_path), ScanWatch()
    series = scans_of([20] * 7)
    series[2][3, 1] = series[5][0, 0] = DEADLY
    series[4][9, 0] = FAULTY
    receipt, deaths = embed_through_deaths(task, batch_of(task, series), watch)
    assert deaths == 3  # once together, then one for each alone
    assert (receipt["rows"], receipt["failed"], receipt["quarantined"]) == (4, 3, 0)
    failed = {row["row_key"]: row for row in pq.read_table(local_path(receipt["failures"])).to_pylist()}
    classes = {key: row["error_class"] for key, row in failed.items()}
    assert classes == {"sub-2": "WorkerDied", "sub-4": "ValueError", "sub-5": "WorkerDied"}
    assert "died while it embedded this scan, with others and again alone" in failed["sub-2"]["message"]
    good = pq.read_table(local_path(receipt["shard"]))
    assert good["row_key"].to_pylist() == ["sub-0", "sub-1", "sub-3", "sub-6"]
    expected = one_by_one([series[i] for i in (0, 1, 3, 6)])
    assert_same([(np.float32(row["embedding"]), np.float32(row["roi_latents"])) for row in good.to_pylist()], expected)
    # what is done is forgotten; what killed is not, should Ray ask for the batch once more
    assert watch.states == {"sub-2": "alone", "sub-5": "alone"}
    assert embed_through_deaths(task, batch_of(task, series), watch)[1] == 0


def test_encoder_that_is_killed_from_outside__loses_no_scan(tmp_path):
    task, watch = task_of(tmp_path), ScanWatch()
    batch = batch_of(task, scans_of([20] * 5))
    watch.begin(batch["scan_key"].to_pylist())  # and died
    receipt, deaths = embed_through_deaths(task, batch, watch)
    assert (deaths, receipt["rows"], receipt["failed"], watch.states) == (0, 5, 0, {})


def test_receipt__tells_how_busy_the_encoder_was(tmp_path):
    task = task_of(tmp_path)
    desk = Desk(PlantedEncoder(), BatchSize(4, Boundless(), timed=True), task, ScanWatch(), "actor-1")
    receipts = [desk.embed(batch_of(task, scans_of([20] * 3, seed))) for seed in (0, 1)]
    for receipt in receipts:
        assert 0 < receipt["encode_s"] <= receipt["wall_s"]
        assert (receipt["actor"], receipt["batch_size"]) == ("actor-1", 4)
