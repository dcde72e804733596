"""The shift room: one Ray Data pass over a cohort beside a model's statistics, and a page."""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.analysis.roi_statistics import RoiStatistics
from boldstream.analysis.shift import (
    EXPECTED,
    OF_REGIONS,
    CohortShift,
    RegionShift,
    compare_cohorts,
    compare_regions,
    compare_scan,
)
from boldstream.artifacts.cohort import STATISTICS, Cohort, iter_timeseries, open_cohort
from boldstream.cluster import connect
from boldstream.encoders.interface import read_description
from boldstream.errors import ModelError, OutputExistsError
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.progress import Progress
from boldstream.refs import ModelRef, ReportRef
from boldstream.registry import download_model, resolve_model
from boldstream.shift.config import ShiftConfig
from boldstream.storage import publish_folder, sha256_of_folder
from boldstream.tracking import JobRun, job_run

NUMBERS = "shift.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shift:
    """What the page shows.

    Attributes
    ----------
    scans : list of dict
        ``scan_key``, ``outside``, ``similarity`` and ``off`` (bool), the worst first.
    level, spread : RegionShift
        Of regions' temporal means and standard deviations.
    effect : CohortShift or None
        How large the differences are; None where the cohort carries no statistics.
    """

    cohort: Cohort
    model: ModelRef
    trained: RoiStatistics
    t_r: list[float]
    lengths: list[int]
    scans: list[dict[str, Any]]
    level: RegionShift
    spread: RegionShift
    effect: CohortShift | None
    config: ShiftConfig

    @property
    def n_scans_off(self) -> int:
        """Scans that are off."""
        return sum(scan["off"] for scan in self.scans)

    @property
    def n_regions_off(self) -> int:
        """Regions that are off."""
        return int(self.spread.off.sum())

    @property
    def verdict(self) -> str:
        """One sentence."""
        scans, regions = self.n_scans_off, self.n_regions_off
        if not regions and not self.notes and scans <= EXPECTED * len(self.scans):
            but = f", but for {scans} of {len(self.scans)} that are off" if scans else ""
            return f"Cohort {self.cohort.label} is like the scans that {self.model.pointer} was trained on{but}."
        return (
            f"Cohort {self.cohort.label} differs from the scans that {self.model.pointer} was trained on: {scans} of "
            f"{len(self.scans)} scans and {regions} of {len(self.cohort.roi_names)} regions are off."
        )

    @property
    def notes(self) -> list[str]:
        """What else differs: repetition times, lengths."""
        known = set(self.trained.t_r[np.isfinite(self.trained.t_r)].round(4))
        new = sorted({round(t_r, 4) for t_r in self.t_r} - known)
        notes = []
        if new:
            notes.append(
                f"Repetition times {', '.join(f'{t:g}' for t in new)} s do not occur in training "
                f"({', '.join(f'{t:g}' for t in sorted(known)) or 'none known'} s)."
            )
        if min(self.lengths) < self.trained.length[0]:
            least = self.trained.length[0]
            notes.append(f"The shortest scan has {min(self.lengths)} timepoints, in training {least:g}.")
        return notes


def write_shift(config: ShiftConfig) -> ReportRef:
    """Compare a cohort with the training scans of a model, region by region and scan by scan, and write a page.

    Raises
    ------
    CohortError
        If the cohort is not there or not whole.
    ModelError
        If the model is not there, or carries no statistics.
    AtlasError
        If their regions differ.
    OutputExistsError
        If the output folder holds something else.
    """
    target = Path(config.output).expanduser().resolve()
    if target.exists() and any(target.iterdir()) and not (target / NUMBERS).is_file():
        raise OutputExistsError(f"output: {target} exists and is no page of this job; choose another output folder")
    cohort = open_cohort(config.cohort, config.warehouse)
    model = resolve_model(config.model)
    trained = _statistics_of(model, cohort)
    with job_run("shift", target.name, config) as run:
        run.log_parent(cohort.ref, cohort.manifest.rows)
        run.log_parent(model)
        connect(config.cluster)
        shift = measure(cohort, model, trained, config, run)
        run.log_metrics(
            {
                "scans_off": shift.n_scans_off,
                "regions_off": shift.n_regions_off,
                "median_similarity": float(np.median([scan["similarity"] for scan in shift.scans])),
            }
        )
        ref = _publish(shift, target)
        run.log_file(target, "shift")
        run.log_output(ref)
    logger.info("shift: %s", shift.verdict)
    return ref


