"""What the ingest room is told."""

import re
from typing import Any, ClassVar, Literal, Self

import pydantic

from boldstream.cluster import ClusterConfig
from boldstream.config import Config
from boldstream.parcellation.clean import CleaningSpec
from boldstream.parcellation.qc_rules import QualityRules
from boldstream.parcellation.timeseries import SUFFIXES, Orientation
from boldstream.parcellation.timing import LONGEST_T_R, SHORTEST_T_R
from boldstream.refs import ArtifactName
from boldstream.synthesis.spec import SyntheticSpec

CIFTI_SUFFIXES = (".ptseries.nii", ".dtseries.nii")


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

    kind: Literal["files", "fmriprep", "xcpd", "cifti", "ukb", "abide", "synthetic"] = "files"
    """What made the files: ``files`` (your own template), ``fmriprep`` derivatives, ``xcpd`` time series, ``cifti``
    dense or parcellated series, ``ukb`` UK Biobank partials, ``abide`` PCP .1D files; ``synthetic``: none, people are
    made up as `synthetic` says."""

    root: str = ""
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

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "synthetic":
            for name, field in SourceConfig.model_fields.items():
                if name != "kind" and getattr(self, name) != field.default:
                    raise ValueError(f"source.{name} is for scans that are read; source.kind synthetic reads none")
            return self
        if not self.root:
            raise ValueError("source.root: name the folder that holds the scans")
        if self.kind not in ("files", "cifti"):
            for name in ("files", "mat_key"):
                if getattr(self, name) is not None:
                    raise ValueError(f"source.{name} is for source.kind files only, not {self.kind}")
            return self
        if self.files is None:
            if self.kind == "files":
                raise ValueError("source.files: give the template of the scans' paths, e.g. sub-{subject}.csv")
            return self
        suffixes = SUFFIXES if self.kind == "files" else CIFTI_SUFFIXES
        if not self.files.endswith(suffixes):
            raise ValueError(f"source.files: {self.files!r} must end in one of {', '.join(suffixes)}")
        for field in re.findall(r"\{(.*?)\}", self.files):
            if not field.isidentifier():
                raise ValueError(
                    f"source.files: {{{field}}} in {self.files!r} is no field; a field is {{subject}} or the like"
                )
        if self.files.endswith(".mat") and self.mat_key is None:
            raise ValueError("source.mat_key: name the variable to read from the .mat files")
        return self


class SplitConfig(Config):
    """Whose scans the cohort's statistics are fitted on; pretraining with the same share and seed trains on those."""

    holdout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    """Share of the subjects that are left out."""

    seed: int = 0
    """Of the choice."""


