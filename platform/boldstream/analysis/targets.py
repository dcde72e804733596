"""A target as a configuration or a strategy spells it: a column, and whether it is numbers or classes."""

from typing import Any, Literal, Self

import pydantic

from boldstream.config import Config


class TargetSpec(Config):
    """A phenotype to predict; a plain text is the name of its column."""

    column: str
    """Column of the tables: of the participants table, or of the cohort itself (age, sex, site, mean_fd)."""

    kind: Literal["auto", "continuous", "binary", "multiclass"] = "auto"
    """Numbers, two classes, or more; auto: two different values and text are classes, more numbers are numbers."""

    transform: Literal["none", "log"] = "none"
    """Of numbers: as they are, or their natural logarithm."""

    classes: tuple[str, ...] | None = None
    """The classes, of two the second being the one that is looked for; scans of others are left out. None: all."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.classes is not None:
            n, several = len(self.classes), len(set(self.classes)) == len(self.classes)
            fits = {"auto": n >= 2, "binary": n == 2, "multiclass": n >= 3, "continuous": False}
            if not several or not fits[self.kind]:
                raise ValueError(
                    "classes are two different values of a binary target, or three and more of a multiclass one, got "
                    f"{list(self.classes)} and kind: {self.kind}"
                )
        if self.transform == "log" and (self.kind in ("binary", "multiclass") or self.classes is not None):
            raise ValueError("transform: log is for numbers, not for classes")
        return self

    @property
    def name(self) -> str:
        """Name in results: the column's, with its transform."""
        return self.column if self.transform == "none" else f"{self.transform}_{self.column}"
