"""The adjust room on small Iceberg tables, with a real MLflow store and no Ray."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adjustable import EMBEDDED, SPLIT, STRATEGY, make_cohort, make_table, person, rows_of
from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.adjust.apply import read_file
from boldstream.adjust.fit import restore, training_matrix
from boldstream.adjust.rows import find_split, read_rows
from boldstream.analysis.adjustment import Adjustment
from boldstream.artifacts import folders
from boldstream.artifacts.adjustment import open_adjustment
from boldstream.artifacts.embeddings import embedding_tables, open_table
from boldstream.artifacts.folders import folder_versions
from boldstream.errors import AdjustmentError, ConfigError, EmbeddingsError, OutputExistsError
from boldstream.registry import TABLE_PREFIX
from boldstream.storage import Warehouse, local_path, publish_bytes
from boldstream.strategy import Strategy

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = [
    pytest.mark.usefixtures("tracking"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
N = 60


class Place:
    """A warehouse with a cohort, its table, and the strategy's file."""

    def __init__(self, root):
        self.root = root
        self.warehouse = Warehouse.at(str(root / "w"))
        self.cohort, self.held_out = make_cohort(self.warehouse, range(N))
        self.write(STRATEGY)

    def write(self, text):
        self.strategy = self.root / "toy_adjusted_v1.yaml"
        self.strategy.write_text(text)

    def table(self, people=range(N), runs=1, cohort=None, **changed):
        return make_table(self.warehouse, rows_of(people, runs, **changed), cohort or self.cohort)

    def config(self, **values):
        known = {"output": "adjusted", "table": "toy", "strategy": str(self.strategy), "measured_rows": 0}
        if "adjustment" in values:
            known = {"output": "adjusted", "table": "toy"}
        return AdjustConfig(**known | values, warehouse=self.warehouse.uri)

    def adjust(self, **values):
        return adjust_table(self.config(**values))

    def open(self, name="adjusted"):
        return open_table(name, self.warehouse.uri)

    def quarantine(self, name="adjusted"):
        columns = ["scan_key", "room", "reason", "message"]
        return embedding_tables(self.warehouse, name)[1].column(columns).sort_by("scan_key").to_pylist()

    def versions(self, name="adjusted"):
        return folder_versions(self.warehouse.location("adjustments", name))


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    yield found
    found.warehouse.catalog.close()


def frame(rows):
    names = ("age", "sex", "site", "mean_fd", "global_signal_flag")
    return {name: np.array([row.get(name) for row in rows], dtype=object) for name in names}


def last_run():
    return mlflow.search_runs(experiment_names=["boldstream"], order_by=["start_time DESC"], max_results=1).iloc[0]


def test_table__is_what_the_steps_make_of_training_subjects(place):
    """The same by the estimator itself, fitted on the cohort's training subjects, in memory."""
    source = place.table(runs=2)
    ref = place.adjust()
    rows = sorted(rows_of(range(N), 2), key=lambda row: row["row_key"])
    train = [row for row in rows if row["subject"] not in place.held_out]
    assert 0 < len(train) < len(rows)
    by_hand = Adjustment(Strategy.from_yaml(place.strategy).adjust)
    by_hand.fit(np.stack([row["embedding"] for row in train]), covariates=frame(train))
    expected = by_hand.transform(np.stack([row["embedding"] for row in rows]), covariates=frame(rows))
    table = place.open()
    np.testing.assert_allclose(table.vectors(), expected, atol=1e-4 * np.abs(expected).max())
    found = table.rows()
    assert found["row_key"].tolist() == [row["row_key"] for row in rows]
    assert found["scan_digest"].tolist() == [row["scan_digest"] for row in rows]
    assert found["source_vector_sha256"].tolist() == [row["vector_sha256"] for row in rows]
    assert set(found["strategy_id"]) == {"toy_adjusted_v1"}
    assert table.ref == ref
    roles = {parent.role: parent for parent in table.manifest.parents}
    assert (roles["table"].uri, roles["table"].version) == (source.uri, source.version)
    assert set(found["adjustment_digest"]) == {roles["adjustment"].digest}
    assert set(roles) == {"table", "adjustment", "cohort"}


