"""What every worker of a training is told."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.scaling import Scaler
from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.plan import WindowPlan


@dataclass(frozen=True)
class ScanSet:
    """Scans that the monitor looks at, with what probes predict.

    Attributes
    ----------
    indices : array, shape (n_scans,), int64
        Their indices in `plan`.
    plan : WindowPlan
    age : array, shape (n_scans,), float64
        In years, NaN where unknown.
    sex_code : array, shape (n_scans,), float64
        0 for female, 1 for male, NaN where unknown.
    """

    plan: WindowPlan
    indices: NDArray[np.int64]
    age: NDArray[np.float64]
    sex_code: NDArray[np.float64]


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a worker needs beside the windows.

    Attributes
    ----------
    config : PretrainConfig
    steps : int
        Optimizer steps of the whole training.
    sizes : BrainJEPAConfig
    atlas : str
    roi_names : tuple of str
    gradient : array, shape (n_rois, gradient_dims), float32
    scaler : Scaler
        Fitted on the trained scans.
    plan : WindowPlan
        Of the trained scans.
    monitored : ScanSet
        Scans that collapse is measured on and probes are tested on.
    probed : ScanSet
        Trained scans that probes are fitted on.
    held_out : bool
        Whether the monitored scans are held out of training.
    provenance : dict
        What the model folder says of its origin.
    run_id, tracking_uri : str
        The MLflow run, and where it is kept.
    """

    config: PretrainConfig
    steps: int
    sizes: BrainJEPAConfig
    atlas: str
    roi_names: tuple[str, ...]
    gradient: NDArray[np.float32]
    scaler: Scaler
    plan: WindowPlan
    monitored: ScanSet
    probed: ScanSet
    held_out: bool
    provenance: dict[str, Any]
    run_id: str
    tracking_uri: str

    def steps_of(self, epochs: float) -> int:
        """Return the optimizer steps nearest to some epochs, at least one."""
        return max(1, round(epochs * self.plan.windows_per_epoch / self.config.optim.batch_size))
