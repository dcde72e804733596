"""ComBat against neuroCombat 0.2.12, whose tolerance was made 1e-10: three sites, two covariates that are kept."""

import json
from pathlib import Path

import numpy as np

from boldstream.analysis.harmonize import ComBat

CASE = json.loads((Path(__file__).parent / "cases" / "combat.json").read_text())


def test_combat__is_neurocombat():
    x = np.array(CASE["x"])
    covariates = {name: np.array(CASE[name]) for name in ("site", "age", "sex")}
    found = ComBat(keep=("age", "sex")).fit_transform(x, covariates=covariates)
    np.testing.assert_allclose(found, CASE["expected"], atol=1e-6)
