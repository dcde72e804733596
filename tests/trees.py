"""Small derivative trees, written as fMRIPrep, XCP-D, UK Biobank, PCP and CIFTI tools name and fill their files."""

import gzip
import json

import nibabel as nib
import numpy as np
import pandas as pd

from synthetic import series

ROIS = tuple(f"R{i + 1}" for i in range(8))
SHAPE = (8, 8, 4)
AFFINE = np.array([[4.0, 0, 0, -16], [0, 4, 0, -16], [0, 0, 4, -8], [0, 0, 0, 1]])
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def label_data(n_rois=8):
    """Regions of 2 x 2 x 2 voxels, labelled 1, 2, …, with background between them: int32, `SHAPE`."""
    data = np.zeros(SHAPE, dtype=np.int32)
    corners = [(x, y, z) for z in (0, 2) for y in (0, 2, 5) for x in (0, 2, 5)]
    for label, (x, y, z) in enumerate(corners[:n_rois], start=1):
        data[x : x + 2, y : y + 2, z : z + 2] = label
    return data


def write_label_volume(path, n_rois=8):
    """Write `label_data` as an image."""
    nib.save(nib.Nifti1Image(label_data(n_rois), AFFINE), path)


def painted(values):
    """Return a 4-D image whose regions have the means `values` (n_timepoints, n_rois): (*SHAPE, T) float32."""
    labels = label_data(values.shape[1])
    rng = np.random.default_rng(0)
    data = rng.normal(50, 5, size=(*SHAPE, len(values))).astype(np.float32)
    for roi in range(values.shape[1]):
        voxels = rng.normal(size=(8, 1))
        data[labels == roi + 1] = values[:, roi] + voxels - voxels.mean()
    return data


