import base64
import html
import json
import re
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from boldstream.errors import AtlasError, ConfigError, EmbeddingsError, ModelError, ResultsError
from boldstream.report import ReportConfig, write_report
from reported import N_DIMS, N_ROIS, STRATEGY, make_cohort, make_results, make_table

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

N_PEOPLE, N_KNOWN, LOUD = 60, 40, 2
NUISANCE = {
    "site_balanced_accuracy_before": 0.4,
    "site_balanced_accuracy_after": 0.3,
    "site_balanced_accuracy_after_own": 0.1,
    "site_chance": 1 / 3,
    "mean_fd_r2_before": 0.1,
    "mean_fd_r2_after": 0.2,
    "n_measured": 60,
}
VALUES = {"trained": 0.4, "untrained": 0.3, "fc": 0.6, "confounds": 0.2}
TARGETS = {
    "age": ("continuous", VALUES, {"untrained": 0, "fc": -1, "confounds": 1}),
    "sex": ("binary", VALUES | {"trained": 0.8, "fc": 0.7}, {"untrained": 1, "fc": 1, "confounds": 1}),
}


def person(subject):
    """Age, sex and motion; sites of twenty people each."""
    rng = np.random.default_rng([3, subject])
    return {
        "site": "ABC"[subject % 3],
        "age": float(rng.uniform(10, 60)),
        "sex": "FM"[int(rng.integers(2))],
        "mean_fd": float(rng.uniform(0.05, 0.4)),
        "qc_status": "flag" if subject < 4 else "keep",
        "qc_reasons": ["mean_fd: 0.40 mm"] if subject < 4 else [],
    }


def latents_of(scan, part):
    """The latents of a scan's regions: the age is in one region alone, the newest scans are all shifted."""
    rng = np.random.default_rng([4, scan, part])
    found = 0.05 * rng.normal(size=(N_ROIS, N_DIMS)) + 0.3 * np.random.default_rng([5, scan]).normal(size=N_DIMS)
    found[LOUD, 0] += 0.5 * person(min(scan, N_PEOPLE - 1))["age"] * N_ROIS / 10
    return (found + 4.0 * (scan >= N_KNOWN) * np.eye(1, N_DIMS, 1)).astype(np.float32)