def test_manifest_and_mlflow__tell_dimensions_and_split(place, caplog):
    place.table()
    ref = place.adjust()
    content = place.open().manifest.content
    n_train = N - len(place.held_out)
    assert (content["dim_nominal"], content["dim_effective"], content["dim_input"]) == (512, 12, 12)
    assert content["split"] == {"of": "cohort", **SPLIT}
    assert (content["n_train"], content["n_train_subjects"]) == (n_train, n_train)
    assert content["variance_explained"] == pytest.approx(1.0)
    assert content["pending"] == []
    assert content["applied"][0] == "harmonize: combat, keep age, sex"
    assert "12 dimensions instead of 512: vectors have 12" in caplog.text
    run = last_run()
    assert (run["metrics.dim_nominal"], run["metrics.dim_effective"], run["metrics.n_train"]) == (512, 12, n_train)
    assert run["tags.output.table"] == ref.pointer
    assert run["tags.output.adjustment"].endswith("adjustments/adjusted@1")
    assert run["tags.parent.table"].endswith("embeddings/toy@1")
    found = mlflow.MlflowClient().search_model_versions(f"tags.digest = '{ref.digest}'")
    assert [one.tags["strategy"] for one in found] == ["toy_adjusted_v1"]
    assert found[0].name.startswith(f"{TABLE_PREFIX}adjusted")


def test_dimensions__are_capped_by_the_training_rows(place, caplog):
    place.write(STRATEGY.replace("  - {step: harmonize, keep: [age, sex]}\n", ""))
    cohort, held_out = make_cohort(place.warehouse, range(13), {"holdout": 0.25, "seed": 1})
    place.table(range(13), cohort=cohort)
    place.adjust()
    content = place.open().manifest.content
    assert content["n_train"] == 13 - len(held_out) == 10
    assert content["dim_effective"] == 9
    assert place.open().vectors().shape == (13, 9)
    assert "9 dimensions from 10 training rows: the last of them hold noise" in caplog.text


def test_held_out_rows__change_nothing_that_is_learnt(place, tmp_path):
    """The canary: vectors and covariates of held-out rows are replaced by nonsense; what is learnt is equal to the bit.

    With ``holdout: 0`` they are fitted on, and the canary tells.
    """
    place.table()
    place.adjust()
    place.adjust(output="leaky", holdout=0.0)
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    poison = {"embedding": np.full(12, 1e4, np.float32), "age": 5.0, "mean_fd": 9.0}
    other.table(**{f"row_{int(subject)}": poison for subject in place.held_out})
    other.adjust()
    other.adjust(output="leaky", holdout=0.0)
    first, second = (open_adjustment("adjusted", one.warehouse.uri) for one in (place, other))
    assert first.ref.digest == second.ref.digest
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)
    leaky, poisoned = (open_adjustment("leaky", one.warehouse.uri) for one in (place, other))
    assert leaky.ref.digest != poisoned.ref.digest
    assert leaky.manifest.content["split"] == {"of": "configuration", "holdout": 0.0, "seed": 0}


def test_same_command_again__does_nothing(place):
    place.table()
    first = place.adjust()
    snapshot = place.open().table.iceberg.current_snapshot().snapshot_id
    assert place.adjust() == first
    assert place.open().table.iceberg.current_snapshot().snapshot_id == snapshot
    assert place.versions() == ["1"]


