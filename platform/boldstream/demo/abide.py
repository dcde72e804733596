"""ABIDE: some hundred people with age, sex and diagnosis, so that the recipe can be judged, not just shown."""

import logging
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pandas as pd

from boldstream.demo.walk import Step, Walk
from boldstream.errors import SourceError, first_line

SHARED = Path("../shared/data")
PARTICIPANTS = "participants.tsv"
FOLDER = Path("boldstream-abide")
ATLAS = FOLDER / "cc200.nii.gz"
N_STEPS = 200
"""Of pretraining: five minutes instead of the half hour of configs/pretrain/abide_tiny.yaml."""

logger = logging.getLogger(__name__)


def bring_source(folder: Path) -> None:
    """Put ABIDE's series (C-PAC, unfiltered, CC200) and its participants table into ``source`` in a folder.

    From ``../shared`` where they are there, else from the Preprocessed Connectomes Project by nilearn, which needs the
    network and keeps what it has fetched. The atlas's image is linked beside them if it is at hand.

    Raises
    ------
    SourceError
        If they are not at hand and cannot be fetched.
    """
    source = folder / "source"
    if (SHARED / "atlas" / "CC200.nii.gz").is_file() and not ATLAS.exists():
        folder.mkdir(exist_ok=True)
        ATLAS.symlink_to((SHARED / "atlas" / "CC200.nii.gz").resolve())
    if (source / PARTICIPANTS).is_file():
        return
    unpack = SHARED / "abide" / "unpack.py"
    if unpack.is_file():
        subprocess.run([sys.executable, str(unpack), str(source)], check=True, stdout=subprocess.DEVNULL)
        return
    from nilearn.datasets import fetch_abide_pcp

    logger.info("demo: fetching ABIDE (C-PAC, CC200) with nilearn into %s", folder)
    try:
        found = fetch_abide_pcp(data_dir=str(folder), pipeline="cpac", derivatives=["rois_cc200"], verbose=0)
    except (OSError, URLError) as error:
        raise SourceError(
            f"ABIDE is not in {SHARED / 'abide'} and cannot be fetched ({first_line(error)}); it needs a network"
        ) from None
    source.symlink_to((folder / "ABIDE_pcp" / "cpac" / "nofilt_noglobal").resolve(), target_is_directory=True)
    participants_of(found["phenotypic"]).to_csv(source / PARTICIPANTS, sep="\t", index=False, na_rep="n/a")


def participants_of(phenotypes: pd.DataFrame) -> pd.DataFrame:
    """Return ABIDE's phenotype table as a participants table, with names in place of its codes.

    Parameters
    ----------
    phenotypes : DataFrame
        ``SUB_ID``, ``FILE_ID``, ``SITE_ID``, ``AGE_AT_SCAN`` (years), ``SEX`` (1 male, 2 female), ``DX_GROUP`` (1
        autism, 2 control), ``func_mean_fd`` (mm), as the Preprocessed Connectomes Project's legend tells.
    """
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{number:07d}" for number in phenotypes["SUB_ID"]],
            "file_id": phenotypes["FILE_ID"].to_numpy(),
            "site": phenotypes["SITE_ID"].to_numpy(),
            "age": phenotypes["AGE_AT_SCAN"].to_numpy(),
            "sex": phenotypes["SEX"].map({1: "M", 2: "F"}).to_numpy(),
            "diagnosis": phenotypes["DX_GROUP"].map({1: "ASD", 2: "TC"}).to_numpy(),
            "mean_fd": phenotypes["func_mean_fd"].to_numpy(),
        }
    )


def abide_steps() -> tuple[Step, ...]:
    """Return the rooms of the demo; with brain pictures where the atlas's image is at hand."""
    kept = ("--warehouse", str(FOLDER / "warehouse"))
    source = ("--source.root", str(FOLDER / "source"), "--participants", str(FOLDER / "source" / PARTICIPANTS))
    short = ("--steps", str(N_STEPS), "--optim.warmup-steps", "20")
    untrained = ("--steps", "0", "--alias", "untrained")
    twin = ("--output", "abide-tiny-untrained", "--model", "models:/brainjepa-abide-tiny@untrained")
    atlas = ("--atlas-file", str(ATLAS)) if ATLAS.exists() else ()
    report = ("--output", str(FOLDER / "report"), "--results", "abide-probes", "abide-transfer-young", *atlas)
    return (
        Step("Read ABIDE's scans into a cohort", "ingest", "abide", source + kept),
        Step("Compute the cohort's functional gradient", "gradients", "abide", kept),
        Step(f"Pretrain Brain-JEPA for {N_STEPS} steps", "pretrain", "abide_tiny", short + kept),
        Step("Register its untrained twin, to compare with", "pretrain", "abide_tiny", untrained + kept),
        Step("Embed both halves of every scan", "embed", "abide_tiny", kept),
        Step("The same with the untrained twin", "embed", "abide_tiny", twin + kept),
        Step("Finish the recipe: project, residualize age, sex, site and motion", "adjust", "abide_tiny", kept),
        Step("Probe age, sex and diagnosis beside all baselines", "probe", "abide", kept),
        Step("Carry the probes over to the youngest sites", "probe", "transfer_abide_young", kept),
        Step("Write the report", "report", "abide", report + kept),
    )


ABIDE = Walk(
    about="727 of ABIDE's scans: the recipe, and probes of three targets beside all baselines; a quarter of an hour",
    folder=FOLDER,
    scans="The scans are ABIDE-I's (Preprocessed Connectomes Project; non-commercial research use).",
    prepare=bring_source,
    steps=abide_steps,
)