def vector_of(scan, part):
    return latents_of(scan, part).mean(axis=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A warehouse with sixty people, a table in two versions, its adjusted one, and results of both."""
    root = tmp_path_factory.mktemp("sections")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    patch.chdir(root)
    warehouse = root / "warehouse"
    cohort, rows = make_cohort(warehouse, n_subjects=N_PEOPLE, people=person)
    kept = {"latents": lambda scan, part: latents_of(scan, part).ravel()}
    kept["strategy"] = {**STRATEGY, "keep_roi_latents": True}
    make_table(warehouse, "trained", cohort, rows[:N_KNOWN], vector_of, **kept)
    make_table(warehouse, "trained", cohort, rows, vector_of, first=N_KNOWN, **kept)
    make_table(warehouse, "plain", cohort, rows, vector_of)
    adjusted = {
        "applied": ["residualize: site"],
        "n_train": 120,
        "n_train_subjects": 60,
        "adjustment": "a",
        "pending": [],
    }
    table = (warehouse / "embeddings" / "trained").as_uri()
    make_table(warehouse, "adjusted", cohort, rows, vector_of, nuisance=NUISANCE, table=table, **adjusted)
    few = {"not_measured": "too few subjects"}
    make_table(warehouse, "few", cohort, rows, vector_of, nuisance=few, table=table, **adjusted)
    pointer = f"{(warehouse / 'embeddings' / 'trained').as_uri()}@1"
    make_results(warehouse, "probe", cohort, TARGETS, tables={"trained": {"pointer": pointer, "digest": "0"}})
    other, _ = make_cohort(warehouse, name="other", seed=1)
    make_results(warehouse, "foreign", other, TARGETS)
    make_results(warehouse, "moved", cohort, TARGETS, kind="transfer")
    labels = np.zeros((20, 20, 20), np.int16)
    for i in range(N_ROIS):
        labels[3 + 2 * i : 5 + 2 * i, 5:15, 5:15] = i + 1
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([6.0, 6.0, 6.0, 1.0])), root / "six.nii.gz")
    (root / "six.txt").write_text("\n".join(f"r{i}" for i in range(N_ROIS)))
    (root / "turned.txt").write_text("\n".join(f"r{i}" for i in reversed(range(N_ROIS))))
    yield root
    patch.undo()


def config(place, output, **values):
    values = {"cohort": "demo", "tables": {"trained": "trained", "adjusted": "adjusted"}} | values
    return ReportConfig(output=str(place / output), warehouse=str(place / "warehouse"), **values)


@pytest.fixture(scope="module")
def report(place):
    atlas = {"atlas_file": str(place / "six.nii.gz"), "atlas_labels": str(place / "six.txt")}
    write_report(config(place, "report", results=("probe",), **atlas))
    folder = place / "report"
    return SimpleNamespace(
        folder=folder,
        page=html.unescape((folder / "index.html").read_text()),
        numbers=json.loads((folder / "numbers.json").read_text()),
        methods=(folder / "methods.md").read_text(),
    )


def test_page__begins_with_who_wins_at_the_targets(report):
    assert report.numbers["headline"].startswith(
        "Functional connectivity is better than the trained table at 1 of 2 targets. The trained encoder identified"
    )
    told = [
        "Against functional connectivity, trained is worse at 1 of 2 targets (age); better at 1 of 2 targets (sex).",
        "Against confounds alone, trained is better at 2 of 2 targets (age, sex).",
        "Against untrained, trained is not told apart at 1 of 2 targets (age); better at 1 of 2 targets (sex).",
    ]
    assert report.numbers["verdicts"][:3] == told
    place = [report.page.index(text) for text in (*told, "loses to functional connectivity", '<h2 id="confounds">')]
    assert place == sorted(place)


def test_page__needs_nothing_from_elsewhere_even_with_viewers(report):
    outside = re.findall(
        r'(?:src|href|srcset|data|action)="(?!data:(?:image/png|text/html);base64,|#)[^"]*"', report.page
    )
    assert not outside
    assert not re.search(r"@import|url\(|<link|<script", report.page)
    viewers = re.findall(r'<iframe [^>]*sandbox="allow-scripts" src="data:text/html;base64,([^"]+)"', report.page)
    assert len(viewers) == 1
    viewer = base64.b64decode(viewers[0]).decode()
    assert not re.search(r'(?:src|href)="(?!data:|#)[^"]*"', viewer)
    assert not re.search(r"@import|url\(['\"]?https?:|fetch\(\s*['\"]http", viewer)


def test_page__shows_what_numbers_json_has(report):
    found = report.numbers["probes"][0]["targets"]["age"]
    assert found["scores"][0]["metrics"]["r2"] == [0.4, pytest.approx(0.35), pytest.approx(0.45)]
    assert [one["verdict"] for one in found["contests"]] == ["not told apart", "worse", "better"]
    assert found["scores"][0]["p"] is None
    assert "−0.200" in report.page
    assert "trained was probed at version 1; the rest of this page is of version 2." in report.page
    for name in ("probes-1", "confounds", "covariates", "changes", "regions", "brain-1", "people"):
        assert (report.folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"<img ", report.page)) == len(list((report.folder / "figures").iterdir()))


def test_page__tells_quality_and_quarantine(report):
    assert report.numbers["cohort"]["quality"] == {"status": {"keep": 57, "flag": 4}, "reasons": {"mean_fd": 4}}
    assert "keep: 57, flag: 4 (flagged or set aside for mean_fd: 4)" in report.page


def test_page__tells_site_and_motion_before_and_after(report):
    found = report.numbers["confounds"]
    assert found["adjusted"]["adjusted"]["site_balanced_accuracy_after"] == 0.3
    assert "(adjusted@1) has made new people's vectors tell less of site (balanced accuracy: from 0.400" in report.page
    assert "has made new people's vectors tell more of mean FD (R²: from 0.100 to 0.200)" in report.page.replace(
        "&#39;", "'"
    )
    # measured in its own training rows, an adjusted table would look better than it is
    assert set(found["representations"]) == {"trained", "functional_connectivity"}
    assert found["representations"]["trained"]["site_chance"] == pytest.approx(1 / 3)


def test_page__finds_the_region_that_the_prediction_comes_from(report):
    found = report.numbers["brain"]["targets"]["age"]
    assert next(iter(found["top"])) == f"r{LOUD}"
    assert found["top"][f"r{LOUD}"] > 0.5
    assert sum(found["shares"].values()) == pytest.approx(1.0, abs=1e-4)
    assert found["sentence"] == f"r{LOUD} has the most, {found['top'][f'r{LOUD}'] * N_ROIS:.1f} times an even share."
    assert found["value"] > 0.5
    assert "sex" not in report.numbers["brain"]["targets"]
    assert any(
        re.match(r"Sex: in these 60 subjects the probe is not told from knowing nothing \(AUROC 0\.\d\d \[", line)
        for line in report.numbers["brain"]["not_shown"]
    )


def test_page__tells_what_came_since_the_version_before(report):
    found = report.numbers["changes"]["trained"]
    assert (found["added"], found["removed"], found["changed"], found["same"]) == (
        2 * (N_PEOPLE + 1 - N_KNOWN),
        0,
        0,
        80,
    )
    assert found["drift"]["p_value"] <= 0.01
    assert found["drift"]["where"] == "dimension 1"
    assert "differ from those of 40 known ones: dimension 1 by" in report.page
    assert "adjusted" not in report.numbers["changes"]


def test_methods__follow_from_what_there_is(report, place):
    for text in (
        "Target age was predicted in 60 scans of 59 subjects by ridge (1 x 5 folds; 1 scans lack it).",
        "DeLong",
        "Westfall",
    ):
        assert text in report.methods
    assert (
        "Fitted: in every training fold, and nowhere else. Intervals: BCa, 1000 resamples of subjects (Efron 1987)."
        in (report.methods)
    )
    assert report.methods.count("p values: not tested.") == 1
    assert "Benjamini" not in report.methods
    assert "He et al." not in report.methods
    write_report(config(place, "bare", tables={"trained": "plain"}, brain_targets=("age",)))
    bare = (place / "bare" / "methods.md").read_text()
    assert "predicted" not in bare
    assert "Westfall" not in bare


def test_page__says_what_it_cannot_show(place):
    write_report(config(place, "none", tables={"trained": "plain", "few": "few"}, brain_targets=("age",), seed=1))
    page = (place / "none" / "index.html").read_text()
    assert "Table trained has no latents of single regions" in page
    assert "What adjusting has done in few@1 was not measured: too few subjects." in page
    assert "<iframe" not in page
    assert '<h2 id="changes">' not in page
    assert "probes-1" not in page


def test_page__tells_of_a_transfer_and_of_probes(place):
    write_report(config(place, "two", tables={"trained": "plain"}, results=("probe", "moved"), brain_targets=()))
    page = (place / "two" / "index.html").read_text()
    assert page.count("Transfer to another cohort") == 1
    assert page.index('<h2 id="probes-1">Probes') < page.index('<h2 id="probes-2">Transfer')
    assert (place / "two" / "figures" / "probes-2.png").is_file()
    assert '<h2 id="brain">' not in page


def test_page__without_an_atlas_image_draws_bars(place):
    write_report(
        config(place, "bars", tables={"trained": "trained"}, brain_targets=("age",), earlier={"trained": "trained@2"})
    )
    page = (place / "bars" / "index.html").read_text()
    assert "Drawn as bars, because nothing here tells where the regions of atlas six are; name its image" in page
    assert (place / "bars" / "figures" / "regions.png").is_file()
    assert "0 vectors came, 0 went" in page
    assert "Drift was not tested: no vector is new." in page


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"results": ("foreign",)}, ConfigError, r"results: foreign@1 are of cohort .*/other, not of .*/demo"),
        ({"results": ("absent",)}, ResultsError, "absent"),
        ({"brain_targets": ("height",)}, ConfigError, "brain_targets: table trained@2 has no column 'height'"),
        ({"earlier": {"trained": "trained@9"}}, EmbeddingsError, "no version '9'"),
        (
            {"occlude": "sub-99"},
            ConfigError,
            r"occlude: cohort demo@1 has no scan 'sub-99' \(measured here: sub-0_run-0, ",
        ),
        ({"occlude": "sub-1_run-0"}, ModelError, "nowhere"),
        ({"occlude": "a", "tables": {"a": "adjusted"}}, ConfigError, "occlude: table adjusted@1 is adjusted; name the"),
        ({"atlas_file": "nowhere.nii.gz"}, AtlasError, "nowhere.nii.gz: is not there"),
        ({"atlas_file": "six.nii.gz", "atlas_labels": "turned.txt"}, AtlasError, "same regions, other order"),
    ],
)
def test_report__refuses(place, values, error, message):
    with pytest.raises(error, match=message):
        write_report(config(place, "refused", **values))
    assert not (place / "refused").exists()


def test_config__refuses_an_earlier_version_of_nothing():
    with pytest.raises(ConfigError, match=r"earlier: 'b' is none of tables \(a\)"):
        ReportConfig.from_mapping({"cohort": "c", "tables": {"a": "t"}, "earlier": {"b": "t@1"}}, where="x.yaml")
