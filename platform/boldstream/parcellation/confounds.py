"""fMRIPrep's confounds: the table beside an image, and the regressors that a strategy takes from it by nilearn."""

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.errors import ScanError, first_line

Preset = Literal["none", "simple", "scrubbing", "compcor", "ica_aroma"]
Component = Literal["motion", "high_pass", "wm_csf", "global_signal", "compcor", "ica_aroma", "scrub"]
Expansion = Literal["basic", "power2", "derivatives", "full"]

# Written down, though nilearn has them too: it changed them in 0.13, and a configuration must keep its meaning.
PARAMETERS: dict[str, dict[str, Any]] = {
    "motion": {"motion": "full"},
    "high_pass": {},
    "wm_csf": {"wm_csf": "basic"},
    "global_signal": {"global_signal": "basic"},
    "compcor": {"compcor": "anat_combined", "n_compcor": "all"},
    "ica_aroma": {"ica_aroma": "full"},
    "scrub": {"scrub": 5, "fd_threshold": 0.5, "std_dvars_threshold": 1.5},
}
"""The parameters of every component, with their defaults."""
PRESETS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "simple": (("high_pass", "motion", "wm_csf"), {}),
    "scrubbing": (("high_pass", "motion", "wm_csf", "scrub"), {"wm_csf": "full"}),
    "compcor": (("high_pass", "motion", "compcor"), {}),
    "ica_aroma": (("high_pass", "wm_csf", "ica_aroma"), {}),
}
"""nilearn's presets: components, and where their parameters are not the defaults."""
FD_COLUMN = "framewise_displacement"
DVARS_COLUMN = "std_dvars"
STEADY_PREFIX = "non_steady_state_outlier"
UNUSABLE = (AttributeError, LookupError, TypeError, ValueError)
"""What nilearn raises on tables and sidecars that lack what a strategy needs."""


@dataclass(frozen=True)
class ConfoundFiles:
    """What fMRIPrep wrote beside an image.

    Attributes
    ----------
    table : bytes
        Content of ``desc-confounds_timeseries.tsv`` (``_regressors.tsv`` of older versions).
    sidecar : bytes or None
        Content of its ``.json``; CompCor needs it.
    image : str
        Name of the image that was parcellated; ICA-AROMA "full" takes only one that fMRIPrep has denoised.
    """

    table: bytes
    sidecar: bytes | None = None
    image: str = ""


@dataclass(frozen=True)
class Strategy:
    """What is taken from a confounds table: components, and all of their parameters."""

    components: tuple[str, ...]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Regressors:
    """What a strategy took from a table.

    Attributes
    ----------
    values : array, shape (n_timepoints, n_regressors), float64
    names : tuple of str
    kept : array of bool, shape (n_timepoints,)
        False where the strategy censors.
    notes : tuple of str
        What the table did not give.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    kept: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def without(self, prefix: str) -> "Regressors":
        """Return the regressors whose names do not begin like this."""
        taken = [i for i, name in enumerate(self.names) if not name.startswith(prefix)]
        return replace(self, values=self.values[:, taken], names=tuple(self.names[i] for i in taken))


def resolve_strategy(preset: Preset, components: tuple[str, ...], given: Mapping[str, Any]) -> Strategy:
    """Complete a preset, or a list of components, by the parameters that were not given.

    A preset takes `global_signal` besides its own parameters, and has it as a component then.

    Raises
    ------
    ValueError
        If both a preset and components are given, or a parameter that none of the components has.
    """
    if preset != "none" and components:
        raise ValueError(f"strategy: give either the preset {preset!r} or your own components, not both")
    defaults: dict[str, Any] = {}
    if preset != "none":
        components, defaults = PRESETS[preset]
        if given.get("global_signal") is not None:
            components = (*components, "global_signal")
    known = {name: value for component in components for name, value in PARAMETERS[component].items()} | defaults
    for name, value in given.items():
        if value is not None and name not in known:
            where = f"confounds: {preset}" if preset != "none" else f"strategy: [{', '.join(components)}]"
            raise ValueError(f"{name} has no effect with {where}; leave it out, or add its component")
    if "compcor" in components and "high_pass" not in components:
        raise ValueError("strategy: compcor needs high_pass beside it, which its components were computed with")
    return Strategy(components, known | {name: value for name, value in given.items() if value is not None})


def read_confounds(data: bytes, n_timepoints: int) -> pd.DataFrame:
    """Read a confounds table, a row a timepoint.

    Raises
    ------
    ScanError
        ``confounds`` if it is no table of numbers, ``confounds_length`` if its rows are not the scan's timepoints.
    """
    try:
        table = pd.read_csv(BytesIO(data), sep="\t", encoding="utf-8")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ScanError("confounds", f"the confounds are no table ({first_line(error)})") from None
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            found = pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()
            first = table[name][found].iloc[0] if found.any() else table[name].iloc[0]
            raise ScanError("confounds", f"column {name!r} of the confounds holds {first!r}, not numbers")
    if len(table) != n_timepoints:
        raise ScanError(
            "confounds_length",
            f"the confounds have {len(table)} rows, the scan {n_timepoints} timepoints; are they of the same run?",
        )
    return table


def count_dummies(table: pd.DataFrame) -> int:
    """Return how many timepoints at its beginning fMRIPrep found not to be in steady state.

    Raises
    ------
    ScanError
        ``confounds`` if it found others than the first ones.
    """
    columns = [name for name in table.columns if name.startswith(STEADY_PREFIX)]
    found = np.flatnonzero(table[columns].to_numpy(dtype=np.float64).sum(axis=1))
    if not np.array_equal(found, np.arange(len(found))):
        raise ScanError(
            "confounds",
            f"timepoints {found.tolist()} are said not to be in steady state, not the first {len(found)}; give "
            "dummy_scans a number",
        )
    return len(found)


def displacement(table: pd.DataFrame) -> NDArray[np.float64] | None:
    """Return framewise displacement (mm) by timepoint, NaN where it is missing (the first); None without the column."""
    return table[FD_COLUMN].to_numpy(dtype=np.float64) if FD_COLUMN in table else None


def given_dvars(table: pd.DataFrame) -> NDArray[np.float64] | None:
    """Return fMRIPrep's standardised DVARS by timepoint, NaN where it is missing; None without the column."""
    return table[DVARS_COLUMN].to_numpy(dtype=np.float64) if DVARS_COLUMN in table else None