class IngestConfig(Config):
    """Read what labs hold - images, other people's time series, tables of them - into a cohort."""

    output: ArtifactName
    """Name of the cohort."""

    source: SourceConfig
    """Where the scans are."""

    atlas: str
    """Atlas of the cohort: the one to average volumes over, or the one that time series were made with (cc200,
    schaefer400_17n, … or a name of your own with `atlas_labels`)."""

    atlas_labels: str | None = None
    """Table of the atlas's region names, in order; empty for atlases that boldstream knows by name, and for series
    that name their regions themselves."""

    atlas_order: str | None = None
    """For data in another order of regions than the cohort's (Schaefer in 7-network order): the permutation (.npy,
    .txt), or the cortex in the wanted order (.nii.gz)."""

    atlas_order_labels: str | None = None
    """Table of the region names in the cohort's order, for `atlas_order`."""

    atlas_file: str | None = None
    """Label image (.nii.gz) or, for dense CIFTI series, .dlabel.nii to average over; empty: fetched by `atlas`."""

    participants: str | None = None
    """Table (.tsv or .csv) with one row a subject; empty: the cohort has no covariates."""

    participants_key: str = "participant_id"
    """Column that joins the table to the scans. ``participant_id`` is matched with the subject (with or without
    ``sub-``), any other column with the field of the same name that the files' names give."""

    sessions: str | None = None
    """Table with one row a session (columns participant_id and session_id), whose values go before the
    participants'; ``{subject}`` in its path is filled in."""

    subject_ids: Literal["keep", "hash"] = "keep"
    """Whether the cohort has the source's subject ids, or salted hashes of them (docs/security.md); the salt is in the
    environment variable BOLDSTREAM_SUBJECT_SALT."""

    columns: ColumnsConfig = ColumnsConfig()
    """Names of the known columns in the tables; empty where there is none."""

    t_r: float | None = None
    """Repetition time of all scans, in seconds, unless the table or `t_r_by_site` says otherwise; goes before what
    the files say."""

    t_r_by_site: dict[str, float] = pydantic.Field(default={})
    """Repetition times of single sites, in seconds."""

    target_t_r: float | None = None
    """Resample all scans to this repetition time, in seconds; empty: keep theirs (models resample what they need)."""

    synthetic: SyntheticSpec = SyntheticSpec()
    """Source of kind ``synthetic``: which people to make up."""

    cleaning: CleaningSpec = CleaningSpec()
    """Confounds, filters, scrubbing; nothing by default."""

    quality: QualityRules = QualityRules()
    """Which measures flag a scan or send it to quarantine."""

    split: SplitConfig = SplitConfig()
    """Whom the cohort's statistics leave out."""

    min_timepoints: int = pydantic.Field(default=2, ge=2)
    """Shorter scans go to quarantine."""

    max_bad_rois: float = pydantic.Field(default=0.1, ge=0, le=1)
    """Scans with a larger share of constant (e.g. all-zero) regions go to quarantine; below it they are flagged."""

    max_removed: float = pydantic.Field(default=0.2, ge=0, le=1)
    """Largest share of a cohort's scans that may go at once because their files are gone; more looks like a disk that
    is not mounted, and is refused."""

    warehouse: str = "warehouse"
    """Where cohorts and tables live (path or URI)."""

    qc_page: str | None = None
    """File (path or URI) to write the quality page to as well; MLflow has it in any case."""

    shard_size: int = pydantic.Field(default=64, ge=1)
    """Scans in one Parquet file."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"max_removed", "warehouse", "qc_page", "shard_size", "cluster"})

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        self._check_synthetic()
        if self.participants_key in self.columns.model_dump().values():
            raise ValueError(f"participants_key: {self.participants_key!r} is one of the columns, not a key")
        join = "subject" if self.participants_key == "participant_id" else self.participants_key
        template = self.source.files
        if template is not None and "{" + join + "}" not in template:
            raise ValueError(f"source.files: {template!r} has no field {{{join}}}, which names the subject of a scan")
        for where, t_r in {
            "t_r": self.t_r,
            "target_t_r": self.target_t_r,
            **{f"t_r_by_site.{k}": v for k, v in self.t_r_by_site.items()},
        }.items():
            check_t_r(t_r, where)
        if self.target_t_r is not None and self.cleaning.censored == "drop":
            raise ValueError(
                "target_t_r: a series with dropped timepoints cannot be resampled; cleaning.censored: interpolate "
                "keeps them"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return the resolved values that determine the result; how many people are made up does not change them."""
        found = super().identity()
        if self.subject_ids == "keep":
            del found["subject_ids"]  # cohorts of earlier releases know no other
        del found["synthetic"]
        return found | {"synthetic": self.synthetic.identity()} if self.source.kind == "synthetic" else found

    def _check_synthetic(self) -> None:
        """Refuse files for scans that are made up, and made-up people beside scans that are read."""
        if self.source.kind != "synthetic":
            if self.synthetic != SyntheticSpec():
                raise ValueError(f"synthetic is for source.kind synthetic, not {self.source.kind}")
            return
        for name in ("participants", "sessions", "atlas_file", "atlas_order"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: {getattr(self, name)!r} is a file; source.kind synthetic reads none")
        if self.t_r is None:
            raise ValueError("t_r: give the repetition time of the scans to make up, in seconds")


def check_t_r(t_r: float | None, where: str) -> None:
    """Refuse a repetition time that no scanner has."""
    if t_r is not None and not SHORTEST_T_R < t_r < LONGEST_T_R:
        hint = " (milliseconds?)" if t_r >= LONGEST_T_R else ""
        raise ValueError(f"{where}: {t_r:g} s is no repetition time{hint}; it is in seconds")
