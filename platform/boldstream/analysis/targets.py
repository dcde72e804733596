"""A target as a configuration or a strategy spells it: a column, and whether it is numbers or two classes."""

from typing import Any, Literal, Self

import pydantic

from boldstream.config import Config


class TargetSpec(Config):
    """A phenotype to predict; a plain text is the name of its column."""

    column: str
    """Column of the tables: of the participants table, or of the cohort itself (age, sex, site, mean_fd)."""

    kind: Literal["auto", "continuous", "binary"] = "auto"
    """Numbers or two classes; auto: two different values are classes, more numbers are numbers."""

    transform: Literal["none", "log"] = "none"
    """Of numbers: as they are, or their natural logarithm."""

    classes: tuple[str, str] | None = None
    """The two classes, the second being the one that is looked for; scans of others are left out. None: both values."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.classes is not None and (self.kind == "continuous" or len(set(self.classes)) < 2):
            raise ValueError(f"classes are two different values of a binary target, got {list(self.classes)}")
        if self.transform == "log" and (self.kind == "binary" or self.classes is not None):
            raise ValueError("transform: log is for numbers, not for classes")
        return self

    @property
    def name(self) -> str:
        """Name in results: the column's, with its transform."""
        return self.column if self.transform == "none" else f"{self.transform}_{self.column}"