def select_regressors(table: pd.DataFrame, files: ConfoundFiles, strategy: Strategy) -> Regressors:
    """Let nilearn's `load_confounds` take a strategy's regressors from a table, and censor.

    A derivative's missing first value becomes its second one. Values are neither centred nor scaled.

    Parameters
    ----------
    table : DataFrame
        Of `read_confounds`, without the dummy scans.
    files : ConfoundFiles
        What the table was read from.
    strategy : Strategy

    Raises
    ------
    ScanError
        ``confounds`` if the table, the sidecar or the image are not what the strategy needs.
    """
    from nilearn.interfaces.fmriprep import load_confounds

    if "compcor" in strategy.components and files.sidecar is None:
        raise ScanError("confounds", "compcor needs the .json beside the confounds table, and it is not there")
    aroma = strategy.parameters.get("ica_aroma") == "full"
    if aroma and "desc-smoothAROMAnonaggr_bold" not in files.image:
        raise ScanError(
            "confounds",
            f"ica_aroma: full is for images that fMRIPrep has denoised (desc-smoothAROMAnonaggr_bold), not for "
            f"{files.image!r}; take ica_aroma: basic",
        )
    desc = "smoothAROMAnonaggr" if aroma else "preproc"
    with _folder() as folder, warnings.catch_warnings():
        # an error of ours, further on
        warnings.filterwarnings("ignore", message="All volumes were marked", category=RuntimeWarning)
        table.to_csv(folder / "sub-x_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
        if "compcor" in strategy.components and files.sidecar is not None:
            (folder / "sub-x_desc-confounds_timeseries.json").write_bytes(files.sidecar)
        image = folder / f"sub-x_desc-{desc}_bold.nii.gz"
        image.touch()
        try:
            frame, indices = load_confounds(
                str(image), strategy=strategy.components, demean=False, **strategy.parameters
            )
        except UNUSABLE as error:
            raise ScanError("confounds", _message(error)) from None
    kept = np.ones(len(table), dtype=np.bool_)
    if indices is not None:
        kept[:] = False
        kept[indices] = True
    notes: tuple[str, ...] = ()
    if "high_pass" in strategy.components and not any(name.startswith("cosine") for name in frame.columns):
        notes = ("the confounds have no cosine columns: high_pass removed no drifts",)
    values = np.zeros((len(table), 0)) if frame.empty else frame.to_numpy(dtype=np.float64)
    for name, column in zip(frame.columns, values.T, strict=False):
        if not np.isfinite(column).all():
            n_missing = int((~np.isfinite(column)).sum())
            raise ScanError("confounds", f"column {name!r} of the confounds lacks {n_missing} of {len(column)} values")
    return Regressors(values, tuple(frame.columns) if values.size else (), kept, notes)


def _message(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, KeyError):
        return f"the confounds have no {error.args[0]!r}, which the strategy needs"
    return f"nilearn cannot take this strategy from the confounds: {text}"


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a temporary folder without ``tsv`` in its name, which nilearn would take for the table's ending."""
    folder = Path(tempfile.gettempdir()) / f"boldstream-{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
