"""What the encoder looks at in one scan, and its picture."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.drawing import COLOURS, STYLE, png
from boldstream.encoders.interface import WindowEncoder, load_encoder
from boldstream.encoders.occlusion import occlusion_map
from boldstream.encoders.windows import WindowSpec, cut_windows
from boldstream.errors import ConfigError, ModelError, ScanError
from boldstream.registry import download_model, resolve_model
from boldstream.report.material import Selection, wanted_rows

COLUMNS = ["scan_key", "timeseries", "n_timepoints", "n_rois", "t_r"]
N_NAMED = 10


@dataclass(frozen=True)
class Occlusion:
    """How far a scan's vector moves when a region is held still for a patch.

    Attributes
    ----------
    table, scan_key : str
    start, length : float
        Of the window in the scan that was looked at, in `unit`.
    unit : str
    moved : array, shape (n_rois, n_patches)
        In median distances between two scans' vectors of the table.
    """

    table: str
    scan_key: str
    start: float
    length: float
    unit: str
    moved: NDArray[np.float64]

    def top(self, roi_names: Sequence[str]) -> list[tuple[str, float]]:
        """Return the regions that move the vector most, by the mean over patches."""
        mean = self.moved.mean(axis=1)
        return [(roi_names[i], float(mean[i])) for i in np.argsort(-mean, kind="stable")[:N_NAMED]]


def occlude(
    scan_key: str,
    name: str,
    table: EmbeddingTable,
    cohort: Cohort,
    selection: Selection,
    vectors: NDArray[np.float32],
) -> Occlusion:
    """Look at the window in the middle of a scan with the encoder that made a table.

    Parameters
    ----------
    scan_key : str
        A scan of the cohort.
    name : str
        The table's in the report.
    table : EmbeddingTable
    cohort : Cohort
    selection : Selection
        Whose vectors tell how far two scans are from each other.
    vectors : array, shape (n_parts, n_scans, n_dims)
        Their vectors, as embedded.

    Raises
    ------
    ConfigError
        If the cohort has no such scan, the scan cannot be cut into windows, or the table is adjusted.
    ModelError
        If the model is not in the registry any more.
    """
    content = table.manifest.content
    if "adjustment" in content:
        raise ConfigError(f"occlude: table {table.label} is adjusted; name the table as embedded first in tables")
    rows = next((rows for rows in wanted_rows(cohort.files, COLUMNS, [scan_key]) if rows.num_rows), None)
    if rows is None:
        near = ", ".join(selection.scans[:3])
        raise ConfigError(f"occlude: cohort {cohort.label} has no scan {scan_key!r} (measured here: {near}, …)")
    t_r = rows["t_r"][0].as_py()
    spec = WindowSpec(**content["strategy"]["window"])
    try:
        windows = cut_windows(next(iter_timeseries(rows)), t_r, spec)
    except ScanError as error:
        raise ConfigError(f"occlude: {scan_key} cannot be cut into windows ({error}); name another scan") from None
    middle = len(windows.values) // 2
    moved = occlusion_map(_encoder_of(table), np.array(windows.values[middle]))
    step, unit = (spec.target_t_r or t_r, "s") if spec.target_t_r or t_r else (1.0, "timepoints")
    return Occlusion(
        name,
        scan_key,
        float(windows.starts[middle] * step),
        spec.length * step,
        unit,
        moved / typical_distance(vectors[0]),
    )


def _encoder_of(table: EmbeddingTable) -> WindowEncoder:
    """Load the encoder that made a table, if the registry has that very one."""
    content = table.manifest.content
    model = resolve_model(content["model"])
    if model.digest != content["model_digest"]:
        raise ModelError(
            f"occlude: {model.pointer} has sha256 {model.digest[:12]} in this registry, table {table.label} was made "
            f"with {content['model_digest'][:12]}; use the registry that has it"
        )
    with tempfile.TemporaryDirectory() as scratch:
        return load_encoder(download_model(model, Path(scratch)))


def typical_distance(vectors: NDArray[np.float32]) -> float:
    """Return the median distance between two scans' vectors, shape (n_scans, n_dims); 1 where all are equal."""
    from scipy.spatial.distance import pdist

    distances = pdist(vectors.astype(np.float64))
    return float(np.median(distances)) if len(distances) and np.median(distances) > 0 else 1.0


def numbers_of_occlusion(occlusion: Occlusion | None, roi_names: Sequence[str]) -> dict[str, Any] | None:
    """Return what the page shows, as JSON types."""
    if occlusion is None:
        return None
    return {
        "table": occlusion.table,
        "scan_key": occlusion.scan_key,
        "start": occlusion.start,
        "length": occlusion.length,
        "unit": occlusion.unit,
        "top": dict(occlusion.top(roi_names)),
        "moved": occlusion.moved.round(6).tolist(),
    }


@mpl.rc_context(STYLE)
def draw_occlusion(occlusion: Occlusion, roi_names: Sequence[str]) -> bytes:
    """Draw regions by time, and beside them the regions that move the vector most."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.5, 1]})
    end = occlusion.start + occlusion.length
    image = left.imshow(
        occlusion.moved,
        aspect="auto",
        cmap="viridis",
        vmin=0,
        interpolation="nearest",
        extent=(occlusion.start, end, len(occlusion.moved) + 0.5, 0.5),
    )
    left.set_title(occlusion.scan_key)
    left.set_xlabel(f"time ({occlusion.unit})")
    left.set_ylabel("region")
    bar = figure.colorbar(image, ax=left, aspect=25, pad=0.02)
    bar.set_label("distance moved")
    bar.outline.set_linewidth(0)
    top = occlusion.top(roi_names)
    right.barh(range(len(top)), [moved for _, moved in top], color=COLOURS[0], height=0.66)
    right.set_yticks(range(len(top)), [name if len(name) <= 26 else f"{name[:25]}…" for name, _ in top], fontsize=7.5)
    right.invert_yaxis()
    right.axvline(float(occlusion.moved.mean()), color=COLOURS[1], linewidth=1.0, linestyle=(0, (4, 3)))
    right.set_title("Regions that move it most")
    right.set_xlabel("distance moved, mean over time")
    right.tick_params(axis="y", length=0)
    right.spines[["top", "right", "left"]].set_visible(False)
    return png(figure)
