"""What `boldstream tables quality` is told, and where it calls a number alarming."""

from typing import ClassVar

import pydantic

from boldstream.config import Config
from boldstream.tables.limits import MAX_SCANS


class QualityThresholds(Config):
    """Beyond these a number is named at the top of the page: as alarming, or as worth a look."""

    rankme_centred: float = pydantic.Field(default=2.0, ge=1)
    """Alarming: fewer effective directions around the mean vector (as in pretraining's collapse alarm)."""
    mean_cosine: float = pydantic.Field(default=0.9999, le=1)
    """Alarming: a higher mean cosine of two rows (as in pretraining's collapse alarm)."""
    sensitivity: float = pydantic.Field(default=1e-3, ge=0)
    """Alarming: the encoder tells scans less from randomised or empty ones (as in pretraining's collapse alarm)."""
    identification_p: float = pydantic.Field(default=0.01, gt=0, lt=1)
    """Alarming: subjects are found again no more often than chance allows with this probability."""
    few_subjects: int = pydantic.Field(default=20, ge=2)
    """With fewer subjects seen twice, that they are not found again is worth a look only: chance may hide them."""
    site_jump: float = pydantic.Field(default=0.1, ge=0)
    """Alarming: an adjustment leaves sites easier to tell, by so much balanced accuracy, than they were."""
    rank_share: float = pydantic.Field(default=0.1, ge=0, le=1)
    """Worth a look: effective directions below this share of those that rows and dimensions allow."""
    common_offset: float = pydantic.Field(default=0.9, le=1)
    """Worth a look: a higher mean cosine; a part common to all rows then drowns what tells them apart."""
    steep: float = pydantic.Field(default=2.0, gt=0)
    """Worth a look: a spectrum that falls faster; few directions carry all."""
    icc: float = pydantic.Field(default=0.4, ge=-1, le=1)
    """Worth a look: a lower median ICC(3,1); below 0.4 is poor by Cicchetti's (1994) reading."""
    site_excess: float = pydantic.Field(default=0.1, ge=0)
    """Worth a look: sites told with a balanced accuracy so much above chance."""
    motion_r2: float = pydantic.Field(default=0.05, ge=0)
    """Worth a look: a larger share of the variance of mean framewise displacement told."""
    cka: float = pydantic.Field(default=0.9, le=1)
    """Worth a look: a lower debiased CKA with a version that the same model made."""


class QualityConfig(Config):
    """Tell how good an embedding table is, without targets."""

    table: str
    """Embedding table: name, name@version, name@champion, or the line that a job printed."""
    against: str | None = None
    """Table version to compare with; none: the version before."""
    output: str | None = None
    """Folder of the page; none: quality-NAME@VERSION in the working directory."""
    max_rows: int = pydantic.Field(default=MAX_SCANS, ge=1)
    """So many rows are measured at most, of subjects drawn at random, all rows of a subject together."""
    seed: int = 0
    """Of the subjects drawn, and of the folds in which sites and motion are told."""
    thresholds: QualityThresholds = QualityThresholds()
    """Where numbers are called alarming."""
    warehouse: str = "warehouse"
    """Where tables live (path or URI)."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"warehouse", "output"})
