"""The strategy: a named recipe in one file, of which the embed room reads one part and the adjust room the other."""

from typing import Any, Literal, Self

import pydantic

from boldstream.analysis.steps import Step, part_attention
from boldstream.config import Config
from boldstream.encoders.windows import WindowSpec


class Strategy(Config):
    """A named embedding recipe (a file in configs/strategies/)."""

    id: str
    """Name of the recipe, written into every row."""

    window: WindowSpec
    """How windows are cut out of a scan."""

    pool: Literal["mean"] = "mean"
    """How tokens become one vector: their mean over regions, patches and windows."""

    keep_roi_latents: bool = False
    """Also keep the mean over patches and windows of every region, (n_rois, n_dims)."""

    adjust: tuple[Step, ...] = ()
    """What the adjust room does with the vectors, in this order; fitted on training subjects only."""

    @pydantic.model_validator(mode="after")
    def _poolable(self) -> Self:
        attention, _ = part_attention(self.adjust)
        if attention and not self.keep_roi_latents:
            raise ValueError(f"adjust: step {attention.step!r} pools regions' latents; set keep_roi_latents: true")
        return self

    def embedding(self) -> dict[str, Any]:
        """Return what vectors are made by, in JSON's types: all but the steps of the adjust room."""
        return self.model_dump(mode="json", exclude={"adjust"})

    def pending(self) -> list[str]:
        """Return the steps that the embed room leaves to the adjust room, in their order."""
        return [step.describe() for step in self.adjust]
