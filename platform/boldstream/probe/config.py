"""What the probe room is told."""

from typing import Any, ClassVar, Literal, Self, get_args

import pydantic

from boldstream.analysis.steps import Impute
from boldstream.analysis.targets import TargetSpec
from boldstream.cluster import ClusterConfig
from boldstream.config import Config
from boldstream.probe.transfer.config import TransferSpec
from boldstream.refs import ArtifactName

HeadChoice = Literal["ridge", "kernel_ridge", "logistic", "svm", "prototype", "knn", "mlp"]
BaselineName = Literal["mean", "confounds", "fc", "fc_kernel", "fc_reduced", "tangent", "moments"]
ATTENTION = "_attention"
"""What ends the name of a table whose latents are pooled by attention."""
CLASSIFIERS = ("logistic", "svm", "prototype")


class Heads(Config):
    """Small models on frozen vectors; baselines are compared by the first of each list."""

    continuous: tuple[HeadChoice, ...] = pydantic.Field(default=("ridge",), min_length=1)
    """For numbers."""

    binary: tuple[HeadChoice, ...] = pydantic.Field(default=("logistic",), min_length=1)
    """For two classes."""

    multiclass: tuple[HeadChoice, ...] | None = pydantic.Field(default=None, min_length=1)
    """For three classes and more; none: those for two."""

    @pydantic.model_validator(mode="after")
    def _fit(self) -> Self:
        if wrong := [name for name in self.continuous if name in CLASSIFIERS]:
            raise ValueError(f"continuous: {wrong[0]} tells classes apart; use ridge, kernel_ridge, knn or mlp")
        return self

    def of(self, kind: Literal["continuous", "binary", "multiclass"]) -> tuple[HeadChoice, ...]:
        """Return the heads of a kind of target."""
        if kind == "continuous":
            return self.continuous
        return self.multiclass or self.binary if kind == "multiclass" else self.binary


class Grids(Config):
    """The search space: what heads choose from in the inner folds; none: their own (docs/probes.md)."""

    ridge_alphas: tuple[float, ...] | None = None
    """Penalties of ridge and kernel_ridge, in mean square lengths of the centred training rows."""

    kernel: Literal["linear", "correlation", "rbf"] | None = None
    """Of kernel_ridge; fc_kernel always takes the correlation."""

    kernel_widths: tuple[float, ...] | None = None
    """Of an rbf kernel, in median square distances."""

    strengths: tuple[float, ...] | None = None
    """Inverse penalties of logistic and svm."""

    neighbours: tuple[int, ...] | None = None
    """Numbers of neighbours of knn."""

    epochs: tuple[int, ...] | None = None
    """Numbers of epochs of mlp."""

    hidden: int | None = pydantic.Field(default=None, ge=1)
    """Units of mlp."""

    def options(self, head: str) -> dict[str, Any]:
        """Return what is set of a head, by the names of its own parameters."""
        strengths = {"strengths": self.strengths}
        known: dict[str, dict[str, Any]] = {
            "ridge": {"alphas": self.ridge_alphas},
            "kernel_ridge": {"alphas": self.ridge_alphas, "kernel": self.kernel, "widths": self.kernel_widths},
            "logistic": strengths,
            "svm": strengths,
            "knn": {"counts": self.neighbours},
            "mlp": {"epochs": self.epochs, "hidden": self.hidden},
        }
        return {name: value for name, value in known.get(head, {}).items() if value is not None}


class FoldSpec(Config):
    """Who is predicted by whom."""

    scheme: Literal["grouped", "leave_site_out"] = "grouped"
    """Subjects dealt to folds, even in target and site; or every site a fold, predicted by the others."""

    n_folds: int = pydantic.Field(default=5, ge=2)
    """Outer folds of grouped."""

    n_inner: int = pydantic.Field(default=5, ge=2)
    """Inner folds, in which heads choose."""

    n_repeats: int = pydantic.Field(default=5, ge=1)
    """How often subjects are dealt anew, with grouped."""

    seed: int = 0
    """Of the dealing."""

    family: str | None = None
    """Column that tells families; relatives stay together in folds and permutations."""


class TuneSpec(Config):
    """How trials are run side by side. It does not change the result."""

    max_concurrent: int | None = pydantic.Field(default=None, ge=1)
    """Trials at a time; none: as many as the cluster has room for."""

    cpus: int = pydantic.Field(default=1, ge=1)
    """CPUs of a trial, and threads of its matrix products."""


