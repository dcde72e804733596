"""The rows of the page's table: every number, and how it is to be read."""

from typing import NamedTuple

from boldstream.tables.quality.measure import VIEWS, Quality

SEEN = {"parts": "from one part of a scan to another", "scans": "from one scan to another"}
IN_PRETRAINING = "of a vector's length; measured in pretraining"
OF_FIT = "measured at the fit"
OF_NEW = "what a new scan gets"
SITE_BY_CHANCE = "by chance {site_chance:.3f}"


class Line(NamedTuple):
    """A row of the table."""

    measure: str
    value: str
    reads: str


GEOMETRY = (
    ("rankme", "effective rank (RankMe)", "{:.1f}", "between 1 and {most:.0f}; the mean counts"),
    ("rankme_centred", "… without the mean", "{:.1f}", "directions in which rows differ"),
    ("alpha_req", "decay of the spectrum (α-ReQ)", "{:z.2f}", "best near 1; higher: few directions carry all"),
    ("participation_ratio", "participation ratio", "{:.1f}", "directions, weighted by variance"),
    ("top_share", "variance on the first component", "{:.1%}", ""),
    ("dead_dimensions", "dead dimensions", "{:.0f}", "of {n_dims:.0f}"),
    ("std_median", "median SD of a dimension", "{:.4g}", "{std_least:.3g} to {std_largest:.3g}"),
    ("mean_cosine", "mean cosine of two rows", "{:.4f}", "1: all point one way"),
    ("sensitivity_phase", "encoder: distance to randomised phases", "{:.3g}", IN_PRETRAINING),
    ("sensitivity_zero", "encoder: distance to an empty scan", "{:.3g}", IN_PRETRAINING),
)
"""Name of the number, what it is, how it is printed, how it reads."""

OF_VIEWS = (
    ("identification", "subjects found again {seen}", "{:.1%}", "by chance {chance:.1%}; {n:.0f} subjects"),
    ("identification_within_site", "… among those of their site", "{:.1%}", "by chance {within:.1%}; no scanner helps"),
    ("identification_centred", "… after subtracting the mean", "{:.1%}", "by chance {chance:.1%}"),
    ("i_diff", "I_diff {seen}", "{:z.2f}", "own vectors' correlation above others', x 100"),
    ("i_diff_within_site", "… within sites", "{:z.2f}", ""),
    ("i_diff_centred", "… after subtracting the mean", "{:z.2f}", ""),
    ("icc_consistency_median", "median ICC(3,1) {seen}", "{:z.2f}", "{poor:.0%} of dimensions are poor"),
    ("icc_agreement_median", "… ICC(2,1)", "{:z.2f}", "shifts that all subjects share count too"),
    (
        "lidar",
        "rank of what tells subjects apart (LiDAR) {seen}",
        "{:.1f}",
        "of {most:.0f}; how many directions, not how much",
    ),
)
"""The same of numbers that end in the name of the views."""

NUISANCE = (
    ("site_balanced_accuracy", "sites told, balanced accuracy", "{:z.3f}", SITE_BY_CHANCE),
    ("site_balanced_accuracy_before", "… before the adjustment, same rows", "{:z.3f}", SITE_BY_CHANCE),
    ("site_balanced_accuracy_new_before", "… in scans not learnt from, before", "{:z.3f}", OF_FIT),
    ("site_balanced_accuracy_new_after", "… in scans not learnt from, after", "{:z.3f}", OF_NEW),
    ("mean_fd_r2", "motion told, R²", "{:z.3f}", "0 or less: nothing"),
    ("mean_fd_r2_before", "… before the adjustment, same rows", "{:z.3f}", ""),
    ("mean_fd_r2_new_before", "… in scans not learnt from, before", "{:z.3f}", OF_FIT),
    ("mean_fd_r2_new_after", "… in scans not learnt from, after", "{:z.3f}", OF_NEW),
)


def lines(quality: Quality) -> list[Line]:
    """Return all numbers that there are, with how they are to be read."""
    values = quality.values
    n_rows, n_dims = quality.sample.vectors.shape
    told = [_line(values, *row, {"most": min(n_rows, n_dims)}) for row in GEOMETRY]
    for name in VIEWS:
        beside = {
            "seen": SEEN[name],
            "chance": values.get(f"identification_chance_{name}", 0.0),
            "within": values.get(f"identification_within_site_chance_{name}", 0.0),
            "poor": values.get(f"icc_poor_share_{name}", 0.0),
            "n": (n := values.get(f"n_subjects_{name}", 0.0)),
            "most": min(n - 1, n_dims),
        }
        told += [
            _line(values, f"{number}_{name}", title.format(**beside), form, reads, beside)
            for number, title, form, reads in OF_VIEWS
        ]
    told += [_line(values, *row) for row in NUISANCE]
    if quality.against is not None:
        title = f"debiased CKA with {quality.against.label}"
        told.append(_line(values, "debiased_cka", title, "{:.4f}", "1: alike; 0: unrelated"))
    return [one for one in told if one is not None]


def _line(
    values: dict[str, float], name: str, title: str, form: str, reads: str, beside: dict[str, object] | None = None
) -> Line | None:
    if name not in values:
        return None
    return Line(title, form.format(values[name]), reads.format(**values | (beside or {})))
