"""Measurements during training: does the target encoder still see the people, and what do probes make of it."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from boldstream.analysis.collapse import CollapseMetrics, TokenMoments, find_alarms, measure_collapse, phase_randomised
from boldstream.encoders.brainjepa.encoder import token_grid
from boldstream.encoders.windows import to_model_input
from boldstream.errors import TrainingError
from boldstream.parcellation.gradients import functional_connectivity
from boldstream.pretrain.loop import SHOWN
from boldstream.pretrain.networks import Networks
from boldstream.pretrain.task import ScanSet, TrainingTask
from boldstream.pretrain.windows import read_series

BATCH = 16
FEWEST = 8
"""Scans with a known target, on either side, that a probe needs."""
FEWEST_OF_A_CLASS = 2
"""Trained scans, for a penalty is chosen on some and by others."""

Measured = tuple[dict[str, float], list[str]]


class Monitor:
    """Measure collapse, and probes, at the steps that the configuration asks for.

    Parameters
    ----------
    task : TrainingTask
    networks : Networks
    measures : bool
        Whether this worker computes; the others are told.

    Attributes
    ----------
    connectivity : dict of array, shape (n_rois, n_rois)
        Mean correlation of regions in the monitored ``windows``, and in their ``latents``, when last measured.
    """

    def __init__(self, task: TrainingTask, networks: Networks, *, measures: bool) -> None:
        self.task, self.networks, self.measures = task, networks, measures
        spec = task.config.monitor
        self.every = task.steps_of(spec.every_epochs)
        self.probe_every = task.steps_of(spec.probe_every_epochs) if spec.probe_every_epochs else None
        self.counts_from = math.ceil(spec.from_epoch * task.plan.windows_per_epoch / task.config.optim.batch_size)
        self.connectivity: dict[str, NDArray[np.float64]] = {}
        self._windows: dict[int, NDArray[np.float32]] = {}

    def due(self, step: int) -> bool:
        """Say whether something is measured after a step."""
        return step == self.task.steps or step % self.every == 0 or self._probe_due(step)

    def _probe_due(self, step: int) -> bool:
        return bool(self.probe_every) and (step == self.task.steps or step % (self.probe_every or 1) == 0)

    def measure(self, step: int) -> Measured:
        """Return the numbers of a step, and the alarms that they raise.

        Collapse is measured on the middle window of each monitored scan; alarms count from ``from_epoch`` on.

        Raises
        ------
        TrainingError
            If tokens are not finite.
        """
        if not self.measures:
            return {}, []
        metrics, vectors = self._measure_collapse(step)
        numbers = metrics.metrics("collapse/")
        if self._probe_due(step):
            numbers |= self._probe(vectors)
        if step < self.counts_from:
            return numbers, []
        return numbers, find_alarms(metrics, self.task.config.monitor.thresholds)

    def _check(self, tokens: NDArray[np.float32], start: int, step: int) -> None:
        """Refuse tokens that are not finite, naming their scans."""
        bad = np.flatnonzero(~np.isfinite(tokens).all(axis=(1, 2))) + start
        if len(bad):
            scans = self.task.monitored
            keys = [scans.plan.scan_keys[scans.indices[i]] for i in bad]
            raise TrainingError(
                f"after step {step} the encoder gives values that are not finite for {len(keys)} monitored scan(s) "
                f"({', '.join(keys[:SHOWN])}); look at them, or lower optim.lr"
            )

    def _measure_collapse(self, step: int) -> tuple[CollapseMetrics, NDArray[np.float64]]:
        windows = self._read(self.task.monitored)
        rng = np.random.default_rng([self.task.config.seed, 2])
        moments, phase, latents = TokenMoments(), [], []
        for start in range(0, len(windows), BATCH):
            batch = windows[start : start + BATCH]
            tokens = self._encode(batch)
            self._check(tokens, start, step)
            moments.add(tokens)
            phase.append(self._vectors(phase_randomised(batch, rng)))
            latents.append(token_grid(torch.from_numpy(tokens), self.task.sizes).mean(dim=2).numpy())
        zero = self._vectors(np.zeros_like(windows[:1]))[0]
        self.connectivity = {"windows": mean_connectivity(windows), "latents": latent_connectivity(latents)}
        return measure_collapse(moments, np.concatenate(phase), zero), moments.vectors()

    def _probe(self, test: NDArray[np.float64]) -> dict[str, float]:
        """Fit age and sex on vectors of trained scans, score them on the monitored scans' vectors."""
        # here: few trainings probe, and the workers of the others need not pay for scikit-learn
        from boldstream.analysis.held_out import HeldOutKind, held_out

        train_set, test_set = self.task.probed, self.task.monitored
        windows = self._read(train_set)
        train = np.concatenate([self._vectors(windows[at : at + BATCH]) for at in range(0, len(windows), BATCH)])
        numbers: dict[str, float] = {}
        probes: tuple[tuple[str, HeldOutKind, tuple[NDArray[np.float64], NDArray[np.float64]]], ...] = (
            ("age", "continuous", (train_set.age, test_set.age)),
            ("sex", "binary", (train_set.sex_code, test_set.sex_code)),
        )
        for name, kind, targets in probes:
            known = [np.isfinite(values) for values in targets]
            y = [values[keep] for values, keep in zip(targets, known, strict=True)]
            if min(map(len, y)) < FEWEST or any(np.ptp(part) == 0 for part in y):
                continue
            if kind == "binary" and np.unique(y[0], return_counts=True)[1].min() < FEWEST_OF_A_CLASS:
                continue
            scores = held_out(train[known[0]], y[0], test[known[1]], y[1], kind)
            numbers |= {f"probe/{name}_{score}": value for score, value in scores.items()}
        return numbers

    def _read(self, scans: ScanSet) -> NDArray[np.float32]:
        """Return the scaled middle window of each scan, (n_scans, T, R); read once."""
        if id(scans) not in self._windows:
            series, length = read_series(scans.plan, scans.indices), scans.plan.length
            cut = []
            for scan in scans.indices.tolist():
                first = (len(series[scan]) - length) // 2
                cut.append(series[scan][first : first + length])
            self._windows[id(scans)] = self.task.scaler.transform(np.stack(cut))
        return self._windows[id(scans)]

    def _vectors(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the subject vectors of scaled windows, (W, D)."""
        return self._encode(windows).mean(axis=1, dtype=np.float64)

    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the target encoder's tokens of scaled windows, (W, N, D)."""
        encoder = self.networks.target_encoder
        encoder.eval()
        with torch.no_grad(), self.networks.autocast:
            tokens = encoder(to_model_input(windows).to(self.networks.device))
        encoder.train()
        return tokens.float().cpu().numpy()


def mean_connectivity(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean over windows (W, T, R) of the correlations of their regions, (R, R)."""
    total = np.zeros((windows.shape[2], windows.shape[2]))
    for window in windows:
        total += functional_connectivity(window)
    return total / len(windows)


def latent_connectivity(latents: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return how regions' latents vary together over scans and dimensions, (R, R) correlations.

    Parameters
    ----------
    latents : list of array, shape (n_scans, n_rois, n_dims)
        Each region's mean over its patches. What all scans have in common, the position, is subtracted.
    """
    values = np.concatenate(latents).astype(np.float64)
    centred = (values - values.mean(axis=0)).transpose(1, 0, 2).reshape(values.shape[1], -1)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return np.asarray(unit @ unit.T)
