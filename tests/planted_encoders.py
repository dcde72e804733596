"""Encoders that are planted into a job's workers, for faults and speeds that no real encoder has on demand."""

import os
import time

DEADLY = 123456.0


class Planted:
    """An encoder with another's everything."""

    def __init__(self, encoder):
        self.encoder = encoder

    def __getattr__(self, name):
        return getattr(self.encoder, name)


class Killer(Planted):
    """Ends its process, as a fault in native code does, where a window holds the deadly value."""

    def encode(self, windows):
        if (windows == DEADLY).any():
            os._exit(1)
        return self.encoder.encode(windows)


class Sleeper(Planted):
    """Takes the time a window that its model's provenance tells (``seconds``), and leaves the host alone meanwhile."""

    def encode(self, windows):
        import torch

        if "seconds" not in self.encoder.provenance:
            return self.encoder.encode(windows)
        time.sleep(self.encoder.provenance["seconds"] * len(windows))
        first = torch.from_numpy(windows[:, :1, :, None].copy())  # (W, 1, R, 1)
        return first.transpose(1, 2).expand(-1, -1, self.n_patches, self.embed_dim)


def plant(kind):
    """Return a hook for Ray's worker processes, after which every encoder that is loaded is wrapped in that kind."""

    def hook():
        from boldstream.encoders import interface

        load = interface.load_encoder
        interface.load_encoder = lambda *args, **kwargs: kind(load(*args, **kwargs))

    return hook