def test_adjustment__is_applied_to_new_scans_without_a_refit(place):
    place.table(range(N))
    first = place.adjust()
    before = place.open().vectors()
    place.table(range(N + 9))
    second = place.adjust(adjustment="adjusted")
    assert (first.version, second.version) == ("1", "2")
    assert place.versions() == ["1"]
    table = place.open()
    assert (table.vectors()[:N] == before).all()
    stored = open_adjustment("adjusted", place.warehouse.uri)
    rows = rows_of(range(N, N + 9))
    learnt = restore(stored, place.config(adjustment="adjusted"))
    expected = learnt.transform(np.stack([row["embedding"] for row in rows]), covariates=frame(rows))
    np.testing.assert_allclose(table.vectors()[N:], expected, atol=1e-5 * np.abs(expected).max())
    assert last_run()["tags.parent.adjustment"] == stored.ref.pointer
    # a scan whose vector has changed is adjusted again, a scan that is gone goes
    place.table(range(1, N + 9), row_1={"embedding": person(2)[1]})
    assert place.adjust(adjustment="adjusted").version == "3"
    now = place.open()
    assert now.rows()["row_key"].tolist() == [f"sub-{i:03d}_run-0" for i in range(1, N + 9)]
    assert not np.allclose(now.vectors()[0], before[1])
    assert (now.vectors()[1:] == table.vectors()[2:]).all()


def test_new_training_rows__give_a_new_adjustment_and_new_vectors(place):
    place.table(range(N))
    place.adjust()
    before = place.open().vectors()
    place.table(range(N + 9))
    place.adjust()
    assert place.versions() == ["1", "2"]
    table = place.open()
    assert not np.isclose(table.vectors()[:N], before).all()
    assert set(table.rows()["adjustment_version"]) == {open_adjustment("adjusted@2", place.warehouse.uri).ref.pointer}


def test_other_order__is_another_strategy_of_the_same_vectors(place):
    covariates = "[age, sex, site, mean_fd, global_signal_flag]"
    place.write(
        "id: toy_zscore_v1\nwindow: {length: 32, stride: 14}\n"
        f"adjust: [{{step: zscore}}, {{step: residualize, covariates: {covariates}}}, {{step: project, dim: 4}}]\n"
    )
    flags = {f"row_{i}": {"global_signal_flag": "yes" if i % 4 else "no"} for i in range(N)}
    place.table(**flags)
    place.adjust()
    content = place.open().manifest.content
    assert [one.partition(":")[0] for one in content["applied"]] == ["zscore", "residualize", "project"]
    assert set(place.open().rows()["strategy_id"]) == {"toy_zscore_v1"}
    assert content["dim_effective"] == 4


def test_steps_left_out__stay_pending(place):
    place.table()
    place.adjust(leave_out=("harmonize", "residualize"))
    assert place.open().manifest.content["pending"] == [
        "harmonize: combat, keep age, sex",
        "residualize: age, sex, mean_fd",
    ]


def test_people_of_whom_nothing_is_known__are_projected_like_the_demos(place, caplog):
    place.write(STRATEGY.replace("  - {step: harmonize, keep: [age, sex]}\n", ""))
    cohort, held_out = make_cohort(place.warehouse, range(7), {"holdout": 0.1, "seed": 0})
    unknown = dict.fromkeys(("age", "sex", "site", "mean_fd"))
    place.table(range(7), runs=2, cohort=cohort, **{f"row_{i}": unknown for i in range(7)})
    place.adjust(leave_out=("residualize",), measured_rows=2000)
    content = place.open().manifest.content
    # five people differ in 4 directions, and everybody's two rows in the same one
    assert (len(held_out), content["n_train"], content["dim_effective"]) == (2, 10, 4 + 1)
    assert content["pending"] == ["residualize: age, sex, mean_fd"]
    assert "site and motion were not looked for: too few subjects" in caplog.text


def test_missing_covariate__refuses_the_run_and_lists_scans(place):
    place.table(**{f"row_{i}": {"mean_fd": None} for i in range(7)})
    with pytest.raises(
        AdjustmentError,
        match=r"7 of 60 rows cannot be adjusted \(mean_fd is missing in 7: sub-000_run-0, .* and 2 more\); fill them .*"
        r"or say how with impute; or set them aside with refuse: scan",
    ):
        place.adjust()
    assert place.versions() == []
    assert not embedding_tables(place.warehouse, "adjusted")[0].exists


