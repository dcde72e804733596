"""MLflow's model registry: every checkpoint is a registered model version, fetched only as it was registered."""

import re
from collections.abc import Mapping
from pathlib import Path

from boldstream.errors import ModelError
from boldstream.refs import ModelRef
from boldstream.storage import sha256_of_folder
from boldstream.tracking import JobRun, settled

MODEL_POINTER = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")
TABLE_KIND = "embedding-table"
TABLE_PREFIX = "table."
"""Registered embedding tables are called ``table.<name>``: no model is, for names of models hold no dot."""


def register_model(
    folder: Path,
    *,
    name: str,
    run_identity: str,
    run: JobRun,
    tags: Mapping[str, str],
    params: Mapping[str, str],
) -> ModelRef:
    """Store a model folder and register it as the next version of `name`.

    `run_identity` is the hash of what determines the model; `find_model` finds it again. The version's digest is
    the sha256 over all files of the folder.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    digest = sha256_of_folder(folder)
    logged = mlflow.initialize_logged_model(
        name=name, source_run_id=run.run_id, model_type="brain-encoder", params=dict(params), tags=dict(tags)
    )
    client.log_model_artifacts(logged.model_id, str(folder))
    mlflow.finalize_logged_model(logged.model_id, "READY")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run.run_id,
        model_id=logged.model_id,
        tags={**tags, "digest": digest, "run_identity": run_identity},
    )
    return ModelRef(f"models:/{name}", str(version.version), digest)


def find_model(name: str, run_identity: str) -> ModelRef | None:
    """Return the version of a registered model that a run of this identity has made, None if there is none."""
    import mlflow

    found = mlflow.MlflowClient().search_model_versions(f"name = '{name}' and tags.run_identity = '{run_identity}'")
    newest = max(found, key=lambda version: int(version.version), default=None)
    return ModelRef(f"models:/{name}", str(newest.version), newest.tags["digest"]) if newest else None


def trained_as(ref: ModelRef) -> tuple[dict[str, str], dict[str, float]]:
    """Return the tags of a model version, and the last numbers of the run that made it; none where the run is gone.

    Raises
    ------
    ModelError
        If the registry's version is not the one that the reference means.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    if (found := resolve_model(ref.pointer)).digest != ref.digest:
        raise ModelError(
            f"model: {ref.pointer} has sha256 {found.digest[:12]} in the registry at {mlflow.get_tracking_uri()}, not "
            f"{ref.digest[:12]}; set MLFLOW_TRACKING_URI to the registry that has it"
        )
    client = mlflow.MlflowClient()
    version = client.get_model_version(ref.uri.removeprefix("models:/"), ref.version)
    try:
        return dict(version.tags), dict(client.get_run(version.run_id).data.metrics)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return dict(version.tags), {}


def set_alias(ref: ModelRef, alias: str) -> None:
    """Let an alias of the registered model mean this version."""
    import mlflow

    settled(mlflow.MlflowClient().set_registered_model_alias, ref.uri.removeprefix("models:/"), alias, ref.version)


def resolve_model(pointer: str) -> ModelRef:
    """Turn ``models:/name/3`` or ``models:/name@alias`` into the immutable version that it means now.

    Raises
    ------
    ModelError
        If the pointer has another form, or the registry has no such model, version or alias.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    match = MODEL_POINTER.fullmatch(pointer)
    if match is None:
        raise ModelError(f"model: {pointer!r} is no model version; write models:/name/3 or models:/name@champion")
    client = mlflow.MlflowClient()
    try:
        if match["version"]:
            found = client.get_model_version(match["name"], match["version"])
        else:
            found = client.get_model_version_by_alias(match["name"], match["alias"])
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        names = sorted(model.name for model in client.search_registered_models())
        known = ", ".join(name for name in names if not name.startswith(TABLE_PREFIX)) or "none"
        raise ModelError(
            f"model: {pointer!r} is not in the registry at {mlflow.get_tracking_uri()} (models there: {known}); "
            "set MLFLOW_TRACKING_URI to the registry that has it, or run jobs/pretrain.py"
        ) from None
    if found.tags.get("kind") == TABLE_KIND:
        raise ModelError(f"model: {pointer!r} is an embedding table, not an encoder; name the model that made it")
    if "digest" not in found.tags:
        raise ModelError(f"model: {pointer!r} was not registered by boldstream (its version has no digest tag)")
    return ModelRef(f"models:/{match['name']}", str(found.version), found.tags["digest"])


def download_model(ref: ModelRef, folder: Path) -> Path:
    """Fetch the files of a model version into a folder and check them against its digest.

    Raises
    ------
    ModelError
        If the files cannot be fetched, or are not those that were registered.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        target = Path(mlflow.artifacts.download_artifacts(ref.pointer, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise ModelError(
            f"model: the files of {ref.pointer} cannot be fetched from the artifact store ({error}); the registry at "
            f"{mlflow.get_tracking_uri()} knows the version, but not its files"
        ) from None
    # MLflow adds a file of its own when it serves a registered version; it is no part of the model.
    (target / "registered_model_meta").unlink(missing_ok=True)
    if (found := sha256_of_folder(target)) != ref.digest:
        raise ModelError(
            f"model: the files of {ref.pointer} have sha256 {found[:12]} instead of the registered "
            f"{ref.digest[:12]}; the artifact store was changed behind the registry"
        )
    return target
