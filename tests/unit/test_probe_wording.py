import pandas as pd
import pytest

from boldstream.probe.pictures import comparison_page, forest_plot
from boldstream.probe.wording import title_of, write_sentences

NAN = float("nan")


def scores_of(target="age", metric="r2", values=None, n_subjects=500, p=NAN, n_missing=0):
    values = values or {"ours": (0.4, 0.3, 0.5), "fc": (0.2, 0.1, 0.3), "confounds": (0.1, 0.0, 0.2)}
    rows = []
    for name, (value, low, high) in values.items():
        row = {"target": target, "kind": "x", "representation": name, "head": "ridge", "front": "standardised"}
        row |= {"role": "embedding" if name in ("ours", "twin") else "baseline", "metric": metric, "primary": True}
        row |= {"value": value, "low": low, "high": high, "p": p, "p_adjusted": p, "n_subjects": n_subjects}
        rows.append(row | {"n_missing": n_missing, "n_dims": 4})
    return pd.DataFrame(rows)


def contests_of(target="age", metric="r2", **verdicts):
    rows = []
    for second, verdict in verdicts.items():
        row = {
            "target": target,
            "metric": metric,
            "first": "ours",
            "second": second,
            "verdict": verdict.replace("_", " "),
        }
        rows.append(row | {"first_value": 0.4, "second_value": 0.2, "difference": 0.2, "low": 0.1, "high": 0.3})
    return pd.DataFrame(rows)


def test_claim__needs_better_than_connectivity_and_confounds():
    headline, sentences = write_sentences(scores_of(), contests_of(fc="better", confounds="better"), ["A note."])
    assert headline == "ours beats connectivity and confounds at age."
    assert sentences == [
        "age: ours tells more than functional connectivity and confounds alone (R² 0.400 [0.300, 0.500]).",
        "A note.",
    ]


@pytest.mark.parametrize(
    ("verdicts", "headline", "first"),
    [
        (
            {"confounds": "better", "fc": "worse"},
            "ours does worse than functional connectivity at age.",
            "age: ours (R² 0.400) does worse than functional connectivity (0.200; difference 0.200 [0.100, 0.300]).",
        ),
        (
            {"fc": "better", "confounds": "worse"},
            "ours does worse than confounds alone at age.",
            "age: ours (R² 0.400) does worse than confounds alone (0.200",
        ),
        (
            {"fc": "better", "confounds": "not_told_apart"},
            "ours is not shown to beat connectivity and confounds at age.",
            "age: ours (R² 0.400) is not told apart from confounds alone (0.200",
        ),
        (
            {"fc": "better", "tangent": "not_told_apart", "confounds": "better"},
            "ours is not shown to beat connectivity and confounds at age.",
            "age: ours (R² 0.400) is not told apart from tangent-space connectivity (0.200",
        ),
        # without a connectivity beside it there is nothing to beat
        (
            {"confounds": "better"},
            "ours is not shown to beat connectivity and confounds at age.",
            "age: ours tells more than confounds alone, which is no claim yet.",
        ),
    ],
)
def test_sentences__tell_the_worst_first(verdicts, headline, first):
    found, sentences = write_sentences(scores_of(), contests_of(**verdicts), [])
    assert found == headline
    assert sentences[0].startswith(first)


def test_few_people__carry_no_claim():
    verdicts = contests_of(fc="better", confounds="better")
    headline, sentences = write_sentences(scores_of(n_subjects=60), verdicts, [])
    assert (
        headline == "ours is not shown to beat connectivity and confounds at age; 60 subjects are too few for a claim."
    )
    assert sentences[0].endswith("which is no claim yet.")
    assert sentences[-1].startswith(
        "age: 60 subjects are too few for a claim; below 100 a score is off by chance by 10"
    )


def test_chance__missing_values_and_permutations_are_told():
    scores = scores_of("sex", "auroc", {"ours": (0.52, 0.45, 0.6), "mean": (0.5, 0.5, 0.5)}, p=0.3, n_missing=4)
    _, sentences = write_sentences(scores, contests_of("sex", "auroc", mean="not_told_apart"), [])
    assert sentences == [
        "sex: ours is not told apart from guessing (AUROC 0.520 [0.450, 0.600]).",
        "sex: ours is not better than with permuted targets (p 0.3, over targets 0.3).",
        "sex: 4 scans have no value and are left out.",
    ]
    below = scores_of(values={"ours": (-0.1, -0.2, -0.05)})
    assert write_sentences(below, contests_of(mean="worse"), [])[1] == [
        "age: ours does worse than knowing nothing (R² -0.100 [-0.200, -0.050])."
    ]
    _, sentences = write_sentences(scores_of(p=0.05), contests_of(mean="better"), [])
    assert "age: ours is better than with permuted targets (p 0.05, over targets 0.05)." in sentences


def test_classes__are_told_by_the_mean_over_them():
    values = {"ours": (0.7, 0.6, 0.8), "fc": (0.8, 0.7, 0.9)}
    scores = scores_of("dx", "auroc", values).assign(kind="multiclass")
    _, sentences = write_sentences(scores, contests_of("dx", "auroc", fc="worse"), [])
    assert sentences[0].startswith("dx: ours (AUROC over classes 0.400) does worse than functional connectivity (0.200")
    page = comparison_page(scores, contests_of("dx", "auroc", fc="worse"), "h", sentences, forest_plot(scores), "r@1")
    assert "<td>AUROC over classes</td>" in page


def test_headline__sorts_targets_by_what_became_of_them():
    scores = pd.concat([scores_of(name) for name in ("age", "sex", "iq", "mood")], ignore_index=True)
    contests = pd.concat(
        [
            contests_of("age", fc="better", confounds="better"),
            contests_of("sex", fc="worse", confounds="better"),
            contests_of("iq", fc="not_told_apart", confounds="better"),
            contests_of("mood", fc="worse", confounds="worse"),
        ]
    )
    assert write_sentences(scores, contests, [])[0] == (
        "ours does worse than functional connectivity at sex, and than functional connectivity and confounds alone at "
        "mood; it is not shown to beat connectivity and confounds "
        "at iq; it beats connectivity and confounds at age."
    )


def test_titles__are_words():
    assert title_of("trained_attention") == "trained pooled by attention"
    assert title_of("fc") == "functional connectivity"
    assert title_of("trained") == "trained"


def test_comparison__is_drawn_and_needs_no_network():
    scores = pd.concat([scores_of(), scores_of("sex", "auroc")], ignore_index=True)
    picture = forest_plot(scores)
    assert picture.startswith(b"\x89PNG")
    page = comparison_page(scores, contests_of(fc="worse"), "A <b>headline</b>.", ["One."], picture, "p@1")
    assert "A &lt;b&gt;headline&lt;/b&gt;." in page
    assert "http" not in page
    assert page.count("<td>functional connectivity</td>") == 3