def test_missing_covariate__of_scans_goes_to_quarantine_if_asked(place, caplog):
    place.table(row_1={"mean_fd": None}, row_3={"age": None, "sex": None})
    place.adjust(refuse="scan")
    assert place.quarantine() == [
        {"scan_key": "sub-001_run-0", "room": "adjust", "reason": "missing_covariate", "message": "mean_fd is missing"},
        {
            "scan_key": "sub-003_run-0",
            "room": "adjust",
            "reason": "missing_covariate",
            "message": "age is missing; sex is missing",
        },
    ]
    assert place.open().manifest.rows == N - 2
    assert place.open().manifest.content["quarantined"] == 2
    assert "2 of 60 rows cannot be adjusted and go to quarantine" in caplog.text
    place.table(row_1={"mean_fd": None})
    place.adjust(adjustment="adjusted", refuse="scan")
    assert [one["scan_key"] for one in place.quarantine()] == ["sub-001_run-0"]
    assert place.open().manifest.rows == N - 1


def test_missing_covariate__is_filled_in_as_the_configuration_says(place, caplog):
    place.table(**{f"row_{i}": {"mean_fd": None} for i in range(7)})
    place.adjust(impute={"mean_fd": "median"})
    stored = open_adjustment("adjusted", place.warehouse.uri)
    known = [person(i)[0] for i in range(7, N)]
    median = np.median([one["mean_fd"] for one in known if one["subject"] not in place.held_out])
    assert stored.manifest.content["learnt"]["values"]["filled_"] == {"mean_fd": pytest.approx(median)}
    n_trained = sum(f"{i:03d}" not in place.held_out for i in range(7))
    assert stored.manifest.content["imputed_in_training"] == {"mean_fd": n_trained}
    assert last_run()["metrics.imputed_mean_fd"] == 7
    assert "mean_fd is filled in in 7 rows" in caplog.text


@pytest.mark.parametrize("held_out_only", [True, False])
def test_unseen_site__refuses_the_run_unless_the_configuration_says_what_to_do(place, held_out_only, caplog):
    """A site that only held-out scans have, or only scans that came later, in a table of their own version."""
    new = int(place.held_out[0]) if held_out_only else N
    if not held_out_only:
        place.table(range(N))
        place.adjust()
    place.table(range(N + 1), **{f"row_{new}": {"site": "X"}})
    how = {"strategy": str(place.strategy)} if held_out_only else {"adjustment": "adjusted", "strategy": None}
    how |= {"measured_rows": 0} if held_out_only else {}
    with pytest.raises(AdjustmentError, match=rf"1 of 61 .*site 'X' has no training rows in 1: sub-{new:03d}_run-0"):
        place.adjust(**how)
    name = "adjusted" if not held_out_only else "pooled"
    if held_out_only:
        place.adjust(output="pooled", unseen_site="pooled", **how)
        place.adjust(output="as-a", unseen_site="reference", reference_site="A", **how)
        assert "1 rows are of sites without training rows: pooled" in caplog.text
        pooled, as_a = (place.open(one).vectors() for one in ("pooled", "as-a"))
        differs = (pooled != as_a).any(axis=1)
        assert differs.tolist() == [i == new for i in range(N + 1)]
    else:
        with pytest.raises(OutputExistsError, match="unseen_site: 'refuse' -> 'pooled'"):
            place.adjust(unseen_site="pooled", **how)
        place.adjust(refuse="scan", **how)
        assert [one["reason"] for one in place.quarantine(name)] == ["unseen_site"]


def test_reference_site__without_training_rows_is_refused(place):
    place.table()
    with pytest.raises(AdjustmentError, match=r"reference_site 'X' has no training rows \(there: A, B, C\)"):
        place.adjust(unseen_site="reference", reference_site="X")


