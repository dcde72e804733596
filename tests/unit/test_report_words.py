"""The report's sentences follow from the numbers, whoever wins."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from boldstream.analysis.drift import drift
from boldstream.analysis.intervals import Estimate
from boldstream.report.brains import BrainMap
from boldstream.report.changes import Change, sentences_of
from boldstream.report.confounds import BeforeAfter, Told
from boldstream.report.confounds import sentences_of as confound_sentences
from boldstream.report.forest import draw_forest
from boldstream.report.methods import probe_sentences, references_of
from boldstream.report.people import count_quality, draw_people
from boldstream.report.probe_numbers import known, tally
from boldstream.report.probes import Probes, targets_of, title_of_metric, told_here, unread_targets
from boldstream.report.wording import plain, title_of, told_value
from reported import METHODS, contest_rows, score_rows

VALUES = {"trained": 0.4, "fc": 0.6}


def probes_of(verdicts, values=VALUES, kind="probe", **of_rows):
    """Results in which the trained table has these verdicts against connectivity, a target each."""
    names = [f"t{i}" for i in range(len(verdicts))]
    scores = [row for name in names for row in score_rows(name, "continuous", values, **of_rows)]
    contests = [
        row
        for name, verdict in zip(names, verdicts, strict=True)
        for row in contest_rows(name, "continuous", values, dict.fromkeys(list(values)[1:], verdict))
    ]
    content = {
        "sentences": [],
        "headline": "",
        "targets": {name: {} for name in names},
        "tables": {},
        "methods": METHODS,
    }
    results = SimpleNamespace(manifest=SimpleNamespace(content=content, kind=kind))
    return Probes(results, targets_of(pd.DataFrame(scores), pd.DataFrame(contests)))


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ([-1], "trained is worse at 1 of 1 target (t0)."),
        ([1, 1], "trained is better at 2 of 2 targets (t0, t1)."),
        ([0, 0], "trained is not told apart at 2 of 2 targets (t0, t1)."),
        ([1, 0, -1], "worse at 1 of 3 targets (t2); not told apart at 1 of 3 targets (t1); better at 1 of 3"),
    ],
)
def test_tally__says_who_is_better_worst_news_first(verdicts, told):
    (sentence,) = tally(probes_of(verdicts))
    assert sentence.startswith("Against functional connectivity, ")
    assert told in sentence


def test_tally__leaves_out_baselines_that_nobody_has_to_beat():
    values = {"trained": 0.4, "moments": 0.1, "untrained": 0.2}
    assert tally(probes_of([1], values)) == ["Against untrained, trained is better at 1 of 1 target (t0)."]
    (sentence,) = tally(probes_of([1], values, kind="transfer"))
    assert sentence == "Against untrained, trained, carried over to unseen scans, is better at 1 of 1 target (t0)."


def test_targets__have_embeddings_first_and_name_columns():
    rows = score_rows("age", "continuous", {"fc": 0.6, "trained": 0.4})
    (target,) = targets_of(pd.DataFrame(rows), pd.DataFrame(contest_rows("age", "continuous", VALUES, {"fc": 0})))
    assert [line.representation for line in target.lines] == ["trained", "fc"]
    assert target.metrics == ["r2", "r", "mae"]
    assert (target.is_cut, target.has_p) == (False, False)
    assert probes_of([0, 0]).columns == ["t0", "t1"]


def test_targets__of_a_transfer_show_the_primary_metric_in_all_versions():
    rows = score_rows("age", "continuous", {"trained": 0.4, "fc": 0.6})
    further = [
        row | {"metric": f"r2_{end}", "primary": False} for row in rows[:1] for end in ("in_cohort", "recentred")
    ]
    slope = rows[0] | {"metric": "calibration_slope", "primary": False}
    contests = contest_rows("age", "continuous", VALUES, {"fc": 0})
    (target,) = targets_of(pd.DataFrame([*rows, *further, slope]), pd.DataFrame(contests))
    assert target.metrics == ["r2", "r2_in_cohort", "r2_recentred", "r", "mae"]
    assert target.n_further == 1
    names = ("r2_in_cohort", "balanced_accuracy", "extrapolated")
    assert [title_of_metric(name) for name in names] == ["R², learnt there", "balanced accuracy", "extrapolated"]


def test_targets__of_several_classes_say_that_scores_are_means_and_have_no_map():
    scores = score_rows("dx", "multiclass", {"trained": 0.8, "fc": 0.7})
    contests = contest_rows("dx", "multiclass", {"trained": 0.8, "fc": 0.7}, {"fc": 1})
    content = {"targets": {"dx": {"kind": "multiclass", "column": "diagnosis", "classes": ["TC", "ASD", "ADHD"]}}}
    content |= {"tables": {"trained": {"pointer": "w/t@1"}}, "methods": METHODS}
    results = SimpleNamespace(manifest=SimpleNamespace(content=content, kind="probe"), label="r@1")
    probes = Probes(results, targets_of(pd.DataFrame(scores), pd.DataFrame(contests)))
    (target,) = probes.targets
    titles = [target.title_of(name) for name in target.metrics]
    assert titles == ["AUROC over classes", "balanced accuracy", "AUPRC over classes", "Brier score"]
    assert probes.unread("w/t") == {"diagnosis": "Dx has several classes, so no one map says where a probe looks."}
    told = " ".join(probe_sentences(probes))
    assert (
        "Target dx (classes TC, ASD, ADHD; AUROC and AUPRC are means over classes, each against the rest) was " in told
    )
    assert draw_forest(probes.targets)[:4] == b"\x89PNG"
    (two,) = targets_of(pd.DataFrame(score_rows("sex", "binary", VALUES)), pd.DataFrame(contests))
    assert two.title_of("auroc") == "AUROC"


def test_targets__that_results_cannot_tell_from_chance_have_no_regions():
    uri = "file:///w/embeddings/t"
    found = probes_of([0], {"trained": 0.04, "fc": 0.6})
    found.results.label = "r@1"
    assert not found.unread(uri)
    found.results.manifest.content["tables"] = {"trained": {"pointer": f"{uri}@3"}}
    assert found.unread(uri)["t0"].startswith(
        "T0: in r@1 no probe of this table is told from knowing nothing (R² 0.04 [−0.01, 0.09], 59 subjects)"
    )
    told = probes_of([0], {"trained": 0.2, "fc": 0.6})
    told.results.manifest.content["tables"] = {"trained": {"pointer": f"{uri}@3"}}
    assert not told.unread(uri)


def test_targets__that_cannot_be_carried_over_are_mapped_where_they_can_be_learnt():
    uri = "file:///w/embeddings/t"
    tables = {"trained": {"pointer": f"{uri}@3"}}
    here, lost = (
        probes_of([0], {"trained": 0.2, "fc": 0.6}),
        probes_of([0, 0], {"trained": 0.04, "fc": 0.6}, kind="transfer"),
    )
    for one in (here, lost):
        one.results.label = one.results.manifest.kind
        one.results.manifest.content["tables"] = tables
    assert set(unread_targets([here, lost], uri)) == {"t1"}
    assert told_here([here, lost], uri, "t0") == [
        "In probe the probe of this table reached R² 0.20 [0.15, 0.25], 59 subjects."
    ]
    assert told_here([here, lost], uri, "t1") == []
    here.results.manifest.content["tables"] = {}  # another table's: says nothing of this one
    assert set(unread_targets([here, lost], uri)) == {"t0", "t1"}
    untold = probes_of([0], {"trained": 0.04, "fc": 0.6})
    untold.results.label, untold.results.manifest.content["tables"] = "here", tables
    assert unread_targets([untold, lost], uri)["t0"].startswith("T0: in here no probe")
    here.results.manifest.content["tables"] = tables
    assert set(unread_targets([untold, here], uri)) == set(unread_targets([here, untold], uri)) == {"t0"}


def test_forest__is_drawn_with_scores_that_are_far_off_and_many_targets():
    far = probes_of([0, 0, 0], {"trained": -40.0, "fc": 0.6}, p=0.01)
    assert far.targets[0].is_cut
    assert far.targets[0].has_p
    assert draw_forest(far.targets).startswith(b"\x89PNG")
    assert draw_forest(far.targets[:1]).startswith(b"\x89PNG")
    all_far = probes_of([0], {"trained": -40.0, "untrained": -3.0, "fc": -1.0})
    assert not all_far.targets[0].is_cut  # an edge with everything on it would show nothing


def test_references__are_of_what_was_done():
    plain_ones = references_of([], {}, [], None)
    probed = probes_of([0], {"trained": 0.4, "tangent": 0.1})
    untested = references_of([probed], {}, [], None)
    probed.results.manifest.content["methods"] = {**METHODS, "p": "99 permutations"}
    tested = references_of([probed], {}, [], None)
    names = [{line.split()[0].strip(",") for line in found} for found in (plain_ones, untested, tested)]
    assert names[1] - names[0] == {"Pervaiz", "Efron", "DeLong"}
    assert names[2] - names[1] == {"Benjamini", "Phipson", "Winkler"}


def changed(before, after):
    found = {"site_chance": 0.25, "site_balanced_accuracy_before": before, "site_balanced_accuracy_after": after}
    return BeforeAfter("adjusted", "adjusted@2", "raw", found, "")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            0.5,
            0.3,
            "has made new people's vectors tell less of site (balanced accuracy: from 0.500 to 0.300, chance 0.25",
        ),
        (
            0.3,
            0.5,
            "has made new people's vectors tell more of site (balanced accuracy: from 0.300 to 0.500, chance 0.25",
        ),
        (0.3, 0.3002, "has left as it was how well new people's vectors tell site (balanced accuracy"),
    ],
)
def test_confounds__are_told_whichever_way_they_went(before, after, told):
    (*_, sentence) = confound_sentences([], [changed(before, after)])
    assert sentence.startswith(f"Adjusting (adjusted@2) {told}")


def test_confounds__say_when_nothing_can_be_looked_for():
    assert confound_sentences([Told("a", "the a encoder", {})], [])[0].startswith("Neither site nor motion can be")
    told = Told("a", "the a encoder", {"mean_fd_r2": -0.0001})
    assert confound_sentences([told], []) == ["Mean FD, R²: 0.000 from the a encoder."]


def version(name):
    return SimpleNamespace(label=name)


def change_of(shift):
    rng = np.random.default_rng(0)
    known_rows, new = rng.normal(size=(40, 5)), rng.normal(size=(30, 5)) + shift
    names = [[f"{side}{i}" for i in range(n)] for side, n in (("a", 40), ("b", 30))]
    found = drift(known_rows, new, known_subjects=names[0], new_subjects=names[1])
    diff = SimpleNamespace(
        first=version("t@1"), second=version("t@2"), added=["k"] * 30, removed=[], changed=[], n_same=40
    )
    diff.made_otherwise, diff.geometry = [], None
    return Change("t", diff, found, "", known_rows[:, :2], new[:, :2])


def test_changes__say_that_new_vectors_differ_and_that_they_do_not():
    assert "differ from those of 40 known ones: " in sentences_of(change_of(3.0))[-1]
    alike = sentences_of(change_of(0.0))
    assert alike[0] == (
        "t@2 against t@1: 30 vectors came, 0 went, 0 are other than before, 40 are the same bit by bit."
    )
    assert "of 30 new subjects are not told from those of 40 known ones (p = " in alike[-1]


def brain_of(shares):
    return BrainMap("age", "t", "continuous", 60, "r2", Estimate(0.3, 0.2, 0.4), np.asarray(shares))


def test_brain__says_whether_a_region_stands_out():
    names = ["a", "b", "c", "d"]
    assert brain_of([0.7, 0.1, 0.1, 0.1]).sentence(names) == "a has the most, 2.8 times an even share."
    assert brain_of([0.2, 0.3, 0.25, 0.25]).sentence(names).endswith("1.2 times an even share: no region stands out.")
    assert brain_of([0.2, 0.3, 0.25, 0.25]).top(names)[0] == ("b", 0.3)
    assert told_value(Estimate(-0.001, -0.02, 0.01)) == "0.00 [−0.02, 0.01]"


def test_quality__counts_reasons_by_measure():
    people = pd.DataFrame({"qc_status": ["keep", "flag", None], "qc_reasons": [[], ["dvars: 9", "mean_fd: 1"], None]})
    assert count_quality(people) == {
        "status": {"keep": 1, "flag": 1, "not judged": 1},
        "reasons": {"dvars": 1, "mean_fd": 1},
    }


def test_people__are_drawn_with_nothing_known_of_them():
    nothing = pd.DataFrame({name: [None] * 3 for name in ("site", "age", "sex", "mean_fd", "qc_status")})
    assert draw_people(nothing, 0, {"t": (3, 0)}).startswith(b"\x89PNG")


def test_numbers__are_plain():
    assert [plain(value) for value in (-0.001, -0.5, 0.25)] == ["0.00", "−0.50", "0.25"]
    assert [known(value) for value in (float("nan"), 0.5, "a")] == [None, 0.5, "a"]
    assert title_of("x", adjusted=True) == "the x table"