def _statistics_of(model: ModelRef, cohort: Cohort) -> RoiStatistics:
    with tempfile.TemporaryDirectory() as scratch:
        folder = download_model(model, Path(scratch))
        description = read_description(folder)
        check_same(
            Atlas(cohort.atlas, cohort.roi_names),
            Atlas(description["atlas"], tuple(description["roi_names"])),
            where=f"cohort {cohort.label!r}",
            other=f"model {model.pointer!r}",
        )
        path = folder / STATISTICS
        if not path.is_file():
            raise ModelError(
                f"model: {model.pointer} carries no statistics of its training scans (imported weights, or trained by "
                "an earlier boldstream), so nothing can be compared"
            )
        try:
            return RoiStatistics.from_bytes(path.read_bytes())
        except ValueError as error:
            raise ModelError(f"model: {STATISTICS} of {model.pointer} {error}") from None


def measure(cohort: Cohort, model: ModelRef, trained: RoiStatistics, config: ShiftConfig, run: JobRun) -> Shift:
    """Look at every scan once, a file a task."""
    dataset = cohort.read(["scan_key", "t_r", "timeseries", "n_timepoints", "n_rois"]).map_batches(
        compare_block, fn_kwargs={"trained": trained}, batch_format="pyarrow", batch_size=None
    )
    progress = Progress(run, "shift", cohort.manifest.rows)
    rows = []
    for row in dataset.iter_rows():
        rows.append(row)
        progress.add(1)
    progress.close()
    rows.sort(key=lambda row: row["scan_key"])
    scans = [
        {
            "scan_key": row["scan_key"],
            "outside": row["outside"],
            "similarity": row["similarity"],
            "off": row["outside"] > config.max_outside or row["similarity"] < config.min_similarity,
        }
        for row in rows
    ]
    scans.sort(key=lambda scan: (not scan["off"], scan["similarity"]))
    level, spread = (
        compare_regions(_stacked(rows, name), config.false_alarms, trained.n_scans) for name in ("level", "spread")
    )
    carried = cohort.statistics()
    effect = None if carried is None else compare_cohorts(RoiStatistics.from_bytes(carried), trained)
    t_r = sorted({row["t_r"] for row in rows if row["t_r"] is not None})
    return Shift(
        cohort, model, trained, t_r, [row["n_timepoints"] for row in rows], scans, level, spread, effect, config
    )


def _stacked(rows: list[dict[str, Any]], name: str) -> NDArray[np.int8]:
    return np.stack([np.frombuffer(row[name], dtype=np.int8) for row in rows])


def compare_block(batch: pa.Table, *, trained: RoiStatistics) -> pa.Table:
    """Compare one file's scans; a row a scan."""
    rows = []
    for known, series in zip(
        batch.select(["scan_key", "t_r", "n_timepoints"]).to_pylist(), iter_timeseries(batch), strict=True
    ):
        found = compare_scan(series, trained)
        sides = {"level": found.level.tobytes(), "spread": found.spread.tobytes()}
        rows.append({**known, **sides, "outside": found.outside, "similarity": found.similarity})
    return pa.Table.from_pylist(rows)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Return None for NaN, which JSON does not know."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _publish(shift: Shift, target: Path) -> ReportRef:
    from boldstream.shift.page import shift_page

    numbers = {
        "verdict": shift.verdict,
        "notes": shift.notes,
        "scans": shift.scans,
        "regions": [
            {
                "roi": name,
                "spread_outside": float(shift.spread.share[at]),
                "level_outside": float(shift.level.share[at]),
                "off": bool(shift.spread.off[at]),
                **(_finite(shift.effect.of_region(at)) if shift.effect else dict.fromkeys(OF_REGIONS)),
            }
            for at, name in enumerate(shift.cohort.roi_names)
        ],
        "connectivity": _finite(
            {"difference": shift.effect.difference, "similarity": shift.effect.similarity} if shift.effect else {}
        ),
    }
    with publish_folder(target) as draft:
        (draft / NUMBERS).write_text(json.dumps(numbers, indent=1), encoding="utf-8")
        (draft / "index.html").write_text(shift_page(shift), encoding="utf-8")
        digest = sha256_of_folder(draft)
    return ReportRef((target / "index.html").as_uri(), "1", digest)
