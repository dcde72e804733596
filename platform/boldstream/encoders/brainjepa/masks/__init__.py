"""Context and targets of Brain-JEPA's pretraining (paper, Sec. 3.2), vectorised over the batch.

A window is a grid of regions x time patches. In every scan

=================  =====================  =========================
                   observed patches       unobserved patches
=================  =====================  =========================
observed regions   **context**            Cross-Time targets
other regions      Cross-ROI targets      Double-Cross targets
=================  =====================  =========================

A batch is one tensor, so its scans have equally many context tokens and equally many targets. What depends on what:

- **sizes** (how many regions and patches each block has) follow from (seed, optimizer step): the same on every
  worker and for every micro-batch of a step;
- **places** (which regions, which patches) follow from (seed, epoch, scan key, window), folded into one int64 a
  window, by a counter-based generator: no state, so neither the worker, nor the other scans of the batch, nor
  their order has a part in it, and nothing needs to be saved to resume.

With ``policy: paper`` a scan's mask is thus a function of its own key and the step. With ``policy: reference`` the
drawn blocks are, but what is kept of them is not: the batch's smallest scan decides where all are cut off.
"""

from boldstream.encoders.brainjepa.masks.layout import KINDS, Masks
from boldstream.encoders.brainjepa.masks.sampler import sample_masks

__all__ = ["KINDS", "Masks", "sample_masks"]
