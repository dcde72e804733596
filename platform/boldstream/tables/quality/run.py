"""`boldstream tables quality`: measure, write the page, log both to MLflow."""

from pathlib import Path

from boldstream.errors import OutputExistsError
from boldstream.refs import ReportRef
from boldstream.storage import publish_folder, sha256_of_folder
from boldstream.tables.find import find_embeddings
from boldstream.tables.quality.config import QualityConfig
from boldstream.tables.quality.measure import Quality, measure_quality
from boldstream.tables.quality.page import NUMBERS, write_page
from boldstream.tracking import job_run

PREFIX = "quality/"


def write_quality(config: QualityConfig) -> tuple[Quality, Path]:
    """Measure an embedding table without targets, and write a page; both go to an MLflow run as well.

    Raises
    ------
    ArtifactError
        If a version that is named is not there or not whole, or too few rows can be measured.
    OutputExistsError
        If the folder holds something else than an earlier page of this command.
    """
    version = find_embeddings(config.table, config.warehouse)
    folder = Path(config.output or f"quality-{version.label}").expanduser().resolve()
    if folder.exists() and not (folder / NUMBERS).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputExistsError(f"--output: {folder} exists and is no page of a table's quality; choose another folder")
    with job_run("quality", version.label, config) as run:
        quality = measure_quality(config)
        read = [one for one in (quality.against, quality.source, quality.version) if one is not None]
        for ref, rows in {one.ref: one.manifest.rows for one in read}.items():
            run.log_parent(ref, rows)  # the last is the one that the run's tags name
        run.log_metrics({f"{PREFIX}{name}": value for name, value in quality.values.items()})
        with publish_folder(folder) as draft:
            write_page(quality, draft)
            digest = sha256_of_folder(draft)
        run.log_file(folder, "quality")
        run.log_output(ReportRef((folder / "index.html").as_uri(), "1", digest))
    return quality, folder