def test_other_settings__are_refused_by_name(place):
    place.table()
    place.adjust()
    with pytest.raises(
        OutputExistsError, match=r"adjustment 'adjusted' exists .*split.of: 'cohort' -> 'configuration'"
    ):
        place.adjust(holdout=0.4)
    place.write(STRATEGY.replace("dim: 512", "dim: 3"))
    with pytest.raises(OutputExistsError, match=r"adjustment 'adjusted' exists .*strategy.adjust"):
        place.adjust()


def test_older_source__is_refused(place):
    place.table(range(N))
    place.table(range(N + 1))
    place.adjust()
    with pytest.raises(EmbeddingsError, match="table 'adjusted' follows toy@2, which is newer than toy@1: going back"):
        place.adjust(table="toy@1")


def test_adjusted_table__is_not_adjusted_again(place):
    place.table()
    place.adjust()
    with pytest.raises(ConfigError, match=r"adjusted@1 is adjusted already; name the table .*embeddings/toy"):
        place.adjust(output="twice", table="adjusted")
    with pytest.raises(ConfigError, match="output: 'toy' is the table that is read"):
        place.adjust(output="toy")


def test_strategy__that_cannot_have_made_the_vectors_is_refused(place):
    place.table()
    place.write(STRATEGY.replace("stride: 14", "stride: 16"))
    with pytest.raises(ConfigError, match=r"window is .*'stride': 16.*, table toy@1 was embedded with .*'stride': 14"):
        place.adjust()
    place.write("id: x\nwindow: {length: 32, stride: 14}\n")
    with pytest.raises(ConfigError, match="there is no step to apply"):
        place.adjust()


def test_adjustment_of_other_vectors__is_refused(place):
    place.table()
    place.adjust()
    make_table(place.warehouse, rows_of(range(N)), place.cohort, name="other", model="m1")
    with pytest.raises(AdjustmentError, match="was fitted on vectors of model m0, table other@1 has those of m1"):
        place.adjust(output="x", table="other", adjustment="adjusted")
    pooled = EMBEDDED | {"window": EMBEDDED["window"] | {"stride": 7}}
    make_table(place.warehouse, rows_of(range(N)), place.cohort, name="third", strategy=pooled)
    with pytest.raises(AdjustmentError, match=r"strategy .toy_adjusted_v1., table third@1 .* they differ in window"):
        place.adjust(output="x", table="third", adjustment="adjusted")


def test_cohort_without_a_split__needs_one_in_the_configuration(place):
    cohort, _ = make_cohort(place.warehouse, range(N), None)
    place.table(cohort=cohort)
    with pytest.raises(
        AdjustmentError, match=r"has no split: an earlier boldstream made it; name the share .*holdout: 0.2"
    ):
        place.adjust()
    place.adjust(holdout=0.2)


def test_covariate_that_the_table_lacks__is_refused(place):
    schema = [name for name in ("age",) if name]
    place.table()
    source = place.open("toy")
    with pytest.raises(AdjustmentError, match="table toy@1 has no column 'weight', which the recipe needs"):
        read_rows(source, [*schema, "weight"])


def test_vectors_of_different_lengths__are_refused(place):
    place.table(row_5={"embedding": np.ones(5, np.float32)})
    with pytest.raises(AdjustmentError, match=r"the vectors of toy@1 have different lengths \(5, 12\)"):
        place.adjust()


