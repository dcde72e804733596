"""The note in a training's folder: whose it is, so that the same command goes on and another one does not."""

import json
from typing import Any

from boldstream.artifacts.settings import differing_keys
from boldstream.errors import TrainingError
from boldstream.pretrain.config import PretrainConfig
from boldstream.storage import Warehouse, absolute_uri, exists, publish_bytes, read_bytes, remove_files

NOTE = "training.json"


class TrainingFolder:
    """Where a training keeps its checkpoints until its model is registered.

    Parameters
    ----------
    config : PretrainConfig
    identity : dict
        What determines the model: configuration, digests of cohort and gradient.
    """

    def __init__(self, config: PretrainConfig, identity: dict[str, Any]) -> None:
        root = config.checkpoint.storage or Warehouse.at(config.warehouse).location("training", "")
        self.uri = f"{absolute_uri(root)}/{config.output}"
        self.config, self.identity = config, identity

    def resume(self) -> str | None:
        """Return the MLflow run of an unfinished training of the same identity, None if there is none.

        Raises
        ------
        TrainingError
            If an unfinished training has other settings; the message names them. Not with ``fresh``: then it is
            thrown away.
        """
        if self.config.fresh:
            remove_files(self.uri)
        if not exists(f"{self.uri}/{NOTE}"):
            return None
        note = json.loads(read_bytes(f"{self.uri}/{NOTE}"))
        if note["model"] and note["identity"] != self.identity:
            remove_files(self.uri)
            return None
        if differing := differing_keys(note["identity"], self.identity):
            raise TrainingError(
                f"an unfinished training of {self.config.output!r} in {self.uri} has other settings "
                f"({'; '.join(differing)}); go on with its settings, choose another output, or throw it away with "
                "--fresh"
            )
        return str(note["mlflow_run_id"])

    def begin(self, run_id: str) -> None:
        """Write the note; refuses storage that cannot be written to before anything is computed.

        Raises
        ------
        StorageError
        """
        self._write(run_id, None)

    def finish(self, run_id: str, model: str) -> None:
        """Note the registered model: the next training of this output may throw the checkpoints away."""
        self._write(run_id, model)

    def _write(self, run_id: str, model: str | None) -> None:
        note = {"identity": self.identity, "mlflow_run_id": run_id, "model": model}
        publish_bytes(f"{self.uri}/{NOTE}", json.dumps(note, indent=1).encode())