def save_bold(path, values, t_r):
    """Write `painted` values as a volume, the repetition time in its header."""
    image = nib.Nifti1Image(painted(values), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((4, 4, 4, t_r))
    nib.save(image, path)


def confounds(n_timepoints, seed=0, *, n_spikes=1):
    """Return the columns of fMRIPrep's confounds table that cleaning asks for."""
    rng = np.random.default_rng(seed)
    table = {}
    for name in (*MOTION, "csf", "white_matter", "global_signal"):
        values = rng.normal(size=n_timepoints) * (0.05 if name in MOTION else 10)
        step = np.diff(values, prepend=np.nan)
        table |= {name: values, f"{name}_derivative1": step}
        table |= {f"{name}_power2": values**2, f"{name}_derivative1_power2": step**2}
    fd = rng.uniform(0.05, 0.3, size=n_timepoints)
    fd[1 + rng.permutation(n_timepoints - 1)[:n_spikes]] = 1.2
    table["framewise_displacement"] = np.where(np.arange(n_timepoints) == 0, np.nan, fd)
    table["dvars"] = np.where(np.arange(n_timepoints) == 0, np.nan, rng.normal(20, 1, size=n_timepoints))
    table["std_dvars"] = table["dvars"] / 20
    for i in range(2):
        phase = np.pi * (i + 1) * (2 * np.arange(n_timepoints) + 1) / (2 * n_timepoints)
        table[f"cosine{i:02d}"] = np.cos(phase)
        table[f"a_comp_cor_{i:02d}"] = rng.normal(size=n_timepoints)
    table["non_steady_state_outlier00"] = (np.arange(n_timepoints) == 0).astype(int)
    return pd.DataFrame(table)


def write_tsv(path, frame):
    """Write a table as BIDS wants it: tabs, ``n/a``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, sep="\t", index=False, na_rep="n/a")


def write_json(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def write_fmriprep(
    root, subjects, values=None, *, spaces=("MNI152NLin6Asym",), resolution="2", t_r=2.0, old=False, task="rest"
):
    """Write volumes, confounds and sidecars of subjects (seed: their position); return the series by subject."""
    written = {}
    for i, subject in enumerate(subjects):
        found = written[subject] = series(i) if values is None else values[subject]
        stem = root / f"sub-{subject}" / "func" / f"sub-{subject}_task-{task}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        for space in spaces:
            made = f"space-{space}_" + (f"res-{resolution}_" if resolution else "") + "desc-preproc_bold"
            save_bold(f"{stem}_{made}.nii.gz", found, t_r)
            write_json(stem.with_name(f"{stem.name}_{made}.json"), {"RepetitionTime": t_r, "SkullStripped": False})
        table = confounds(len(found), i)
        kind = "regressors" if old else "timeseries"
        write_tsv(stem.with_name(f"{stem.name}_desc-confounds_{kind}.tsv"), table)
        columns = {name: {"Method": "DCT" if "cosine" in name else "aCompCor"} for name in table if "_comp_" in name}
        write_json(stem.with_name(f"{stem.name}_desc-confounds_{kind}.json"), columns)
    return written


def write_xcpd(
    root, subjects, release="26", *, segmentation="Toy8", censored=False, cifti=False, run=None, uncovered=(), t_r=2.0
):
    """Write regional series, outliers, motion and quality control of a release: 0.6, 0.7.5 (to 0.12) or 26.

    The third and fourth timepoint are outliers: left out where `censored`, interpolated otherwise. Regions `uncovered`
    (by position) are n/a. Returns all timepoints' series by subject.
    """
    space = "fsLR" if cifti else "MNI152NLin2009cAsym"
    label = {
        "0.6": f"atlas-{segmentation}",
        "0.7.5": f"seg-{segmentation}_stat-mean",
        "26": f"atlas-{segmentation}_stat-mean",
    }[release]
    written = {}
    for i, subject in enumerate(subjects):
        found = written[subject] = series(i)
        outlier = np.isin(np.arange(len(found)), (2, 3))
        kept = found[~outlier] if censored else found
        frame = pd.DataFrame(kept, columns=list(ROIS))
        frame[[ROIS[at] for at in uncovered]] = np.nan
        folder = root / f"sub-{subject}" / "func"
        scan = f"sub-{subject}_task-rest" + (f"_run-{run}" if run else "")
        write_tsv(folder / f"{scan}_space-{space}_{label}_timeseries.tsv", frame)
        if cifti:
            den = "_den-91k" if release == "26" else ""
            stem = f"{scan}_space-{space}_{label.replace('_stat', den + '_stat')}_timeseries"
            save_ptseries(folder / f"{stem}.ptseries.nii", frame.to_numpy(np.float32), t_r)
        motion = confounds(len(found), i)[[*MOTION, "framewise_displacement"]]
        write_tsv(folder / f"{scan}_motion.tsv", motion)
        write_tsv(folder / f"{scan}_outliers.tsv", pd.DataFrame({"framewise_displacement": outlier.astype(int)}))
        qc = {"sub": subject, "task": "rest", "mean_fd": [0.1 + i / 100], "num_censored_volumes": [int(outlier.sum())]}
        old = release == "0.6"
        if old:
            qc = {"sub": subject, "task": "rest", "meanFD": [0.1 + i / 100], "nVolsRemoved": [int(outlier.sum())]}
        stem = f"{scan}_space-{space}_desc-linc_qc"
        pd.DataFrame(qc).to_csv(folder / f"{stem}.{'csv' if old else 'tsv'}", sep="," if old else "\t", index=False)
        write_json(folder / f"{scan}_space-{space}_desc-denoised_bold.json", {"RepetitionTime": t_r})
    return written


def write_ukb(root, subjects, n_timepoints=20, *, seed=0):
    """Write UK Biobank partials below ``time_series/``; return the series (T, 450) by folder name, subcortex first."""
    written = {}
    for i, subject in enumerate(subjects):
        values = written[subject] = series(seed + i, n_timepoints, 450)
        folder = root / "time_series" / subject
        folder.mkdir(parents=True)
        for name, part, names in (
            ("Tian_Subcortex_S3_3T", values[:, :50], ukb_names()[:50]),
            ("Schaefer17n400p", values[:, 50:], ukb_names()[50:]),
        ):
            (folder / f"fMRI.{name}.csv.gz").write_bytes(ukb_file(part, names))
    return written


def ukb_names():
    """Names for the 450 regions, subcortex first."""
    return (
        *(f"S{i}-{side}" for side in ("rh", "lh") for i in range(25)),
        *(f"17Networks_{side}_Net_{i}" for side in ("LH", "RH") for i in range(200)),
    )


def ukb_file(values, names):
    """Return a UK Biobank table: regions in rows, their names first, timepoints counted in the header."""
    frame = pd.DataFrame(values.T, columns=[f"timepoint_{t}" for t in range(len(values))])
    frame.insert(0, "label_name", list(names))
    return gzip.compress(frame.to_csv(index=False).encode())


def write_abide(root, subjects, atlas="cc200", n_rois=8):
    """Write PCP's .1D files and phenotypes; FILE_ID of the last subject is missing, as for 67 of the real ones."""
    file_ids = {subject: f"Pitt_{int(subject):07d}" for subject in subjects}
    written = {}
    root.mkdir(parents=True, exist_ok=True)
    for i, (subject, file_id) in enumerate(file_ids.items()):
        values = written[subject] = series(i, n_rois=n_rois)
        header = "\t".join(f"#{roi + 1}" for roi in range(n_rois))
        np.savetxt(root / f"{file_id}_rois_{atlas}.1D", values, fmt="%.6f", delimiter="\t", header=header, comments="")
    frame = pd.DataFrame({"SUB_ID": [int(subject) for subject in subjects], "SITE_ID": "PITT", "SEX": 1})
    frame["FILE_ID"] = [*list(file_ids.values())[:-1], "no_filename"]
    frame["AGE_AT_SCAN"] = [20.5 + i for i in range(len(subjects))]
    frame["func_mean_fd"] = [0.1 + i / 100 for i in range(len(subjects))]
    frame.to_csv(root / "phenotypic.csv", index=False)
    return written


def brain_models(n_rois=8):
    """Two vertices a region in the left cortex, and the last region a voxel pair in the right thalamus."""
    vertices = np.arange(2 * (n_rois - 1)) * 3
    surface = nib.cifti2.BrainModelAxis.from_surface(vertices, 3 * len(vertices), name="CortexLeft")
    mask = np.zeros(SHAPE, dtype=bool)
    mask[3, 3, 1:3] = True
    return surface + nib.cifti2.BrainModelAxis.from_mask(mask, name="thalamus_right", affine=AFFINE)


def save_dtseries(path, values, t_r):
    """Write a dense series whose regions (of `save_dlabel`) have the means `values`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dense = np.repeat(values, 2, axis=1) + np.tile([1.0, -1.0], values.shape[1])
    axes = (nib.cifti2.SeriesAxis(0, t_r, len(values), unit="second"), brain_models(values.shape[1]))
    nib.save(nib.Cifti2Image(dense.astype(np.float32), axes), path)


def save_dlabel(path, names=ROIS):
    """Write the labels that go with `save_dtseries`: two greyordinates a region, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {0: ("???", (0.0, 0.0, 0.0, 0.0))}
    table |= {i: (name, (i / len(names), 0.5, 0.5, 1.0)) for i, name in enumerate(names, start=1)}
    axes = (nib.cifti2.LabelAxis(["toy"], [table]), brain_models(len(names)))
    data = np.repeat(np.arange(1, len(names) + 1), 2)[None].astype(np.float32)
    nib.save(nib.Cifti2Image(data, axes), path)


def save_ptseries(path, values, t_r, names=ROIS):
    """Write a parcellated series."""
    path.parent.mkdir(parents=True, exist_ok=True)
    models = brain_models(len(names))
    parcels = [(name, models[2 * i : 2 * i + 2]) for i, name in enumerate(names)]
    axes = (
        nib.cifti2.SeriesAxis(0, t_r, len(values), unit="second"),
        nib.cifti2.ParcelsAxis.from_brain_models(parcels),
    )
    nib.save(nib.Cifti2Image(values, axes), path)


def write_cifti(root, subjects, *, t_r=0.8, desc=None):
    """Write dense and parcellated series of subjects and ``atlas.dlabel.nii``; return the series by subject."""
    written = {}
    save_dlabel(root / "atlas.dlabel.nii")
    for i, subject in enumerate(subjects):
        values = written[subject] = series(i)
        stem = root / f"sub-{subject}" / "func" / f"sub-{subject}_task-rest_space-fsLR_den-91k"
        made = f"_desc-{desc}" if desc else ""
        save_dtseries(stem.with_name(f"{stem.name}{made}_bold.dtseries.nii"), values, t_r)
        save_ptseries(stem.with_name(f"{stem.name}_atlas-Toy8_stat-mean_timeseries.ptseries.nii"), values, t_r)
    return written


def listing(root):
    """Return the relative paths below a folder, sorted, as a source's one listing gives them."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