def test_training_matrix__has_the_rows_in_the_order_that_is_asked(place):
    place.table()
    source = place.open("toy")
    rows = read_rows(source, ["age"])
    order = np.random.default_rng(0).permutation(N)[:20]
    found = training_matrix(source, rows.take(pa.array(order)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.stack([person(i)[1] for i in order]))


def test_too_few_rows_of_a_site__are_refused(place):
    place.write(STRATEGY.replace("keep: [age, sex]", "keep: [age, sex], min_per_site: 30"))
    place.table()
    with pytest.raises(AdjustmentError, match=r"cannot be fitted on \d+ rows of toy@1: 3 of 3 sites have less than 30"):
        place.adjust()


def test_site_and_motion__are_measured_before_and_after(place):
    place.table(runs=2)
    place.adjust(measured_rows=1000)
    measured = place.open().manifest.content["nuisance"]
    assert measured["site_chance"] == pytest.approx(1 / 3)
    assert measured["site_balanced_accuracy_before"] > 0.9
    assert measured["site_balanced_accuracy_after"] < 0.6
    assert measured["mean_fd_r2_before"] > 0.5
    assert measured["mean_fd_r2_after"] < 0.2
    run = last_run()
    assert run["metrics.site_balanced_accuracy_after"] == measured["site_balanced_accuracy_after"]


def files_of(place, name="adjusted"):
    folder = local_path(place.warehouse.location("adjustments", name)) / "v1"
    return {path.suffix: path for path in folder.iterdir()}


def test_stored_adjustment__is_refused_when_it_is_not_whole(place):
    place.table()
    place.adjust()
    files = files_of(place)
    assert set(files) == {".json", ".safetensors"}
    data = files[".safetensors"].read_bytes()
    files[".safetensors"].write_bytes(data[:-8] + b"\0\0\0\0\0\0\0\1")
    with pytest.raises(AdjustmentError, match="v1 is not what its manifest describes; restore it"):
        open_adjustment("adjusted@1", place.warehouse.uri)
    files[".safetensors"].write_bytes(data[:40])
    with pytest.raises(AdjustmentError, match="v1 is not whole"):
        open_adjustment("adjusted@1", place.warehouse.uri)
    files[".safetensors"].write_bytes(data)
    manifest = json.loads(files[".json"].read_text())
    manifest["content"]["learnt"]["values"]["filled_"] = {"age": 30.0}
    files[".json"].write_text(json.dumps(manifest))
    with pytest.raises(AdjustmentError, match="v1 is not what its manifest describes"):
        open_adjustment("adjusted@1", place.warehouse.uri)
    files[".json"].unlink()
    with pytest.raises(AdjustmentError, match=r"no adjustment 'adjusted@1' .*has the versions: none\); fit one"):
        open_adjustment("adjusted@1", place.warehouse.uri)


def test_stored_adjustment__whose_arrays_are_others_is_refused(place):
    place.table()
    place.adjust()
    stored = dataclasses.replace(open_adjustment("adjusted", place.warehouse.uri), arrays={})
    with pytest.raises(AdjustmentError, match=r"adjustment adjusted@1: ComBat lacks \['coef_', .*; fit it again"):
        restore(stored, place.config())


def test_two_fits_at_once__of_other_rows_do_not_pass_for_each_other(place, tmp_path, monkeypatch):
    """Another run writes the manifest of the same version right after this one has written its own."""
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    other.table(range(N + 9))
    other.adjust()
    theirs = files_of(other)

    def overtaken(uri, data):
        publish_bytes(uri, data)
        if uri.endswith("manifest.json"):
            folder = uri.rpartition("/")[0]
            publish_bytes(f"{folder}/{theirs['.safetensors'].name}", theirs[".safetensors"].read_bytes())
            publish_bytes(uri, theirs[".json"].read_bytes())

    monkeypatch.setattr(folders, "publish_bytes", overtaken)
    place.table()
    with pytest.raises(
        AdjustmentError, match="another run has published adjustment adjusted@1 at this moment, of other rows"
    ):
        place.adjust()
    monkeypatch.undo()
    other.warehouse.catalog.close()


def test_table_without_rows_that_can_be_adjusted__is_refused(place):
    place.table()
    place.adjust()
    place.table(**{f"row_{i}": {"mean_fd": None} for i in range(N)})
    with pytest.raises(AdjustmentError, match="table toy@2 has no training row that can be fitted on"):
        place.adjust(output="none", refuse="scan")
    with pytest.raises(EmbeddingsError, match="table toy@2: every row is refused; nothing is published"):
        place.adjust(adjustment="adjusted", refuse="scan")


def test_vector_that_overflows__is_refused(place):
    place.table(**{f"row_{int(place.held_out[0])}": {"embedding": np.full(12, 3e38, np.float32)}})
    with pytest.raises(AdjustmentError, match=r"rows of toy@1 cannot be adjusted: .*infinity|is not finite"):
        place.adjust()
    assert embedding_tables(place.warehouse, "adjusted")[0].versions == []


def test_damaged_vectors_of_the_source__are_told_by_file(place):
    place.table()
    path = local_path(place.open("toy").files[0].uri)
    chunks = pq.read_metadata(path).row_group(0)
    found = next(c for c in map(chunks.column, range(chunks.num_columns)) if c.path_in_schema.startswith("embedding"))
    data = bytearray(path.read_bytes())
    data[found.data_page_offset : found.data_page_offset + 40] = b"x" * 40
    path.write_bytes(data)
    source = place.open("toy")
    fields = [source.table.schema.field(name) for name in ("row_key", "embedding")]
    with pytest.raises(EmbeddingsError, match=rf"{path.name}: cannot be read \(.*\); restore it, or embed again"):
        read_file(source.files[0], fields)


def test_table_without_a_cohort__needs_a_split_in_the_configuration(place):
    place.table()
    source = place.open("toy")
    alone = dataclasses.replace(source, manifest=source.manifest.model_copy(update={"parents": []}))
    with pytest.raises(AdjustmentError, match="table toy@1 names no cohort; name the share of subjects"):
        find_split(place.config(), alone, read_rows(source, [])["subject"])


KILLED = """
import os, signal, sys
from boldstream.adjust import AdjustConfig, adjust_table, apply
written = apply.write_shard
def write_and_die(*arguments):
    uri = written(*arguments)
    write_and_die.n += 1
    if write_and_die.n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return uri
write_and_die.n = 0
apply.write_shard, apply.SHARD_ROWS = write_and_die, 7
import boldstream.artifacts.receipts as receipts
receipts.COMMIT_SHARDS = 1
adjust_table(AdjustConfig.model_validate_json(sys.argv[1]))
"""


def test_killed_run__leaves_no_version_and_is_gone_on_with(place):
    place.table()
    config = place.config()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "platform")}
    done = subprocess.run([sys.executable, "-c", KILLED, config.model_dump_json()], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    table = embedding_tables(place.warehouse, "adjusted")[0]
    assert table.versions == []
    half = table.column(["row_key"]).num_rows
    assert 0 < half < N
    with pytest.raises(EmbeddingsError, match="has no published version"):
        place.open()
    started = time.time()
    place.adjust()
    assert place.versions() == ["1"]
    assert last_run()["start_time"].timestamp() >= started - 1
    assert place.open().manifest.rows == N
    twin = place.adjust(output="twin")
    assert (open_table(twin.pointer, "").vectors() == place.open().vectors()).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": None}, "give a strategy, to fit its steps, or an adjustment that is fitted; one of the two"),
        ({"unseen_site": "reference"}, "unseen_site: reference and reference_site go together"),
        ({"strategy": None, "adjustment": "a", "holdout": 0.5}, "holdout: nothing is fitted with adjustment"),
        ({"impute": {"site": "most_frequent"}}, "impute.site"),
        ({"impute": {"age": "most_frequent"}}, "impute.age"),
    ],
)
def test_config__refuses_what_means_nothing(values, message):
    with pytest.raises(ConfigError, match=message):
        AdjustConfig.from_mapping({"output": "a", "table": "t", "strategy": "s.yaml"} | values, where="adjust.yaml")
