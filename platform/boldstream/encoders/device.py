"""The way of tensors between host and GPU, beside the GPU's work instead of in its way."""

from dataclasses import dataclass

import torch
from torch import Tensor


class Upload:
    """Copies tensors to a device; to a GPU through pinned memory and on a stream of its own.

    The copy of one batch runs while the GPU computes the batch before it, and the host goes on at once.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, values: Tensor) -> Tensor:
        """Return a CPU tensor on the device; what is computed with it next waits for the copy."""
        if self.stream is None:
            return values.to(self.device)
        with torch.cuda.stream(self.stream):
            there = values.pin_memory().to(self.device, non_blocking=True)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self.stream)
        # its memory must not be given to the next copy while the computation still reads it
        there.record_stream(now)
        return there


@dataclass(frozen=True)
class Download:
    """A tensor on its way from a GPU to the host.

    Attributes
    ----------
    values : tensor
        On the host; not to be read before `wait` has returned it.
    arrived : torch.cuda.Event or None
        None where the tensor was on the host already.
    """

    values: Tensor
    arrived: "torch.cuda.Event | None" = None

    @classmethod
    def start(cls, values: Tensor) -> "Download":
        """Send a tensor on its way, behind the work that it comes from."""
        if values.device.type != "cuda":
            return cls(values)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))
        return cls(host, arrived)

    def wait(self) -> Tensor:
        """Return the tensor once it is there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values
