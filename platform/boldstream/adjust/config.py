"""What the adjust room is told."""

from typing import ClassVar, Literal, Self

import pydantic

from boldstream.analysis.steps import Impute
from boldstream.config import Config
from boldstream.refs import ArtifactName

StepName = Literal["attention", "zscore", "harmonize", "project", "residualize"]


class AdjustConfig(Config):
    """Fit a strategy's steps on the training subjects of an embedding table, or take fitted ones, and apply them."""

    output: ArtifactName
    """Name of the table of adjusted vectors, and of the adjustment that is fitted for it."""

    table: str
    """Embedding table: name, name@version, name@alias, or the line that the embed job printed."""

    strategy: str | None = None
    """YAML file of the recipe, whose steps are fitted. Its windows and pooling must be the table's."""

    adjustment: str | None = None
    """A fitted adjustment to apply as it is, instead of a strategy: name, name@version, or the line that was logged."""

    leave_out: tuple[StepName, ...] = ()
    """Steps of the recipe that are not applied; the table lists them as pending."""

    impute: Impute = Impute()
    """How missing covariates are filled in. What is not named is not filled in: then the rows are refused."""

    unseen_site: Literal["refuse", "reference", "pooled"] = "refuse"
    """Scans of sites without training scans: refused, taken for reference_site, or for the average of all sites."""

    reference_site: str | None = None
    """For unseen_site: reference."""

    refuse: Literal["run", "scan"] = "run"
    """What is refused where a scan lacks a covariate or is of an unseen site: the run, or the scan, to quarantine."""

    holdout: float | None = pydantic.Field(default=None, ge=0, lt=1)
    """Share of subjects that are not fitted on; none: those that the cohort holds out."""

    seed: int = 0
    """Chooses the held-out subjects, where holdout is given."""

    measured_rows: int = pydantic.Field(default=2000, ge=0)
    """Training rows at most in which site and motion are looked for, before and after; 0: they are not."""

    first_champion: bool = True
    """Let the first version of the table be its champion; the nightly room decides that itself."""

    warehouse: str = "warehouse"
    """Where tables and adjustments live (path or URI)."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"warehouse", "refuse", "measured_rows", "first_champion"})

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.strategy is None) == (self.adjustment is None):
            raise ValueError("give a strategy, to fit its steps, or an adjustment that is fitted; one of the two")
        if (self.unseen_site == "reference") != (self.reference_site is not None):
            raise ValueError("unseen_site: reference and reference_site go together")
        if self.adjustment is not None:
            fitting = {"leave_out", "impute", "holdout", "seed", "measured_rows"}
            told = [name for name in sorted(fitting) if getattr(self, name) != type(self).model_fields[name].default]
            if told:
                raise ValueError(f"{', '.join(told)}: nothing is fitted with adjustment, so this has no effect")
        return self
