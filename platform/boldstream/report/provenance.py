"""How the measured artifacts came to be: the cohort in numbers, the tables' recipes, the models behind them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.report.material import quarantine_reasons
from boldstream.report.people import COVARIATES, count_quality


@dataclass(frozen=True)
class ModelCard:
    """What the registry says of a model version.

    Attributes
    ----------
    pointer, digest : str
    registered : bool
        Whether this registry has the version; where it does not, the rest is None.
    steps : int or None
        Pretraining steps; 0 is an untrained model.
    cohort, cohort_digest, gradient, mlflow_run_id, git_sha, package_version : str or None
        What it was trained on, the positions it was built with, the run that made it, the code of that run.
    """

    pointer: str
    digest: str
    registered: bool
    steps: int | None = None
    cohort: str | None = None
    cohort_digest: str | None = None
    gradient: str | None = None
    mlflow_run_id: str | None = None
    git_sha: str | None = None
    package_version: str | None = None

    @property
    def training(self) -> str:
        """Its training in a few words."""
        if not self.registered:
            return "not in this MLflow registry"
        if self.steps is None:
            return "pretraining steps not recorded"
        return "untrained (0 steps)" if self.steps == 0 else f"{self.steps} pretraining steps"


@dataclass(frozen=True)
class TableFacts:
    """One embedding table in numbers.

    Attributes
    ----------
    name : str
        Its key in the report's configuration.
    model : ModelCard
    strategy : dict
        The recipe that its vectors were made by.
    status : dict of str to int
        Rows by status (``ok``, ``padded``).
    windows : tuple of int
        Fewest and most windows behind one vector.
    quarantined : int
    reasons : dict of str to int
    pending : list of str
        Steps of the recipe that nothing has applied yet.
    adjusted : str or None
        What the adjust room has done to the vectors, and whom it learnt from; None where they are as embedded.
    pooling : dict or None
        What the manifest tells of a query that pools regions; None where vectors are means.
    """

    name: str
    model: ModelCard
    strategy: dict[str, Any]
    status: dict[str, int]
    windows: tuple[int, int]
    quarantined: int
    reasons: dict[str, int]
    pending: list[str]
    adjusted: str | None
    pooling: dict[str, Any] | None


def model_card(pointer: str, digest: str) -> ModelCard:
    """Look a model version up in the registry; a version that is not there is said to be so, not guessed."""
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    name, _, version = pointer.removeprefix("models:/").rpartition("/")
    try:
        found = client.get_model_version(name, version)
        if found.tags.get("digest") != digest:
            return ModelCard(pointer, digest, registered=False)
        tags = client.get_run(found.run_id).data.tags
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ModelCard(pointer, digest, registered=False)
    steps = found.tags.get("trained_steps", "")
    return ModelCard(
        pointer,
        digest,
        registered=True,
        steps=int(steps) if steps.isdigit() else None,
        cohort=found.tags.get("cohort"),
        cohort_digest=found.tags.get("cohort_digest"),
        gradient=tags.get("parent.gradient"),
        mlflow_run_id=found.run_id,
        git_sha=tags.get("boldstream.git_sha"),
        package_version=tags.get("version.boldstream"),
    )


def table_facts(name: str, table: EmbeddingTable, rows: pd.DataFrame) -> TableFacts:
    """Describe an embedding table."""
    content = table.manifest.content
    return TableFacts(
        name=name,
        model=model_card(content["model"], content["model_digest"]),
        strategy=content["strategy"],
        status={str(status): int(n) for status, n in rows["status"].value_counts().items()},
        windows=(int(rows["n_windows"].min()), int(rows["n_windows"].max())),
        quarantined=int(content["quarantined"]),
        reasons=quarantine_reasons(table) if content["quarantined"] else {},
        pending=list(content["pending"]),
        adjusted=_adjusted(content),
        pooling=content.get("pooling"),
    )


def _adjusted(content: dict[str, Any]) -> str | None:
    if "applied" not in content:
        return None
    whom = f"{content['n_train']} vectors of {content['n_train_subjects']} subjects"
    return f"{'; '.join(content['applied'])} (learnt from {whom})"


def data_summary(cohort: Cohort, people: pd.DataFrame) -> dict[str, Any]:
    """Count what is in a cohort: scans, subjects, sites, repetition times, lengths, quality, missing covariates."""
    lengths = people["n_timepoints"]
    times = people["t_r"].sort_values().map(lambda t_r: "not known" if pd.isna(t_r) else f"{t_r:g}")
    return {
        "scans": len(people),
        "subjects": int(people["subject"].nunique()),
        "n_rois": len(cohort.roi_names),
        "n_timepoints": {"min": int(lengths.min()), "median": float(lengths.median()), "max": int(lengths.max())},
        "t_r_seconds": {str(t_r): int(n) for t_r, n in times.value_counts(sort=False).items()},
        "sites": {str(site): int(n) for site, n in people["site"].value_counts().items()},
        "missing": {name: int(people[name].isna().sum()) for name in COVARIATES},
        "scans_with_flagged_rois": int((people["bad_rois"].map(len) > 0).sum()),
        "quarantined": dict(Counter(cohort.manifest.content["quarantined"]).most_common()),
        "quality": count_quality(people),
    }


def trained_on(facts: Mapping[str, TableFacts], cohort: Cohort) -> list[str]:
    """Return the names of the tables whose model was pretrained on this very cohort."""
    return [
        name for name, table in facts.items() if table.model.steps and table.model.cohort_digest == cohort.ref.digest
    ]
