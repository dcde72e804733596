"""What the nightly room is told."""

from typing import ClassVar, Literal

import pydantic

from boldstream.config import Config


class GateConfig(Config):
    """What a night's table must be like to be promoted."""

    min_coverage: float = pydantic.Field(default=0.8, ge=0, le=1)
    """Share of the cohort's scans that have a vector."""

    max_failed: float = pydantic.Field(default=0.05, ge=0, le=1)
    """Share of the cohort's scans that failed to be embedded."""

    max_set_aside: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Share of the scans that arrived since the champion which went to quarantine, in ingest or in embed."""

    max_removed: float = pydantic.Field(default=0.1, ge=0, le=1)
    """Share of the champion's scans that are not in the new version."""

    new_t_r: bool = False
    """Let scans in whose repetition time no scan of the champion has."""

    false_alarms: float = pydantic.Field(default=0.01, gt=0, le=0.5)
    """Chance that a night is held for drift although its new subjects are like the champion's."""

    min_drift: float = pydantic.Field(default=0.5, ge=0)
    """Drift of less than so many standard deviations, in the dimension that moved most, holds no night."""

    min_rank: float = pydantic.Field(default=0.8, ge=0, le=1)
    """Effective rank (RankMe) of the new version, as a share of the champion's on as many scans."""

    max_site_jump: float = pydantic.Field(default=0.1, ge=0, le=1)
    """How much better the site may be read from the new version than from the champion (balanced accuracy)."""

    max_scans: int = pydantic.Field(default=2000, ge=10)
    """Scans of each version that drift, rank and site are measured on, drawn at random."""

    seed: int = 0
    """Of the draw, the permutations and the folds."""


class NightlyConfig(Config):
    """Ingest what is new, embed what is missing, and promote the new version if it passes the quality gate."""

    ingest: str | None = None
    """Configuration of the ingest job; none: the cohort is what it is."""

    embed: str
    """Configuration of the embed job; its cohort must be the one that is ingested."""

    adjust: str | None = None
    """Configuration of the adjust job, naming a fitted adjustment: it is applied, nothing is fitted; none: not done."""

    mode: Literal["add", "reembed"] = "add"
    """add: embed what is missing, and refuse a model other than the champion's; reembed: with another model, embed
    everything anew as the table's next version, beside the champion, which stays until the gate has passed."""

    gate: GateConfig = GateConfig()
    """What is asked of the new version."""

    page: str = "nightly"
    """Folder of the page; an older one there is replaced."""

    lease_minutes: float = pydantic.Field(default=5.0, gt=0)
    """So long after its last sign of life, a night that died still keeps the next one from starting."""

    dry_run: bool = False
    """Tell what would be done, and do nothing."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"page", "lease_minutes", "dry_run"})
