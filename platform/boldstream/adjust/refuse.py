"""Rows that an adjustment cannot be applied to: the run is refused, or the rows are."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.analysis.adjustment import Refusal
from boldstream.artifacts.embeddings import REFUSALS_SCHEMA
from boldstream.errors import AdjustmentError, few_of

N_NAMED = 5
REMEDY = {
    "missing_covariate": "fill them in the participants table, or say how with impute",
    "unseen_site": "take unseen_site: pooled or reference, or fit with scans of the site",
    "unseen_level": "correct it in the participants table, or fit with such scans",
}


def refuse(refusals: Sequence[Refusal], rows: pa.Table, what: Literal["run", "scan"]) -> NDArray[np.bool_]:
    """Return which rows are refused; with ``run``, none may be.

    Raises
    ------
    AdjustmentError
        Listing how many lack what, and which.
    """
    refused = np.zeros(rows.num_rows, dtype=bool)
    for one in refusals:
        refused |= one.rows
    if refused.any() and what == "run":
        told = "; ".join(_describe(one, rows) for one in refusals)
        remedies = "; ".join(dict.fromkeys(REMEDY[one.reason] for one in refusals))
        raise AdjustmentError(
            f"{refused.sum()} of {len(refused)} rows cannot be adjusted ({told}); {remedies}; or set them aside with "
            "refuse: scan"
        )
    return refused


def _describe(refusal: Refusal, rows: pa.Table) -> str:
    keys = rows["row_key"].filter(pa.array(refusal.rows)).slice(0, N_NAMED).to_pylist()
    rest = [""] * (int(refusal.rows.sum()) - len(keys))
    return f"{refusal.message} in {len(keys) + len(rest)}: {few_of([*keys, *rest], N_NAMED)}"


def quarantine_rows(refusals: Sequence[Refusal], rows: pa.Table) -> pa.Table:
    """Return the refused rows as the quarantine table has them, each once with all that it lacks."""
    refused = np.zeros(rows.num_rows, dtype=bool)
    for one in refusals:
        refused |= one.rows
    places = np.flatnonzero(refused)
    chosen = rows.take(pa.array(places))
    lacks = [[one for one in refusals if one.rows[place]] for place in places]
    known = {
        "scan_key": chosen["row_key"],
        "room": ["adjust"] * len(places),
        "reason": [found[0].reason for found in lacks],
        "message": ["; ".join(one.message for one in found) for found in lacks],
        "scan_digest": chosen["scan_digest"],
    }
    columns = [known[f.name] if f.name in known else pa.nulls(len(places), f.type) for f in REFUSALS_SCHEMA]
    return pa.table([pa.chunked_array([c]) if isinstance(c, pa.Array) else c for c in columns], schema=REFUSALS_SCHEMA)
