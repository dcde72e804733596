import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from boldstream.ingest.qc_material import MEASURES, dropped_scans, tidy_rows
from boldstream.ingest.qc_page import MOST_SITES, QcMaterial, headline, write_qc_page
from boldstream.parcellation.qc import measure_scan
from boldstream.parcellation.qc_rules import Limit, QualityRules, judge


class Balanced(HTMLParser):
    """Every opened element is closed in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def words(page):
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def pictures(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page)
    for data, _ in found:
        assert base64.b64decode(data).startswith(b"\x89PNG")
    return [alt for _, alt in found]


def series(seed, spikes=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, 12)).astype(np.float32)
    x[rng.choice(80, spikes, replace=False)] += 15
    return x


def measured(n, rules=None):
    rows, carpets = [], {}
    for i in range(n):
        key = f"sub-{i:04d}"
        carpets[key] = series(i, spikes=12 if i % 7 == 0 else 0)
        quality = measure_scan(carpets[key], 2.0, mean_fd=0.1 + 0.01 * i)
        decision = judge(quality, rules or QualityRules())
        rows.append({"scan_key": key, "site": "AB"[i % 2], **quality.columns(), **decision.columns()})
    return rows, carpets


def table(n, seed=0, n_sites=6):
    """Rows as of a large cohort, without measuring series."""
    rng = np.random.default_rng(seed)
    status = rng.choice(["keep", "flag", "quarantine"], n, p=[0.9, 0.08, 0.02])
    return pd.DataFrame(
        {
            "scan_key": [f"sub-{i:05d}" for i in range(n)],
            "site": rng.choice([f"site {i:03d}" for i in range(n_sites)], n),
            "status": status,
            "reasons": [[] if s == "keep" else ["mean_fd: 1 mm is above 0.5 mm"] for s in status],
            "mean_fd": rng.gamma(2, 0.1, n),
            "tsnr": rng.normal(80, 10, n),
            "outlier": rng.normal(size=n),
            "pc_1": rng.normal(size=n),
            "pc_2": rng.normal(size=n),
            "age": np.where(rng.random(n) < 0.1, np.nan, 30.0),
            "sex": rng.choice(["F", "M"], n),
            "t_r": 2.0,
            "n_timepoints": rng.integers(150, 300, n),
        }
    )


def test_page__of_three_scans_says_all_of_them():
    rows, carpets = measured(3)
    page = write_qc_page(QcMaterial("tiny@1", pa.Table.from_pylist(rows), carpet_of=carpets))
    Balanced(page)
    assert "2 of 3 scans are kept as they are, 1 flagged and 0 quarantined." in words(page)
    assert "Flagged for mean standardised DVARS (1), share of timepoints that are spikes (1)" in words(page)
    assert [alt.split()[0] for alt in pictures(page)] == ["Histograms", "Measures", "Carpet"]
    assert "The 3 worst scans" in page
    assert "No scan was compared with the others." in page


def test_page__needs_nothing_else():
    page = write_qc_page(QcMaterial("tiny@1", pd.DataFrame(measured(3)[0])))
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|<script|<link', page)


def test_page__of_thousands_stays_small():
    material = QcMaterial("large@1", table(5000, n_sites=60), carpet_of=lambda key: series(1))
    page = write_qc_page(material)
    Balanced(page)
    assert len(page) < 4_000_000
    assert len(re.findall(r'<th scope="row">site \d+', page.split('id="dropped"')[0])) < 2 * MOST_SITES
    assert "other sites" in page
    assert len(pictures(page)) == 4


def test_page__escapes_what_tables_hold():
    rows = table(10).drop(columns=["tsnr", "outlier"])
    rows["site"] = "<script>alert(1)</script>"
    rows["status"] = "keep"
    quarantine = pd.DataFrame([{"scan_key": "sub-<i>", "reason": "unreadable", "message": "text '<b>' in line 3"}])
    page = write_qc_page(QcMaterial("<u>", rows, quarantine, ["sub-<p>"], ["<q>"]))
    Balanced(page)
    assert "<script" not in page
    for text in ("<u>", "sub-<i>", "text '<b>'", "sub-<p>", "<q>"):
        assert text not in page
        assert text.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in page


def test_page__lists_everything_that_was_dropped_with_its_reason():
    rows, _ = measured(4, QualityRules(dvars=Limit(quarantine=1.2)))
    quarantine = pd.DataFrame(
        [{"scan_key": "sub-9", "reason": "too_short", "message": "has 20 timepoints, fewer than min_timepoints=50"}]
    )
    page = write_qc_page(QcMaterial("small@1", pd.DataFrame(rows), quarantine, ["sub-77"], ["sub-88", "sub-99"]))
    text = words(page)
    assert "3 of 5 scans are kept as they are, 0 flagged and 2 quarantined." in text
    assert "Quarantined for mean standardised DVARS (1), too_short (1)." in text
    assert "1 rows of the participants table have no scan; 2 scans have no row." in text
    for shown in ("sub-9 too_short has 20 timepoints", "sub-0000 quality dvars: mean stand", "sub-77", "sub-88"):
        assert shown in text


def test_page__counts_missing_covariates_by_site():
    rows = table(40, n_sites=2).assign(status="keep", age=30.0).drop(columns=["tsnr", "mean_fd", "outlier", "pc_1"])
    rows.loc[rows["site"] == "site 001", "age"] = np.nan
    n = int((rows["site"] == "site 001").sum())
    text = words(write_qc_page(QcMaterial("small@1", rows, covariates=("age", "sex", "iq"))))
    assert f"site 001 {n} all 0 all" in text
    assert f"site 000 {40 - n} 0 0 all" in text
    whole = words(write_qc_page(QcMaterial("small@1", rows, covariates=("sex",))))
    assert "None: every scan has sex." in whole


def test_page__of_rows_without_any_measure_or_scan():
    bare = pd.DataFrame({"scan_key": ["a", "b"]})
    page = write_qc_page(QcMaterial("bare@1", bare, outlier_note="2 of 2 scans <20"))
    Balanced(page)
    assert "All 2 scans are kept; none is flagged or quarantined." in page
    assert "2 of 2 scans &lt;20" in page
    assert pictures(page) == []
    assert "Not measured in any scan: mean framewise displacement; " in page
    empty = write_qc_page(QcMaterial("empty@1", bare.iloc[:0]))
    Balanced(empty)
    assert "There are no scans." in empty


def test_page__draws_scans_with_bad_regions_motion_and_no_variance():
    damaged = series(0)
    damaged[:, 2], damaged[:, 3] = 0, np.nan
    carpets = {"a": damaged, "b": np.zeros((5, 12), dtype=np.float32), "c": series(1)[:2]}
    rows = pd.DataFrame({"scan_key": ["a", "b", "c", "d"], "t_r": [2.0, np.nan, 1.0, 2.0]})
    page = write_qc_page(QcMaterial("x@1", rows, carpet_of=carpets.get, fd_of={"a": np.r_[np.nan, np.full(79, 0.3)]}))
    assert "The 3 worst scans" in page
    assert "framewise displacement where it is known" in page


def test_page__draws_the_gravest_first():
    rows = table(30).assign(status=["keep"] * 28 + ["flag", "quarantine"])
    asked = []

    def carpet_of(key):
        asked.append(key)
        return series(1)

    bare = rows[["scan_key", "status", "reasons"]]
    write_qc_page(QcMaterial("x@1", bare, carpet_of=carpet_of), n_carpets=2)
    assert asked == ["sub-00029", "sub-00028"]


def test_page__shows_the_rules_in_force():
    rules = QualityRules(mean_fd=Limit(flag=0.31, quarantine=0.77), duplicates="quarantine")
    text = words(write_qc_page(QcMaterial("x@1", pd.DataFrame({"scan_key": ["a"]}), rules=rules)))
    assert "mean framewise displacement mean_fd above 0.31 mm 0.77 mm" in text
    assert "the same time series as another scan duplicates – yes" in text


def test_tidy__takes_columns_of_the_cohort_before_those_of_the_table():
    rows = pa.table(
        {"scan_key": ["a"], "mean_fd": [9.0], "qc_mean_fd": [0.2], "qc_reasons": [["x: y"]], "site": [None]}
    )
    tidy = tidy_rows(rows)
    assert tidy["mean_fd"].tolist() == [0.2]
    assert tidy["reasons"].tolist() == [["x: y"]]
    assert tidy["site"].tolist() == ["not known"]
    assert tidy["status"].tolist() == ["keep"]
    assert set(MEASURES) <= set(tidy.columns)


def test_dropped__are_listed_once():
    rows = tidy_rows(pd.DataFrame({"scan_key": ["b", "a"], "status": "quarantine", "reasons": [["x: y"], ["z: w"]]}))
    quarantine = pa.table({"scan_key": ["b"], "reason": ["quality"], "message": ["as written"]})
    assert dropped_scans(quarantine, rows) == [
        {"scan_key": "a", "reason": "quality", "message": "z: w"},
        {"scan_key": "b", "reason": "quality", "message": "as written"},
    ]
    assert headline(rows, dropped_scans(quarantine, rows)) == (
        "0 of 2 scans are kept as they are, 0 flagged and 2 quarantined."
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.DataFrame({"key": [1]}), "rows of a quality page have no column 'scan_key', only key"),
        (pd.DataFrame({"scan_key": ["a"], "status": ["drop"]}), "status 'drop' is none; a scan's is keep, flag or"),
    ],
)
def test_page__refuses(rows, message):
    with pytest.raises(ValueError, match=message):
        write_qc_page(QcMaterial("x@1", rows))
