"""The quality page of a cohort: what was kept, flagged and set aside, and why; one HTML file, pictures inside."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import boldstream
from boldstream.ingest import qc_figures as figures
from boldstream.ingest.qc_material import MEASURES, UNKNOWN, QcMaterial, dropped_scans, tidy_rows
from boldstream.pages import render_page
from boldstream.parcellation.qc_rules import ALL_MEASURES, SEVERITY, QualityRules

REPEATED = {"n_zero_rois", "n_flat_rois", "n_nonfinite_rois", "n_bad_rois"}
"""Measures that say again what `bad_roi_share` does; drawn only where that is missing or a rule asks for them."""

BY_SITE = ("mean_fd", "dvars", "tsnr", "fc_mean", "spike_share", "censored_share", "min_coverage", "outlier")
"""Measures to show by site, the first of them that there are."""

N_BY_SITE = 4
MOST_SITES = 40
POOLED = "other sites"


def write_qc_page(material: QcMaterial, *, n_carpets: int = 6) -> str:
    """Return the quality page as HTML; pictures are in it.

    Parameters
    ----------
    material : QcMaterial
    n_carpets : int
        The worst scans to draw.

    Raises
    ------
    ValueError
        If rows have no ``scan_key``, or a status is none.
    """
    rows = tidy_rows(material.rows)
    dropped = dropped_scans(material.quarantine, rows)
    carpets = _carpets(material, rows, n_carpets)
    sites = _site_order(rows)
    return render_page(
        "boldstream.ingest",
        "qc.html.j2",
        material=material,
        headline=headline(rows, dropped),
        why=[*_why(rows, dropped), *material.changes],
        counts=_counts(rows, dropped),
        images={k: base64.b64encode(v).decode() for k, v in _draw(material, rows, sites, carpets).items()},
        unmeasured=[m.title for name, m in MEASURES.items() if name not in REPEATED and rows[name].isna().all()],
        sites=[_site_line(site, rows[rows["site"] == site]) for site in sites],
        site_measures={name: MEASURES[name] for name in _by_site(rows)},
        covariates=material.covariates,
        missing=_missing(rows, sites, material.covariates),
        flagged=_listed(rows[rows["status"] == "flag"]),
        dropped=dropped,
        carpets=carpets,
        limits=_limits(material.rules),
        version=boldstream.__version__,
    )


def headline(rows: pd.DataFrame, dropped: Sequence[Mapping[str, str]]) -> str:
    """Say in one sentence what became of the scans.

    Parameters
    ----------
    rows : DataFrame
        With ``scan_key`` and ``status``.
    dropped : sequence of mapping
        Scans set aside.
    """
    counts = _counts(rows, dropped)
    if not counts["all"]:
        return "There are no scans."
    kept, flag, out = (counts[status] for status in ("keep", "flag", "quarantine"))
    if kept == counts["all"]:
        return f"All {kept} scans are kept; none is flagged or quarantined."
    return f"{kept} of {counts['all']} scans are kept as they are, {flag} flagged and {out} quarantined."


def _counts(rows: pd.DataFrame, dropped: Sequence[Mapping[str, str]]) -> dict[str, int]:
    out = {line["scan_key"] for line in dropped}
    left = rows[~rows["scan_key"].isin(out)]["status"]
    counts = {status: int((left == status).sum()) for status in ("keep", "flag")}
    return {**counts, "quarantine": len(out), "all": sum(counts.values()) + len(out)}


def _why(rows: pd.DataFrame, dropped: Sequence[Mapping[str, str]]) -> list[str]:
    """Say why scans were flagged and set aside, most frequent first."""
    flags = Counter(
        name
        for reasons in rows[rows["status"] == "flag"]["reasons"]
        for name in dict.fromkeys(_measure_of(r) for r in reasons)
    )
    out = Counter(
        _measure_of(line["message"]) if line["reason"].endswith("quality") else line["reason"] for line in dropped
    )
    words = []
    for verb, counter in (("Flagged for", flags), ("Quarantined for", out)):
        if counter:
            parts = [f"{MEASURES[k].title if k in MEASURES else k} ({n})" for k, n in counter.most_common()]
            words.append(
                f"{verb} {', '.join(parts)}." + (" A scan may have several reasons." if verb[0] == "F" else "")
            )
    return words


def _measure_of(reason: str) -> str:
    return reason.partition(":")[0]


def _listed(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"scan_key": row.scan_key, "site": row.site, "reasons": row.reasons}
        for row in rows.sort_values("scan_key").itertuples()
    ]


def _site_order(rows: pd.DataFrame) -> list[str]:
    """Return sites by name; of many only the largest, and the rest under one name (rows are renamed)."""
    sizes = rows["site"].value_counts()
    if len(sizes) > MOST_SITES:
        small = set(sizes.index[MOST_SITES - 1 :])
        rows["site"] = [POOLED if site in small else site for site in rows["site"]]
    names = sorted(set(rows["site"]), key=lambda site: (site == UNKNOWN, site == POOLED, site))
    return names


def _by_site(rows: pd.DataFrame) -> list[str]:
    return [name for name in BY_SITE if rows[name].notna().any()][:N_BY_SITE]


def _site_line(site: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return a site's line of the table."""
    t_r, length = rows["t_r"].dropna(), rows["n_timepoints"].dropna()
    line: dict[str, Any] = {"site": site, "scans": len(rows)}
    line |= {status: int((rows["status"] == status).sum()) for status in SEVERITY}
    line["t_r"] = ", ".join(f"{value:g}" for value in sorted(t_r.unique())[:4])
    line["length"] = f"{length.min():.0f} to {length.max():.0f}" if len(length) else ""
    if len(length) and length.min() == length.max():
        line["length"] = f"{length.min():.0f}"
    line["medians"] = {name: float(rows[name].median()) if rows[name].notna().any() else None for name in BY_SITE}
    return line


