"""What the ingest room is told."""

import re
from typing import ClassVar, Literal, Self

import pydantic

from boldstream.cluster import ClusterConfig
from boldstream.config import Config
from boldstream.parcellation.timeseries import SUFFIXES, Orientation
from boldstream.refs import ArtifactName


class ColumnsConfig(Config):
    """Columns of the participants table that the platform knows by name; all others are kept as phenotypes."""

    site: str | None = "site"
    """Acquisition site or scanner."""

    age: str | None = "age"
    """Age, in years."""

    sex: str | None = "sex"
    """Sex, as written in the table."""

    mean_fd: str | None = "mean_fd"
    """Mean framewise displacement, in mm."""

    t_r: str | None = None
    """Repetition time, in seconds, where the table has one."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        named = [column for column in self.model_dump().values() if column is not None]
        if doubled := [column for column in named if named.count(column) > 1]:
            raise ValueError(f"{doubled[0]!r} cannot be two columns at once")
        return self


class SourceConfig(Config):
    """Where the scans are, and how their files are named."""

    kind: Literal["files", "fmriprep", "xcpd", "cifti", "ukb", "abide"] = "files"
    """What made the files: ``files`` (your own template), ``fmriprep`` derivatives, ``xcpd`` time series, ``cifti``
    dense or parcellated series, ``ukb`` UK Biobank partials, ``abide`` PCP .1D files."""

    root: str
    """Folder (path or URI) that holds the scans."""

    files: str | None = None
    """Kind ``files``: template of a scan's path below `root`, e.g. ``sub-{subject}_ses-{session}_task-{task}.csv.gz``;
    the fields subject, session, task and run become the scan's, a further field may be the `participants_key`."""

    orientation: Orientation = "timepoints_first"
    """Kind ``files``: whether a file's rows are timepoints or regions."""

    mat_key: str | None = None
    """Kind ``files``: variable to read from .mat files."""

    task: str | None = None
    """Keep this ``task-`` only (e.g. rest); empty: every task."""

    space: str | None = None
    """Keep this ``space-`` only (e.g. MNI152NLin6Asym); needed where a scan is there in more than one."""

    resolution: str | None = None
    """Keep this ``res-`` only; needed where a scan is there in more than one."""

    segmentation: str | None = None
    """Kind ``xcpd`` and ``cifti``: the ``seg-`` or ``atlas-`` label of the files (e.g. 4S456Parcels)."""


class IngestConfig(Config):
    """Read parcellated scans and their participants table into a cohort."""

    output: ArtifactName
    """Name of the cohort."""

    source: str
    """Folder (path or URI) that holds the scans."""

    files: str
    """Template of a scan's path below `source`, e.g. ``sub-{subject}_ses-{session}_task-{task}.csv.gz``; the fields
    subject, session, task and run become the scan's, a further field may be the `participants_key`."""

    atlas: str
    """Atlas the scans were parcellated with (e.g. cc200)."""

    roi_labels: str | None = None
    """File with the atlas's region names, in the order of the scans' columns; empty for the atlases that boldstream
    knows by name."""

    participants: str | None = None
    """Table (.tsv or .csv) with one row a subject; empty: the cohort has no covariates."""

    participants_key: str = "participant_id"
    """Column that joins the table to the scans. ``participant_id`` is matched with {subject} (with or without
    ``sub-``), any other column with the template's field of the same name."""

    columns: ColumnsConfig = ColumnsConfig()
    """Names of the known columns in the participants table; empty where there is none."""

    t_r: float | None = None
    """Repetition time of all scans, in seconds, unless the table or `t_r_by_site` says otherwise."""

    t_r_by_site: dict[str, float] = pydantic.Field(default={})
    """Repetition times of single sites, in seconds."""

    orientation: Orientation = "timepoints_first"
    """Whether a file's rows are timepoints or regions."""

    mat_key: str | None = None
    """Variable to read from .mat files."""

    min_timepoints: int = pydantic.Field(default=2, ge=2)
    """Shorter scans go to quarantine."""

    max_bad_rois: float = pydantic.Field(default=0.1, ge=0, le=1)
    """Scans with a larger share of constant (e.g. all-zero) regions go to quarantine; below it they are flagged."""

    warehouse: str = "warehouse"
    """Where cohorts and tables live (path or URI)."""

    shard_size: int = pydantic.Field(default=64, ge=1)
    """Scans in one Parquet file."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"warehouse", "shard_size", "cluster"})

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if not self.files.endswith(SUFFIXES):
            raise ValueError(f"files: {self.files!r} must end in one of {', '.join(SUFFIXES)}")
        for field in re.findall(r"\{(.*?)\}", self.files):
            if not field.isidentifier():
                raise ValueError(
                    f"files: {{{field}}} in {self.files!r} is no field; a field is {{subject}} or the like"
                )
        if self.participants_key in self.columns.model_dump().values():
            raise ValueError(f"participants_key: {self.participants_key!r} is one of the columns, not a key")
        join = "subject" if self.participants_key == "participant_id" else self.participants_key
        if "{" + join + "}" not in self.files:
            raise ValueError(f"files: {self.files!r} has no field {{{join}}}, which names the subject of a scan")
        if self.files.endswith(".mat") and self.mat_key is None:
            raise ValueError("mat_key: name the variable to read from the .mat files")
        for where, t_r in {
            "t_r": self.t_r,
            **{f"t_r_by_site.{k}": v for k, v in self.t_r_by_site.items()},
        }.items():
            check_t_r(t_r, where)
        return self


def check_t_r(t_r: float | None, where: str) -> None:
    """Refuse a repetition time that no scanner has."""
    if t_r is not None and not 0.05 < t_r < 30:
        hint = " (milliseconds?)" if t_r >= 30 else ""
        raise ValueError(f"{where}: {t_r:g} s is no repetition time{hint}; it is in seconds")