class ProbeConfig(Config):
    """Ask frozen embeddings for phenotypes, beside baselines from the same scans and folds."""

    output: ArtifactName
    """Name of the results."""

    tables: dict[ArtifactName, str] = pydantic.Field(min_length=1)
    """Embedding tables of one cohort by a short name; the first is the one in question, others (its untrained twin)
    are compared with it."""

    targets: tuple[TargetSpec, ...] = ()
    """What is predicted: names of columns, or {column, kind, transform, classes}. Only a YAML file can list them."""

    heads: Heads = Heads()
    """Models for numbers, for two classes, and for more."""

    grids: Grids = Grids()
    """What they choose from."""

    attention: bool = False
    """Also pool regions' latents by a query that is trained in the folds, instead of their mean; for tables whose
    strategy keeps them (keep_roi_latents)."""

    baselines: tuple[BaselineName, ...] = get_args(BaselineName)
    """What is computed from the same scans and put beside the tables."""

    confounds: tuple[str, ...] = ("age", "sex", "site", "mean_fd")
    """Columns of the baseline confounds, as far as they are there; never the target itself."""

    folds: FoldSpec = FoldSpec()
    """Nested cross-validation."""

    transfer: TransferSpec = TransferSpec()
    """Learn from some scans, apply unchanged to others that were not seen (docs/transfer.md)."""

    adjust: str | None = None
    """YAML file of a recipe whose steps are fitted in every training fold; a target is left out of what they regress
    out. None: vectors as the tables have them, standardised."""

    adjust_baselines: bool = False
    """Also harmonize and residualize features of functional connectivity and region moments in every training fold."""

    impute: Impute = Impute()
    """How the steps fill in missing covariates, from training rows. What is not named is not filled in: refused."""

    unseen_site: Literal["refuse", "pooled"] = "refuse"
    """For the steps: a site without training rows is refused, or gets the average of all sites' effects."""

    permutations: int = pydantic.Field(default=0, ge=0)
    """Of subjects within sites, for the p values of tables and fc; 0: no p values."""

    refit_permutations: bool = False
    """Also permute for heads that have to be fitted anew for every permutation (all but ridge and kernel_ridge)."""

    bootstrap: int = pydantic.Field(default=2000, ge=100)
    """Resamples of subjects for intervals."""

    max_scans: int | None = pydantic.Field(default=None, ge=10)
    """Take a random part of the subjects, with all their scans, so that there are at most so many."""

    seed: int = 0
    """Of permutations, resamples, the random part, and heads that draw."""

    tune: TuneSpec = TuneSpec()
    """Trials side by side."""

    warehouse: str = "warehouse"
    """Where tables and results live (path or URI)."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"tune", "warehouse", "cluster"})

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if taken := [name for name in self.tables if name in get_args(BaselineName)]:
            raise ValueError(f"tables: {taken[0]!r} is the name of a baseline; choose another one")
        if not self.targets:
            raise ValueError("targets: name what to predict, in the YAML file: targets: [age, sex]")
        names = [target.name for target in self.targets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"targets: {twice[0]!r} is there twice")
        if self.attention and self.adjust is not None:
            raise ValueError("attention pools latents that no step adjusts; ask for it without adjust")
        if clash := [name for name in self.tables if self.attention and name.endswith(ATTENTION)]:
            raise ValueError(f"tables: names that end with {ATTENTION!r} are those of attention pooling: {clash[0]!r}")
        if (self.adjust_baselines or self.unseen_site != "refuse") and self.adjust is None:
            raise ValueError("adjust_baselines and unseen_site have no effect without adjust; name a recipe")
        if self.transfer.tables and self.transfer.tables.keys() != self.tables.keys():
            raise ValueError(f"transfer.tables: name the same as in tables ({', '.join(self.tables)})")
        if any(one.keys() != self.tables.keys() for one in self.transfer.sources or ()):
            raise ValueError(f"transfer.sources: name the same as in tables ({', '.join(self.tables)}) for each cohort")
        if self.transfer.is_asked and self.attention:
            raise ValueError("attention: latents are not transferred; ask for them without transfer")
        if self.transfer.is_asked and self.permutations:
            raise ValueError("permutations: a transfer has no permutation test; leave them out")
        if self.transfer.is_asked and self.adjust and self.unseen_site == "refuse":
            raise ValueError(
                "with adjust, the sites of the cohort that was not seen are unseen: set unseen_site: pooled"
            )
        if self.adjust and self.folds.scheme == "leave_site_out" and self.unseen_site == "refuse":
            raise ValueError("with adjust and leave_site_out every test site is unseen: set unseen_site: pooled")
        return self
