"""What one trial is told: in JSON's types, so that its digest names its result and a worker can check it."""

from typing import Any, ClassVar, Literal

import boldstream
from boldstream.analysis.heads.catalog import HeadName
from boldstream.analysis.nested import TargetKind
from boldstream.analysis.steps import Impute, Step
from boldstream.config import Config


class TrialSpec(Config):
    """One representation and one head on one target and fold set."""

    target: str
    """Name of the target."""

    kind: TargetKind
    """Numbers, two classes, or more."""

    representation: str
    """Name of the table, or of the baseline."""

    role: Literal["embedding", "baseline"]
    """Whether it is in question."""

    source: str | None
    """Which array it reads: a table's vectors, ``connectivity``, ``series``; None: no array."""

    head: HeadName
    """Name of the head."""

    options: dict[str, Any]
    """What the head is told."""

    steps: tuple[Step, ...] = ()
    """Steps that are fitted in every training fold."""

    standardise: bool = False
    """Whether dimensions get a standard deviation of 1 last, in every training fold."""

    components: int | None = None
    """Of connectivity that is reduced."""

    confounds: tuple[str, ...] = ()
    """Columns of the baseline of covariates."""

    impute: Impute = Impute()
    """For the steps."""

    unseen_site: Literal["refuse", "pooled"] = "refuse"
    """For the steps."""

    permutations: int = 0
    """0: not tested."""

    bootstrap: int
    """Resamples."""

    seed: int
    """Of permutations, resamples and heads that draw."""

    folds_id: str
    """Of the fold set, which follows from the scans."""

    inputs: tuple[str, ...]
    """Digests of what it reads: the target's values, and the versions of tables or cohort."""

    version: str = boldstream.__version__
    """Of the code."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"role"})

    @property
    def key(self) -> str:
        """Name of its result."""
        return self.config_hash()[:32]

    @property
    def label(self) -> str:
        """Short name for messages and runs."""
        return f"{self.target} from {self.representation} by {self.head}"

    @property
    def front(self) -> str:
        """What stands before the head, in words."""
        parts = [f"{self.components} components"] if self.representation == "fc_reduced" else []
        parts += [step.describe() for step in self.steps]
        return "; ".join([*parts, *(["standardised"] if self.standardise else [])]) or "none"
