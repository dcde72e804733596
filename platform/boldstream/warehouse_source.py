"""How MLflow is told of a table in a warehouse: as a dataset's source."""

from typing import Any


def source_of(uri: str) -> Any:
    """Return an MLflow dataset source that names a warehouse URI."""
    from mlflow.data.dataset_source import DatasetSource

    class WarehouseSource(DatasetSource):
        """A table of a boldstream warehouse."""

        @staticmethod
        def _get_source_type() -> str:
            return "boldstream"

        def load(self) -> str:
            return uri

        @staticmethod
        def _can_resolve(raw_source: Any) -> bool:
            return False

        @classmethod
        def _resolve(cls, raw_source: Any) -> "WarehouseSource":
            raise NotImplementedError("sources are made from references, not resolved")

        def to_dict(self) -> dict[str, Any]:
            return {"uri": uri}

        @classmethod
        def from_dict(cls, source_dict: dict[str, Any]) -> "WarehouseSource":
            raise NotImplementedError("sources are made from references, not resolved")

    return WarehouseSource()
