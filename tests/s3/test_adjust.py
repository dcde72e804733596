"""The adjust room with table, cohort and adjustment on S3; it needs no Ray, so the room runs here."""

import pytest

from adjustable import STRATEGY, make_cohort, make_table, rows_of
from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.artifacts.adjustment import open_adjustment
from boldstream.artifacts.embeddings import open_table
from boldstream.storage import Warehouse

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = [
    pytest.mark.s3,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]


def test_adjusted_table__is_made_on_s3_and_again_from_the_stored_adjustment(s3, tracking, tmp_path, monkeypatch):
    monkeypatch.setenv("BOLDSTREAM_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    warehouse = Warehouse.at(f"{s3}/adjusting")
    cohort, _ = make_cohort(warehouse, range(30))
    make_table(warehouse, rows_of(range(30)), cohort)
    strategy = tmp_path / "toy_adjusted_v1.yaml"
    strategy.write_text(STRATEGY)
    known = {"output": "adjusted", "table": "toy", "warehouse": warehouse.uri}
    first = adjust_table(AdjustConfig(**known, strategy=str(strategy), measured_rows=0))
    assert first.uri == f"{s3}/adjusting/embeddings/adjusted"
    before = open_table(first.pointer, "").vectors()
    make_table(warehouse, rows_of(range(33)), cohort)
    stored = open_adjustment("adjusted", warehouse.uri)
    assert stored.ref.uri == f"{s3}/adjusting/adjustments/adjusted"
    second = adjust_table(AdjustConfig(**known, adjustment=stored.ref.pointer))
    assert (open_table(second.pointer, "").vectors()[:30] == before).all()
    warehouse.catalog.close()
