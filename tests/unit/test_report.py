import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from boldstream.analysis.quality import Identification, identification
from boldstream.artifacts.cohort import open_cohort
from boldstream.errors import ArtifactError, ConfigError, EmbeddingsError, OutputExistsError
from boldstream.registry import register_model
from boldstream.report import ReportConfig, write_report
from boldstream.report.colouring import colouring_of
from boldstream.report.config import FC_NAME
from boldstream.report.maps import draw_map
from boldstream.report.material import select_scans
from boldstream.report.measure import accuracy_interval, correlation, measure, principal_components
from boldstream.report.wording import headline, no_identification, title_of, verdicts
from boldstream.tracking import job_run
from reported import N_DIMS, N_ROIS, make_cohort, make_table, noise, own_vector

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A warehouse with a cohort of five subjects, tables of it, and a registry that knows one model."""
    root = tmp_path_factory.mktemp("report")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    patch.chdir(root)
    warehouse = root / "warehouse"
    cohort, rows = make_cohort(warehouse)
    (root / "model").mkdir()
    (root / "model" / "weights").write_text("1")
    with job_run("pretrain", "tiny", ReportConfig(cohort="none", tables={"a": "a"})) as run:
        run.log_parent(cohort, len(rows))
        tags = {"trained_steps": "7", "cohort": cohort.pointer, "cohort_digest": cohort.digest}
        model = register_model(root / "model", name="tiny", run_identity="x", run=run, tags=tags, params={})
    make_table(warehouse, "good", cohort, rows, own_vector, model=model.pointer, digest=model.digest)
    adjusted = {"applied": ["zscore", "residualize: age"], "n_train": 8, "n_train_subjects": 4}
    pooling = {"target": {"column": "age"}, "seed": 3, "epochs": 40, "n_train": 8, "n_train_subjects": 4}
    adjusted["pooling"] = pooling | {"n_subjects_without_value": 1}
    make_table(warehouse, "noise", cohort, rows, noise, **adjusted)
    make_table(warehouse, "whole", cohort, rows, own_vector, parts=1)
    make_table(warehouse, "short", cohort, rows, own_vector, drop=[("sub-1_run-0", 1)])
    make_table(warehouse, "constant", cohort, rows, lambda scan, part: np.ones(N_DIMS, np.float32))
    other, other_rows = make_cohort(warehouse, name="other", seed=1)
    make_table(warehouse, "foreign", other, other_rows, own_vector)
    yield root
    patch.undo()


def config(place, output="report", **values):
    values = {"cohort": "demo", "tables": {"trained": "good", "untrained": "noise"}} | values
    return ReportConfig(output=str(place / output), warehouse=str(place / "warehouse"), **values)


@pytest.fixture(scope="module")
def report(place):
    ref = write_report(config(place))
    return SimpleNamespace(
        ref=ref,
        folder=place / "report",
        page=(place / "report" / "index.html").read_text(),
        numbers=json.loads((place / "report" / "numbers.json").read_text()),
    )


def test_report__says_what_was_measured(report):
    assert report.ref.uri == (report.folder / "index.html").as_uri()
    found = {name: one["identification"]["correct"] for name, one in report.numbers["representations"].items()}
    assert found["trained"] == [5, 5]
    assert found[FC_NAME] == [5, 5]
    assert max(found["untrained"]) < 5
    assert report.numbers["headline"].startswith("The trained encoder identified 5 of 5 subjects")
    assert report.numbers["headline"] in report.page
    assert "do equally well here (both find every subject)" in report.page
    assert "5 subjects are too few" in report.page


def test_report__is_one_page_that_needs_nothing_else(report):
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', report.page)
    assert not re.search(r"@import|url\(", report.page)
    assert "<script" not in report.page
    assert "{{" not in report.page
    images = re.findall(r"<img [^>]*>", report.page)
    assert len(images) == 6
    assert all(re.search(r'alt="[^"]+"', image) for image in images)
    names = {path.name for path in (report.folder / "figures").iterdir()}
    assert names == {
        f"{name}.png" for name in ("people", "carpet", "map", "covariates", "similarity", "identification")
    }


def test_report__tells_lineage_quarantine_and_pending_steps(report):
    for text in ("demo@1", "good@1", "tiny@1", "7 pretraining steps", "not in this MLflow registry", "unreadable: 1"):
        assert text in report.page
    assert "project: 512, pca" in report.page
    assert "Flagged in sub-0_run-0: r2." in report.page
    assert "was pretrained on this cohort" in report.page
    methods = (report.folder / "methods.md").read_text()
    assert report.numbers["methods"] in methods
    assert "Nature Neuroscience 18:1664" in methods
    told = "Its vectors were adjusted in this order: zscore; residualize: age (learnt from 8 vectors of 4 subjects)."
    assert methods.count(told) == 1
    pooled = (
        "by attention (Ilse et al. 2018) with a query trained for age (seed 3, 40 epochs) on 8 vectors of 4 training"
    )
    assert pooled in methods
    assert "Attention-based deep multiple instance learning" in methods
    assert "1 further scans" in report.page


def test_report__is_logged_with_its_parents(report):
    import mlflow

    run = mlflow.get_run(report.numbers["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["identification/trained/accuracy"] == 1.0
    assert run.data.metrics[f"identification/{FC_NAME}/accuracy"] == 1.0
    assert run.data.tags["parent.table.untrained"].endswith("noise@1")
    assert run.data.tags["parent.cohort"].endswith("demo@1")
    assert {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)} >= {"report"}


def test_report__replaces_an_older_report_only(place, report):
    again = write_report(config(place, "report", tables={"trained": "good"}))
    assert again.digest != report.ref.digest
    write_report(config(place, "report"))
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"mine exists and is no report; choose another output folder"):
        write_report(config(place, "mine"))
    (place / "mine" / "manifest.json").write_text("{}")
    with pytest.raises(OutputExistsError, match="is no report"):
        write_report(config(place, "mine"))
    assert (place / "mine" / "thesis.txt").read_text() == "precious"


def test_report__of_whole_scans_explains_why_nothing_is_identified(place):
    write_report(config(place, "whole", tables={"trained": "whole"}, max_scans=3, color_by="age"))
    page = (place / "whole" / "index.html").read_text()
    numbers = json.loads((place / "whole" / "numbers.json").read_text())
    assert "these scans were embedded whole. Embed with parts: 2" in page
    assert "identification was not measured" in numbers["headline"]
    assert "identification" not in numbers["representations"]["trained"]
    assert numbers["subjects"]["measured"] == 3
    assert "drawn at random from 5" in page
    assert not (place / "whole" / "figures" / "identification.png").exists()


def test_report__uses_the_rows_that_all_tables_have(place):
    write_report(config(place, "common", tables={"trained": "good", "short": "short"}))
    page = (place / "common" / "index.html").read_text()
    assert "1 scans of table trained left out" in page
    assert "1 (too_short: 1)" in page
    assert "of 4 subjects from the other half" in page


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"tables": {"a": "foreign"}}, ConfigError, r"tables.a: 'foreign@1' was made of cohort '.*/other', not of"),
        ({"tables": {"a": "good", "b": "whole"}}, ConfigError, r"different numbers of parts \(a: 2, b: 1\)"),
        ({"color_by": "height"}, ConfigError, r"color_by: the tables have no column 'height' \(there: age, "),
        ({"tables": {"a": "constant"}}, EmbeddingsError, "the a encoder cannot be measured: row 0 of first has no dir"),
        ({"tables": {"a": "absent"}}, ArtifactError, "no embedding 'absent'"),
    ],
)
def test_report__refuses(place, values, error, message):
    with pytest.raises(error, match=message):
        write_report(config(place, "refused", **values))
    assert not (place / "refused").exists()


def test_config__refuses_names_that_are_taken_or_none():
    with pytest.raises(ConfigError, match="'functional_connectivity' is the name of the report's own baseline"):
        ReportConfig.from_mapping({"cohort": "c", "tables": {FC_NAME: "t"}}, where="x.yaml")
    with pytest.raises(ConfigError, match="'a b' is no name"):
        ReportConfig.from_mapping({"cohort": "c", "tables": {"a b": "t"}}, where="x.yaml")
    with pytest.raises(ConfigError, match="tables"):
        ReportConfig.from_mapping({"cohort": "c", "tables": {}}, where="x.yaml")


def test_connectivity__is_of_the_halves_that_were_embedded(place, report):
    cohort = open_cohort("demo", str(place / "warehouse"))
    rows = pa.Table.from_batches(cohort.table.iceberg.scan().to_arrow().to_batches()).to_pylist()
    halves = {0: [], 1: []}
    upper = np.triu_indices(N_ROIS, k=1)
    for row in sorted(rows, key=lambda row: row["scan_key"]):
        if row["run"] == "0":
            values = np.reshape(row["timeseries"], (120, N_ROIS))
            values = values + (values.std(axis=0) == 0) * 0.0
            for half in (0, 1):
                with np.errstate(invalid="ignore"):
                    r = np.corrcoef(values[60 * half : 60 * half + 60].T)[upper]
                halves[half].append(np.arctanh(np.nan_to_num(r)))
    expected = identification(halves[0], halves[1])
    found = report.numbers["representations"][FC_NAME]["identification"]
    assert found["self_similarity"] == pytest.approx(expected.self_similarity, abs=1e-5)
    assert found["i_diff"] == pytest.approx(expected.i_diff, abs=1e-3)


# ---- wording: every sentence follows from the counts -----------------------------------------------------------


def outcome(name, first, second, n=7, p_value=0.001, centred=None):
    found = Identification(
        n=n,
        accuracy=(first + second) / (2 * n),
        correct=(first, second),
        chance=1 / n,
        chance_95=0.3,
        p_value=p_value,
        self_similarity=0.9,
        other_similarity=0.5,
        i_diff=40.0,
    )
    centred = dataclasses.replace(found, correct=centred or found.correct)
    names = {"name": name, "title": title_of(name)}
    return SimpleNamespace(**names, identified=found, identified_centred=centred, rankme=3.0, mean_cosine=0.5)


def test_headline__names_all_counts():
    three = [outcome("trained", 5, 5), outcome("untrained", 4, 4), outcome(FC_NAME, 7, 7)]
    assert headline(three) == (
        "The trained encoder identified 5 of 7 subjects from the other half of their scan; the untrained encoder 4, "
        "functional connectivity 7."
    )
    assert "identified 3–4 of 7 subjects" in headline([outcome("trained", 4, 3)])


@pytest.mark.parametrize(
    ("ours", "theirs", "sentence"),
    [
        (5, 7, "Functional connectivity does better than the trained encoder here, but their 95 % intervals overlap."),
        (5, 5, "The trained encoder and functional connectivity do equally well here."),
        (7, 7, "The trained encoder and functional connectivity do equally well here (both find every subject)."),
        (6, 2, "The trained encoder does better than functional connectivity here, but their 95 % intervals overlap."),
        (7, 0, "The trained encoder does better than functional connectivity here, and their 95 % intervals do not"),
    ],
)
def test_verdict__follows_from_the_counts(ours, theirs, sentence):
    found = verdicts([outcome("trained", ours, ours), outcome(FC_NAME, theirs, theirs)])
    assert found[0].startswith(sentence)


def test_verdict__says_when_it_may_be_chance_when_directions_differ_and_when_subjects_are_few():
    found = verdicts([outcome("trained", 2, 1, p_value=0.3), outcome("untrained", 1, 1), outcome(FC_NAME, 7, 7)])
    assert found[0].startswith("Functional connectivity does better")
    assert "The trained encoder is not distinguishable from guessing (chance is 1 of 7; p = 0.30, binomial)." in found
    assert any(sentence.startswith("A range gives the two directions") for sentence in found)
    assert found[-1].startswith("7 subjects are too few for a claim")
    many = verdicts([outcome("trained", 400, 400, n=500), outcome(FC_NAME, 450, 450, n=500)])
    assert many == [
        "Functional connectivity does better than the trained encoder here, and their 95 % intervals do not overlap."
    ]


def test_verdict__says_when_subtracting_the_mean_changes_who_does_better():
    lead = outcome("trained", 3, 3, centred=(4, 5))
    other, equal = outcome("untrained", 3, 3, centred=(6, 6)), outcome(FC_NAME, 5, 5, centred=(5, 4))
    found = verdicts([lead, other, equal])
    assert (
        "After subtracting the mean vector, the untrained encoder does better than the trained encoder (6 against 4–5)."
        in found
    )
    assert (
        "After subtracting the mean vector, the trained encoder and functional connectivity do equally well." in found
    )
    assert not any("subtracting" in sentence for sentence in verdicts([outcome("a", 3, 3), outcome("b", 2, 2)]))


@pytest.mark.parametrize(
    ("n_parts", "n_subjects", "sentence"),
    [(1, 9, "were embedded whole"), (3, 9, "were cut in 3 parts"), (2, 1, "at least two subjects")],
)
def test_no_identification__says_why(n_parts, n_subjects, sentence):
    assert sentence in no_identification(n_parts, n_subjects)


# ---- measures --------------------------------------------------------------------------------------------------


def test_interval__is_clopper_pearsons_and_widens_where_directions_differ():
    assert accuracy_interval(outcome("a", 7, 7).identified) == pytest.approx((0.5904, 1.0), abs=1e-4)
    assert accuracy_interval(outcome("a", 5, 5).identified) == pytest.approx((0.2904, 0.9633), abs=1e-4)
    low, high = accuracy_interval(outcome("a", 4, 5).identified)
    assert low == accuracy_interval(outcome("a", 4, 4).identified)[0]
    assert high == accuracy_interval(outcome("a", 5, 5).identified)[1]


def test_principal_components__are_those_of_sklearn():
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(12, 40)) * np.linspace(3, 0.1, 40)
    scores, shares = principal_components(x)
    fitted = PCA(2, svd_solver="full").fit(x)
    np.testing.assert_allclose(np.abs(scores), np.abs(fitted.transform(x)), atol=1e-10)
    np.testing.assert_allclose(shares, fitted.explained_variance_ratio_, atol=1e-12)


def test_similarity__is_pearsons_of_centred_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 4, 9)).astype(np.float32) + 50
    centred = vectors - vectors.reshape(-1, 9).mean(axis=0)
    expected = np.corrcoef(centred[0], centred[1])[:4, 4:]
    np.testing.assert_allclose(measure("a", "the a encoder", vectors).similarity, expected, atol=1e-4)
    assert not correlation(np.ones((2, 3)), np.eye(3)[:2]).any()


def test_measure__of_collapsed_vectors_finds_nobody():
    vectors = np.tile(np.arange(5, dtype=np.float32), (2, 4, 1))
    found = measure("a", "the a encoder", vectors)
    assert found.identified.correct == (0, 0)
    assert found.identified_centred is None
    assert found.rankme == pytest.approx(1.0)


# ---- choosing and colouring ------------------------------------------------------------------------------------


def light_rows(keys, parts=2):
    return pd.DataFrame(
        [{"scan_key": key, "part": part, "subject": key.partition("_")[0]} for key in keys for part in range(parts)]
    )


def test_selection__takes_one_scan_a_subject_and_counts_the_rest():
    rows = {"a": light_rows(["s1_1", "s1_2", "s2_1", "s3_1"]), "b": light_rows(["s1_1", "s1_2", "s3_1"])}
    found = select_scans(rows, {"s1_1", "s1_2", "s3_1", "s2_1"}, n_parts=2, max_scans=10, seed=0)
    assert found.scans == ["s1_1", "s3_1"]
    assert (found.n_subjects, found.n_further_scans, found.n_left_out) == (2, 1, {"a": 1, "b": 0})
    assert not found.is_subset


def test_selection__of_many_subjects_is_a_seeded_subset():
    rows = {"a": light_rows([f"s{i:02d}_1" for i in range(30)])}
    keys = set(rows["a"]["scan_key"])
    first, again, other = (select_scans(rows, keys, n_parts=2, max_scans=5, seed=s) for s in (0, 0, 1))
    assert first.is_subset
    assert len(first.scans) == 5
    assert first.scans == again.scans == sorted(first.scans)
    assert first.scans != other.scans


def test_selection__refuses_tables_with_nothing_in_common():
    rows = {"a": light_rows(["s1_1"]), "b": light_rows(["s2_1"])}
    with pytest.raises(EmbeddingsError, match=r"no scan is in all of them and in the cohort .* a: 1, b: 1"):
        select_scans(rows, {"s1_1", "s2_1"}, n_parts=2, max_scans=5, seed=0)


def test_colouring__groups_the_rare_and_names_the_unknown():
    sites = [f"site{i:02d}" for i in range(25) for _ in range(2)] + [None] * 3
    found = colouring_of(pd.DataFrame({"site": sites}), "site")
    assert set(found.groups) >= {"others", "not known"}
    assert len(set(found.groups)) == 21
    assert colouring_of(pd.DataFrame({"age": [1.0, np.nan]}), "age").numbers is not None


@pytest.mark.parametrize("column", ["site", "age"])
def test_map__is_drawn_for_groups_and_numbers_with_gaps(column):
    rows = pd.DataFrame({"site": ["A", None, "B", "C"], "age": [20.0, np.nan, 30.0, 40.0]})
    vectors = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    drawn = draw_map([measure("a", "the a encoder", vectors)], colouring_of(rows, column), numbered=False)
    assert drawn.startswith(b"\x89PNG")