def _missing(rows: pd.DataFrame, sites: Sequence[str], covariates: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for the cohort and every site, how many scans lack each covariate."""
    lines = []
    for name, own in [("all sites", rows), *((site, rows[rows["site"] == site]) for site in sites)]:
        gaps = [int(own[c].isna().sum()) if c in own.columns else len(own) for c in covariates]
        lines.append({"site": name, "scans": len(own), "gaps": gaps})
    return lines


def _limits(rules: QualityRules) -> list[dict[str, Any]]:
    """Return the rules in force for the table at the end."""
    lines = []
    for name, measure in ALL_MEASURES.items():
        limit = rules.limit(name)
        if limit.flag is not None or limit.quarantine is not None:
            side = "above" if measure.bad == "high" else "below"
            lines.append({"name": name, "title": measure.title, "side": side, "unit": measure.unit, "limit": limit})
    return lines


def _carpets(material: QcMaterial, rows: pd.DataFrame, n_carpets: int) -> list[figures.CarpetScan]:
    """Return the worst scans whose series are at hand: gravest status, most reasons, worst ranks."""
    if material.carpet_of is None:
        return []
    ranks = pd.DataFrame(
        {name: rows[name].rank(pct=True, ascending=m.bad == "high") for name, m in MEASURES.items()}, index=rows.index
    )
    order = pd.DataFrame(
        {"a": rows["status"].map(SEVERITY), "b": rows["reasons"].map(len), "c": ranks.mean(axis=1).fillna(0)}
    ).sort_values(["a", "b", "c"], ascending=False)
    get = material.carpet_of.get if isinstance(material.carpet_of, Mapping) else material.carpet_of
    found: list[figures.CarpetScan] = []
    for index in order.index:
        if len(found) == n_carpets:
            break
        row = rows.loc[index]
        if (series := get(row["scan_key"])) is not None:
            named = [_measure_of(reason) for reason in row["reasons"]]
            remark = ", ".join(f"{name} {row[name]:.3g}" if name in MEASURES else name for name in named)
            found.append(
                figures.CarpetScan(row["scan_key"], remark, series, row["t_r"], material.fd_of.get(row["scan_key"]))
            )
    return found


def _draw(
    material: QcMaterial, rows: pd.DataFrame, sites: Sequence[str], carpets: Sequence[figures.CarpetScan]
) -> dict[str, bytes]:
    """Draw what there is something to draw of, as PNG by name."""
    rules = material.rules
    limits = {name: rules.limit(name) for name in ALL_MEASURES}
    ruled = {name for name, limit in limits.items() if limit.flag is not None or limit.quarantine is not None}
    shown = {
        name: measure
        for name, measure in MEASURES.items()
        if rows[name].notna().any() and (name not in REPEATED or name in ruled or rows["bad_roi_share"].isna().all())
    }
    drawn = {}
    if shown:
        drawn["histograms"] = figures.draw_histograms(rows, shown, limits)
    if by_site := _by_site(rows):
        drawn["sites"] = figures.draw_sites(rows, sites, {name: MEASURES[name] for name in by_site}, limits)
    if rows["pc_1"].notna().any() and rows["pc_2"].notna().any():
        limit = rules.outlier.flag if rules.outlier.flag is not None else rules.outlier.quarantine
        drawn["map"] = figures.draw_map(rows, limit if limit is not None else np.inf)
    if carpets:
        drawn["carpets"] = figures.draw_carpets(carpets)
    return drawn
