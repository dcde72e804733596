"""A small study that changes from night to night, and what a broken pipeline may make of its scans."""

import numpy as np
import yaml

from boldstream.errors import HeldError, IncompleteError, SourceError
from boldstream.nightly import NightlyConfig, run_nightly
from boldstream.nightly.nights import past_nights
from boldstream.table_registry import resolve_table_alias
from synthetic import ROIS, ingest_config, series, write_participants, write_scan, write_study

STRATEGY = {"id": "toy_v1", "window": {"length": 32, "stride": 14}, "keep_roi_latents": True}


class NightStudy:
    """Scans on disk with a configuration of every room; the table is called ``every-night``."""

    def __init__(self, root, model, n_scans, warehouse=None):
        self.root, self.subjects = root, [f"{i:02d}" for i in range(n_scans)]
        self.warehouse = warehouse or f"{root}/warehouse"
        write_study(root, self.subjects)
        self.write("strategy", STRATEGY)
        self.t_r = dict.fromkeys(self.subjects, 2.0)
        self._write_participants()
        ingest = ingest_config(root, max_removed=0.5, warehouse=self.warehouse, t_r=None, columns={"t_r": "t_r"})
        self.write("ingest", ingest.model_dump(mode="json"))
        self.embed(model)

    def write(self, name, values):
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    def embed(self, model):
        values = {"output": "every-night", "cohort": "study", "model": model, "warehouse": self.warehouse}
        self.write("embed", values | {"strategy": f"{self.root}/strategy.yaml"})

    def config(self, **values):
        known = {"ingest": f"{self.root}/ingest.yaml", "embed": f"{self.root}/embed.yaml", "page": f"{self.root}/page"}
        return NightlyConfig.model_validate(known | values)

    def _write_participants(self):
        write_participants(self.root, self.subjects)
        path = self.root / "participants.tsv"
        head, *rows = path.read_text().splitlines()
        found = [f"{row}\t{self.t_r[subject]}" for row, subject in zip(rows, self.subjects, strict=True)]
        path.write_text("\n".join([f"{head}\tt_r", *found]) + "\n")

    def add(self, subjects, spoil=None, t_r=2.0):
        self.t_r |= dict.fromkeys(subjects, t_r)
        self.subjects += [subject for subject in subjects if subject not in self.subjects]
        for subject in subjects:
            values = series(int(subject))
            write_scan(self.root / "scans", subject, values if spoil is None else spoil(values, int(subject)))
        self._write_participants()

    def remove(self, subjects):
        self.subjects = [subject for subject in self.subjects if subject not in subjects]
        for subject in subjects:
            (self.root / "scans" / f"sub-{subject}.csv").unlink()
        self._write_participants()

    def night(self, **values):
        """Run a night; return its outcome, the version made, the champion, its rows and what held it."""
        self.error = None
        try:
            run_nightly(self.config(**values))
        except (HeldError, IncompleteError, SourceError) as error:
            self.error = error
        found = past_nights(self.warehouse, "every-night")[-1]
        held_by = [check.name for check in found.checks if check.passed is False]
        return found.outcome, found.candidate, found.champion, found.rows, held_by

    @property
    def champion(self):
        return resolve_table_alias(f"file://{self.warehouse}/embeddings/every-night", "champion").version

    @property
    def page(self):
        return (self.root / "page" / "index.html").read_text()


def white_noise(values, seed):
    """What is left where a pipeline has lost the signal."""
    return np.random.default_rng(seed).normal(size=values.shape)


def scrambled(values, seed):
    """Regions in another order than their names."""
    return values[:, np.random.default_rng(7).permutation(len(ROIS))]


def with_nan(values, seed):
    """One value is missing."""
    spoilt = values.copy()
    spoilt[10, 3] = np.nan
    return spoilt


def cut_short(values, seed):
    """Fewer timepoints than a window."""
    return values[:20]
