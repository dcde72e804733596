"""The steps of an adjustment as a strategy's file spells them: an ordered list, each with what it is told."""

from collections.abc import Iterable
from typing import Annotated, Literal

import pydantic

from boldstream.analysis.targets import TargetSpec
from boldstream.config import Config

Covariate = Literal["age", "sex", "site", "mean_fd", "global_signal_flag"]
SITE: Covariate = "site"


class AttentionStep(Config):
    """Pool regions' latents by a query that is trained to tell a target, instead of averaging them; always first."""

    step: Literal["attention"]
    """Name of the step."""

    target: TargetSpec
    """What the query is trained for, on training subjects that have a value: the name of a column, or more."""

    epochs: tuple[Annotated[int, pydantic.Field(ge=0)], ...] | None = pydantic.Field(default=None, min_length=1)
    """Numbers of epochs to choose from in inner folds of the training subjects; 0 is the mean. None: the head's own."""

    max_subjects: int = pydantic.Field(default=2000, ge=10)
    """Subjects at most that the query is trained on, all their scans: regions' latents of these are held in memory."""

    seed: int = 0
    """Deals subjects to inner folds, and chooses them where there are more."""

    def describe(self) -> str:
        """Return the step in a few words."""
        classes = f" ({' or '.join(self.target.classes)})" if self.target.classes else ""
        return f"{self.step}: regions pooled by a query trained for {self.target.name}{classes}, seed {self.seed}"

    def needs(self) -> tuple[Covariate, ...]:
        """Return the covariates that it reads: none, a target is no covariate."""
        return ()


class ZscoreStep(Config):
    """Bring every dimension to mean 0 and standard deviation 1 over the training rows."""

    step: Literal["zscore"]
    """Name of the step."""

    def describe(self) -> str:
        """Return the step in a few words."""
        return self.step

    def needs(self) -> tuple[Covariate, ...]:
        """Return the covariates that it reads."""
        return ()


class HarmonizeStep(Config):
    """Remove what sites add to vectors, and how they scale them."""

    step: Literal["harmonize"]
    """Name of the step."""

    method: Literal["combat"] = "combat"
    """ComBat: a shift and a scale a site and dimension, drawn towards the site's own over all dimensions."""

    keep: tuple[Literal["age", "sex"], ...]
    """Covariates whose effects stay, though sites differ in them. Never what is to be predicted: it would leak."""

    min_per_site: int = pydantic.Field(default=2, ge=2)
    """Training rows that every site needs; published recipes ask for 30."""

    def describe(self) -> str:
        """Return the step in a few words."""
        return f"{self.step}: {self.method}, keep {', '.join(self.keep) or 'nothing'}"

    def needs(self) -> tuple[Covariate, ...]:
        """Return the covariates that it reads."""
        return (SITE, *self.keep)


class ProjectStep(Config):
    """Go on in fewer dimensions."""

    step: Literal["project"]
    """Name of the step."""

    dim: int = pydantic.Field(ge=1)
    """Dimensions that the recipe names; fewer where there are not so many."""

    method: Literal["pca", "random"] = "pca"
    """Principal components of the training rows, or random orthonormal directions."""

    seed: int = 0
    """Of random directions."""

    def describe(self) -> str:
        """Return the step in a few words."""
        return f"{self.step}: {self.dim}, {self.method}"

    def needs(self) -> tuple[Covariate, ...]:
        """Return the covariates that it reads."""
        return ()


class ResidualizeStep(Config):
    """Subtract what covariates tell of every dimension by a linear model."""

    step: Literal["residualize"]
    """Name of the step."""

    covariates: tuple[Covariate, ...] = pydantic.Field(min_length=1)
    """What is regressed out, all at once."""

    age_knots: int = pydantic.Field(default=0, ge=0, le=10)
    """Knots of a natural cubic spline for age, 3 or more; 0: a line."""

    @pydantic.field_validator("age_knots")
    @classmethod
    def _enough(cls, value: int) -> int:
        if value in (1, 2):
            raise ValueError("a natural spline has 3 knots or more; 0 is a line")
        return value

    def describe(self) -> str:
        """Return the step in a few words."""
        spline = f" (age: {self.age_knots} knots)" if self.age_knots and "age" in self.covariates else ""
        return f"{self.step}: {', '.join(self.covariates)}{spline}"

    def needs(self) -> tuple[Covariate, ...]:
        """Return the covariates that it reads."""
        return self.covariates


VectorStep = ZscoreStep | HarmonizeStep | ProjectStep | ResidualizeStep
"""Steps that take vectors, in any order."""
Step = Annotated[AttentionStep | VectorStep, pydantic.Field(discriminator="step")]


class Impute(Config):
    """How missing covariates are filled in, by what training rows have; a field that is not given: not at all."""

    age: Literal["mean", "median"] | None = None
    """Years."""

    sex: Literal["most_frequent"] | None = None
    """One of the two."""

    mean_fd: Literal["mean", "median"] | None = None
    """Millimetres."""

    global_signal_flag: Literal["most_frequent"] | None = None
    """Whether the global signal was regressed out."""


def needed(steps: Iterable[Step]) -> tuple[Covariate, ...]:
    """Return the covariates that steps read, each once, in the order in which they are first read."""
    return tuple(dict.fromkeys(name for step in steps for name in step.needs()))


def part_attention(steps: Iterable[Step]) -> tuple[AttentionStep | None, tuple[VectorStep, ...]]:
    """Return the step that pools, None if there is none, and those that follow it.

    Raises
    ------
    ValueError
        If the step is not the first one, or a later step keeps or removes the effect of what the query is trained for.
    """
    listed = tuple(steps)
    first = listed[0] if listed and isinstance(listed[0], AttentionStep) else None
    rest: list[VectorStep] = []
    for step in listed[1:] if first else listed:
        if isinstance(step, AttentionStep):
            raise ValueError(f"step {step.describe()!r}: regions are pooled once, by the first step")
        rest.append(step)
    if first:
        check_target(rest, first.target.column)
    return first, tuple(rest)


def check_target(steps: Iterable[Step], target: str) -> None:
    """Refuse a target that the steps know of.

    ComBat that keeps the target's effect writes it into the vectors: a test row's sites are then told apart by labels
    that no probe may see (Nieto et al. 2024). Regressing the target out removes what is to be found.

    Raises
    ------
    ValueError
        Naming the step.
    """
    for step in steps:
        if target in step.needs():
            does = "keeps" if step.step == "harmonize" and target != SITE else "removes"
            raise ValueError(
                f"target {target!r} is a covariate of the step {step.describe()!r}, which {does} its effect; use a "
                "recipe without it"
            )
