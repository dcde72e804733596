"""What a probe is told to transfer: in whom to learn, and to whom to apply it unchanged."""

from typing import Self

import pydantic

from boldstream.config import Config
from boldstream.refs import ArtifactName


class Condition(Config):
    """Scans whose value in a column is one of some, or within a range."""

    column: str
    """Column of the tables."""

    values: tuple[str, ...] = ()
    """Any of these."""

    low: float | None = None
    """At least this number."""

    high: float | None = None
    """At most this number."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.values) == (self.low is not None or self.high is not None):
            raise ValueError(f"a condition on {self.column!r} needs values, or low and high, not both")
        return self

    def describe(self) -> str:
        """Return it in words."""
        if self.values:
            return f"{self.column} {' or '.join(self.values)}"
        parts = [f"at least {self.low:g}"] if self.low is not None else []
        parts += [f"at most {self.high:g}"] if self.high is not None else []
        return f"{self.column} {' and '.join(parts)}"


class TransferSpec(Config):
    """Learn in a source cohort, apply unchanged to one that was not seen; without target and tables, no transfer."""

    target: tuple[Condition, ...] = ()
    """Whom to apply to: scans that fulfil all of these."""

    source: tuple[Condition, ...] = ()
    """Whom to learn from: scans that fulfil all of these; none: all that are not the target's."""

    sources: tuple[dict[ArtifactName, str], ...] | None = pydantic.Field(default=None, min_length=1)
    """Tables of further cohorts to learn from, each under the names of `tables`. Only a YAML file can list them."""

    tables: dict[ArtifactName, str] = pydantic.Field(default={})
    """Tables of the unseen cohort, under the names of `tables`, of the same models; none: it is in the same tables."""

    other_people: bool = False
    """Subjects of two cohorts that have the same name are different people; by default that is refused."""

    @property
    def is_asked(self) -> bool:
        """Whether anything is to be transferred."""
        return bool(self.target or self.tables)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that conditions look at."""
        return tuple(dict.fromkeys(one.column for one in (*self.target, *self.source)))

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.other_people and not self.tables:
            raise ValueError("other_people: both sides are of the same tables, where one name is one person")
        if self.sources and not self.tables:
            raise ValueError("sources: learnt from several cohorts, what for? Name the unseen cohort's tables (tables)")
        if self.source and not self.is_asked:
            raise ValueError("source: says whom to learn from, and nothing whom to apply it to; name target or tables")
        return self
