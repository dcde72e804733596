"""Attention pooling in the adjust room: trained on training subjects, stored, applied frozen, told everywhere."""

import dataclasses
import json

import numpy as np
import pytest

from adjustable import EMBEDDED, N, P, Place, last_run, make_cohort, rows_of
from boldstream.adjust import AdjustConfig, apply, gather
from boldstream.adjust.fit import restore
from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.pooling import AttentionPooling
from boldstream.analysis.steps import part_attention
from boldstream.artifacts.adjustment import open_adjustment
from boldstream.errors import AdjustmentError, ConfigError, OutputExistsError
from boldstream.strategy import Strategy
from latents import latents_of

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = [
    pytest.mark.usefixtures("tracking"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
N_ROIS = 6
KEPT = EMBEDDED | {"keep_roi_latents": True}
STRATEGY = """
id: toy_attention_v1
window: {length: 32, stride: 14}
keep_roi_latents: true
adjust:
  - {step: attention, target: age, epochs: [20], seed: 3}
  - {step: project, dim: 5}
  - {step: residualize, covariates: [mean_fd]}
"""


def pooled_rows(people=range(N), n_rois=N_ROIS, runs=1, **changed):
    """Rows whose regions' latents hold the age in one region; `changed` as `rows_of` takes it, ``latents`` besides."""
    found = []
    for row in rows_of(people, runs, **changed):
        rng = np.random.default_rng(1000 + int(row["subject"]))
        age = (row["age"] or 30.0) / 15.0
        latents = latents_of(np.array([age]), n_rois, P, rng)[0]
        found.append({**row, "roi_latents": row.get("latents", latents.ravel())})
    return found


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    found.write(STRATEGY)
    yield found
    found.warehouse.catalog.close()


def latents(rows):
    return np.stack([row["roi_latents"] for row in rows]).reshape(len(rows), -1, P)


def covariates(rows):
    return {"mean_fd": np.array([row["mean_fd"] for row in rows])}


def test_table__is_what_query_and_steps_make_of_training_subjects(place):
    """The same by the estimators themselves, in memory; a number of epochs that is given needs no inner folds."""
    lacking = next(i for i in range(N) if f"{i:03d}" not in place.held_out)
    place.put(pooled_rows(**{f"row_{lacking}": {"age": None}}), strategy=KEPT)
    ref = place.adjust()
    rows = sorted(pooled_rows(**{f"row_{lacking}": {"age": None}}), key=lambda row: row["row_key"])
    train = [row for row in rows if row["subject"] not in place.held_out]
    known = [row for row in train if row["age"] is not None]
    assert len(known) == len(train) - 1 < len(rows) - 1
    query = AttentionPooling(epochs=(20,)).fit(latents(known), [row["age"] for row in known])
    _, rest = part_attention(Strategy.from_yaml(place.strategy).adjust)
    steps = Adjustment(rest).fit(query.transform(latents(train)), covariates=covariates(train))
    expected = steps.transform(query.transform(latents(rows)), covariates=covariates(rows))
    table = place.open()
    np.testing.assert_allclose(table.vectors(), expected, atol=1e-4 * np.abs(expected).max())
    # it is not what the steps make of the mean
    mean = Adjustment(rest).fit(latents(train).mean(axis=1), covariates=covariates(train))
    assert not np.allclose(expected, mean.transform(latents(rows).mean(axis=1), covariates=covariates(rows)), atol=0.1)

    content, stored = table.manifest.content, open_adjustment("adjusted", place.warehouse.uri)
    assert table.ref == ref
    assert set(table.rows()["strategy_id"]) == {"toy_attention_v1"}
    assert content["applied"][0] == "attention: regions pooled by a query trained for age, seed 3"
    assert content["dim_input"] == P
    told = content["pooling"]
    assert told == stored.manifest.content["pooling"]
    assert (told["target"]["column"], told["kind"], told["classes"]) == ("age", "continuous", None)
    assert (told["seed"], told["epochs"], told["cohort"]) == (3, 20, place.cohort.uri)
    assert (told["n_train"], told["n_train_subjects"]) == (len(known), len(known))
    counts = ("n_rows_without_value", "n_subjects_without_value", "n_rows_of_other_classes")
    assert [told[name] for name in counts] == [1, 1, 0]
    run = last_run()
    assert run["metrics.attention_epochs"] == 20
    assert run["metrics.attention_n_subjects_without_value"] == 1
    # the table's manifest is all that a reader has of it: in JSON's types
    assert json.loads(json.dumps(told)) == told


def test_held_out_subjects__change_nothing_of_the_query(place, tmp_path):
    """The canary: latents and target of held-out rows are replaced by nonsense; with ``holdout: 0`` it tells."""
    place.put(pooled_rows(), strategy=KEPT)
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    other.write(STRATEGY)
    poison = {"latents": np.full(N_ROIS * P, 50.0, np.float32), "age": 5.0, "mean_fd": 9.0}
    other.put(pooled_rows(**{f"row_{int(subject)}": poison for subject in place.held_out}), strategy=KEPT)
    digests = []
    for one in (place, other):
        one.adjust()
        one.adjust(output="leaky", holdout=0.0)
        digests.append([open_adjustment(name, one.warehouse.uri).ref.digest for name in ("adjusted", "leaky")])
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_stored_query__is_applied_to_new_scans_as_it_is_whatever_the_batch(place, monkeypatch):
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust()
    before = place.open().vectors()
    place.put(pooled_rows(range(N + 9)), strategy=KEPT)
    place.adjust(adjustment="adjusted")
    after = place.open().vectors()
    assert (after[:N] == before).all()
    assert place.versions() == ["1"]
    monkeypatch.setattr(apply, "SHARD_ROWS", 3)
    monkeypatch.setattr(apply, "POOLED_ROWS", 2)
    place.put(pooled_rows(range(N + 9)), strategy=KEPT, name="small", per_file=5)
    place.adjust(table="small", output="again", adjustment="adjusted")
    np.testing.assert_allclose(place.open("again").vectors(), after, atol=1e-6 * np.abs(after).max())


def test_fit__does_not_depend_on_how_the_table_is_read(place, monkeypatch):
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust()
    monkeypatch.setattr(gather, "GATHERED_BYTES", 1)
    place.adjust(output="again")
    first, second = (open_adjustment(name, place.warehouse.uri) for name in ("adjusted", "again"))
    assert first.ref.digest == second.ref.digest


def test_table_without_latents__is_refused_in_one_line(place):
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust()
    place.put(rows_of(range(N)), name="plain")
    with pytest.raises(
        AdjustmentError,
        match=r"table plain@1 has no latents of regions, which the adjustment pools: strategy 'toy_v1' has "
        r"keep_roi_latents: false; embed with one that has keep_roi_latents: true$",
    ):
        place.adjust(output="x", table="plain", adjustment="adjusted")
    with pytest.raises(ConfigError, match=r"keep_roi_latents is True, table plain@1 was embedded with False; use a st"):
        place.adjust(output="x", table="plain")
    place.put(rows_of(range(N)), name="lost", strategy=KEPT)
    with pytest.raises(AdjustmentError, match=r"^rows of lost@1 have no latents .*first sub-0.*keep_roi_latents: true"):
        place.adjust(output="x", table="lost", adjustment="adjusted")


@pytest.mark.parametrize(
    ("n_values", "message"),
    [
        ((N_ROIS + 1) * P, r"rows of other@1 cannot be pooled: .* are 7 x 12 \(regions x dimensions\), .* on 6 x 12"),
        (N_ROIS * P + 1, "latents of other@1 hold 73 values, which is no number of vectors of 12"),
    ],
)
def test_other_regions_or_dimensions__are_refused(place, n_values, message):
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust()
    values = {"latents": np.ones(n_values, np.float32)}
    place.put(pooled_rows(**{f"row_{i}": values for i in range(N)}), name="other", strategy=KEPT)
    with pytest.raises(AdjustmentError, match=message):
        place.adjust(output="x", table="other", adjustment="adjusted")
    wide = {"embedding": np.ones(P // 2, np.float32), "latents": np.ones(N_ROIS * P, np.float32)}
    place.put(pooled_rows(**{f"row_{i}": wide for i in range(N)}), name="narrow", strategy=KEPT)
    with pytest.raises(AdjustmentError, match=r"rows of narrow@1 cannot be pooled: .* are 12 x 6 .* trained on 6 x 12"):
        place.adjust(output="x", table="narrow", adjustment="adjusted")


@pytest.mark.parametrize(
    ("target", "changed", "message"),
    [
        ("weight", {}, "table toy@1 has no column 'weight', which the recipe needs; add it to participants.tsv"),
        ("embedding", {}, "column 'embedding' is no target: it tells rows, or holds lists"),
        ("subject", {}, "column 'subject' is no target: it tells rows"),
        ("global_signal_flag", {}, r"target 'global_signal_flag': none of \d+ training rows has a value"),
        ("{column: site, kind: binary}", {}, r"column 'site' has 3 values \(A, B, C\), not two classes"),
        ("age", {f"row_{i}": {"age": None} for i in range(N - 3)}, "cannot be trained on rows of toy@1: .* groups"),
    ],
)
def test_target__that_no_query_can_be_trained_for_is_refused(place, target, changed, message):
    place.write(STRATEGY.replace("target: age", f"target: {target}"))
    place.put(pooled_rows(**changed), strategy=KEPT)
    with pytest.raises(AdjustmentError, match=message):
        place.adjust()
    assert place.versions() == []


def test_classes__are_trained_for_and_others_counted(place):
    place.write(STRATEGY.replace("target: age", "target: {column: site, classes: [A, C]}"))
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust()
    told = place.open().manifest.content["pooling"]
    others = sum(i % 3 == 1 and f"{i:03d}" not in place.held_out for i in range(N))
    assert (told["kind"], told["classes"], told["n_rows_of_other_classes"]) == ("binary", ["A", "C"], others)
    assert told["n_train"] == N - len(place.held_out) - others
    assert place.open().manifest.content["applied"][0].endswith("trained for site (A or C), seed 3")


def test_epochs__are_chosen_in_inner_folds_by_the_seed(place, caplog):
    """Of noise, none: the pooling is the mean, and the log says so. Of a signal, some.

    Everybody is there twice with the same noise: dealt by scans, not subjects, folds would know the answers.
    """
    place.write(STRATEGY.replace(", epochs: [20]", ", epochs: [0, 80]"))
    with caplog.at_level("INFO", "boldstream"):
        place.put(pooled_rows(runs=2), strategy=KEPT)
        place.adjust()
        assert place.open().manifest.content["pooling"]["epochs"] == 80
        assert "no number of epochs" not in caplog.text
        n = N - len(place.held_out)
        assert (
            f"query trained for age (continuous) on {2 * n} rows of {n} subjects for 80 epochs; 0 subj" in caplog.text
        )
        rng = np.random.default_rng(0)
        noise = {f"row_{i}": {"latents": rng.normal(size=N_ROIS * P).astype(np.float32)} for i in range(N)}
        place.put(pooled_rows(runs=2, **noise), name="noise", strategy=KEPT)
        place.adjust(table="noise", output="nothing")
    assert "no number of epochs told age better than its mean does in inner folds: the pool" in caplog.text
    stored = open_adjustment("nothing", place.warehouse.uri)
    pooling = restore(stored, place.config()).pooling
    x = latents(pooled_rows(**noise))
    np.testing.assert_allclose(pooling.transform(x), x.mean(axis=1), atol=1e-5)


def test_many_subjects__are_drawn_whole_by_the_seed(place):
    place.put(pooled_rows(runs=2), strategy=KEPT)
    drawn = []
    for seed in (3, 4):
        place.write(STRATEGY.replace("seed: 3", f"seed: {seed}, max_subjects: 20"))
        place.adjust(output=f"drawn-{seed}")
        stored = open_adjustment(f"drawn-{seed}", place.warehouse.uri)
        told = stored.manifest.content["pooling"]
        assert (told["n_train"], told["n_train_subjects"]) == (40, 20)
        # the other steps are fitted on all
        assert stored.manifest.content["n_train_subjects"] == N - len(place.held_out)
        drawn.append(stored.arrays["pooling.query_"])
    assert (drawn[0] != drawn[1]).any()


def test_site_and_motion__are_measured_behind_queries_that_each_half_trains(place):
    place.put(pooled_rows(runs=2), strategy=KEPT)
    place.adjust(measured_rows=1000)
    measured = place.open().manifest.content["nuisance"]
    assert {"site_balanced_accuracy_before", "site_balanced_accuracy_after", "mean_fd_r2_after"} <= measured.keys()


def test_attention__can_be_left_out(place):
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust(leave_out=("attention",))
    content = place.open().manifest.content
    assert content["pending"] == ["attention: regions pooled by a query trained for age, seed 3"]
    assert content["applied"][0].startswith("project")
    assert "pooling" not in content


def test_stored_query__that_is_not_whole_is_refused(place):
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust()
    stored = open_adjustment("adjusted", place.warehouse.uri)
    arrays = {name: array for name, array in stored.arrays.items() if name != "pooling.query_"}
    with pytest.raises(AdjustmentError, match=r"adjusted@1: AttentionPooling lacks \['query_'\], .*; fit it again"):
        restore(dataclasses.replace(stored, arrays=arrays), place.config())


def test_other_seed_or_target__is_another_adjustment(place):
    place.put(pooled_rows(), strategy=KEPT)
    place.adjust()
    place.write(STRATEGY.replace("seed: 3", "seed: 4"))
    with pytest.raises(OutputExistsError, match=r"adjustment 'adjusted' exists .*strategy.adjust"):
        place.adjust()


def test_cohort_that_grows__trains_the_query_anew_only_where_a_strategy_is_named(place):
    place.put(pooled_rows(range(N - 9)), strategy=KEPT)
    cohort, _ = make_cohort(place.warehouse, range(N))
    place.adjust()
    place.put(pooled_rows(), strategy=KEPT, cohort=cohort)
    place.adjust()
    assert place.versions() == ["1", "2"]
    first, second = (open_adjustment(f"adjusted@{version}", place.warehouse.uri) for version in (1, 2))
    assert (first.arrays["pooling.query_"] != second.arrays["pooling.query_"]).any()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "keep_roi_latents: true",
            "keep_roi_latents: false",
            "step 'attention' pools regions' latents; set keep_roi_latents: true",
        ),
        (
            "covariates: [mean_fd]",
            "covariates: [age]",
            "target 'age' is a covariate of the step 'residualize: age'",
        ),
        ("adjust:\n", "adjust:\n  - {step: zscore}\n", "regions are pooled once, by the first step"),
        ("epochs: [20]", "epochs: [-1]", "epochs.0: .*greater than or equal to 0"),
        ("target: age", "target: {column: age, kind: binary, transform: log}", "transform: log is for numbers"),
    ],
)
def test_strategy__that_pools_in_vain_is_refused(place, old, new, message):
    place.write(STRATEGY.replace(old, new))
    with pytest.raises(ConfigError, match=rf"toy_adjusted_v1.yaml: .*{message}"):
        Strategy.from_yaml(place.strategy)


def test_step_name__can_be_named_on_the_command_line():
    assert AdjustConfig(output="a", table="t", strategy="s.yaml", leave_out=("attention",)).leave_out == ("attention",)
