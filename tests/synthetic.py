"""Small studies that the tests make for themselves."""

import numpy as np

from boldstream.ingest import IngestConfig

N_ROIS = 8
ROIS = tuple(f"R{i + 1}" for i in range(N_ROIS))


def series(seed, n_timepoints=60, n_rois=N_ROIS, offset=100.0):
    """Three drifting networks that every region shares in, plus noise: (n_timepoints, n_rois) float32."""
    rng = np.random.default_rng(seed)
    drive = rng.normal(size=(n_timepoints, 3))
    for t in range(1, n_timepoints):
        drive[t] += 0.7 * drive[t - 1]
    mixing = np.random.default_rng(0).normal(size=(3, n_rois))
    noisy = drive @ mixing + 0.5 * rng.normal(size=(n_timepoints, n_rois))
    return (noisy + offset + seed % 7).astype(np.float32)


def write_scan(folder, subject, values):
    """Write one scan as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / f"sub-{subject}.csv", values, fmt="%.5f", delimiter=",")


def write_study(root, subjects, **kinds):
    """Write scans and their participants table below `root`."""
    for i, subject in enumerate(subjects):
        write_scan(root / "scans", subject, series(i, **kinds))
    write_participants(root, subjects)
    (root / "rois.txt").write_text("\n".join(ROIS) + "\n")


def write_participants(root, subjects):
    """Write a participants table with all known columns and two phenotypes."""
    lines = ["participant_id\tsite\tage\tsex\tmean_fd\tiq\tdiagnosis"]
    for i, subject in enumerate(subjects):
        lines.append(f"sub-{subject}\tsite{i % 2}\t{20 + i}\t{'MF'[i % 2]}\t0.1{i}\t{100 + i}\t{('asd', 'n/a')[i % 2]}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")


def ingest_config(root, **values):
    """Return the configuration that reads the study below `root`."""
    known = {
        "output": "study",
        "source": {"root": str(root / "scans"), "files": "sub-{subject}.csv"},
        "atlas": "toy",
        "atlas_labels": str(root / "rois.txt"),
        "participants": str(root / "participants.tsv"),
        "t_r": 2.0,
        "warehouse": str(root / "warehouse"),
        "shard_size": 3,
    }
    return IngestConfig.model_validate(known | values)
