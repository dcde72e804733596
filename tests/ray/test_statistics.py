"""A cohort's statistics: those of its training scans, whatever its shards; they travel with models."""

import json

import numpy as np
import pytest

from boldstream.analysis.roi_statistics import QUANTILES, RoiStatistics
from boldstream.artifacts.cohort import STATISTICS, iter_timeseries, open_cohort
from boldstream.artifacts.gradient import open_gradient
from boldstream.cohort_statistics import statistics_of
from boldstream.errors import CohortError
from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.registry import download_model
from boldstream.shift import ShiftConfig, write_shift
from boldstream.storage import local_path
from synthetic import ingest_config, series, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def carried_by(ref, warehouse):
    return RoiStatistics.from_bytes(open_cohort(ref.pointer, warehouse).statistics())


def test_statistics__are_those_of_the_training_scans_and_tell_a_shift(study, tmp_path):
    write_study(tmp_path, [f"{i:02d}" for i in range(20)])
    config = ingest_config(tmp_path, split={"holdout": 0.2})
    ref = ingest_cohort(config)
    cohort = open_cohort(ref.pointer, config.warehouse)
    told = cohort.manifest.content["statistics"]
    assert (told["n_scans"], told["n_subjects"], len(told["held_out_subjects"])) == (16, 16, 4)
    found = carried_by(ref, config.warehouse)

    rows = cohort.table.iceberg.scan().to_arrow().combine_chunks()
    out = [subject in told["held_out_subjects"] for subject in rows["subject"].to_pylist()]
    kept = [x.astype(np.float64) for x, is_out in zip(iter_timeseries(rows), out, strict=True) if not is_out]
    values = np.concatenate(kept)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.sd, values.std(axis=0), rtol=1e-9)
    assert (abs(found.quantiles - np.quantile(values, QUANTILES, axis=0)) < 0.02 * found.sd).all()
    low, high = (np.quantile([x.mean(axis=0) for x in kept], QUANTILES, axis=0, method=m) for m in ("lower", "higher"))
    assert (found.scan_mean_quantiles >= low - 1e-2 * found.sd).all()
    assert (found.scan_mean_quantiles <= high + 1e-2 * found.sd).all()

    other = ingest_cohort(config.model_copy(update={"output": "other", "shard_size": 7}))
    again = carried_by(other, config.warehouse)
    np.testing.assert_array_equal(found.quantiles, again.quantiles)
    np.testing.assert_allclose(found.z_sum, again.z_sum, rtol=1e-12)

    light = cohort.table.column(["scan_key", "subject"]).to_pylist()
    trained = [scan["scan_key"] for scan in light if scan["subject"] not in told["held_out_subjects"]]
    assert statistics_of(cohort, trained).to_bytes() == cohort.statistics()
    few = np.concatenate(kept[:5])
    keys = [key for key, is_out in zip(rows["scan_key"].to_pylist(), out, strict=True) if not is_out][:5]
    np.testing.assert_allclose(statistics_of(cohort, keys).mean, few.mean(axis=0), rtol=1e-12)

    # the gradient of the training scans is that of a cohort of them
    held = set(told["held_out_subjects"])
    for subject in held:
        (tmp_path / "scans" / f"sub-{subject}.csv").unlink()
    smaller = ingest_cohort(config.model_copy(update={"output": "smaller", "split": config.split}))
    known = {"n_components": 3, "warehouse": config.warehouse}
    first = fit_gradient(GradientConfig(output="training", cohort=ref.pointer, scans="training", **known))
    second = fit_gradient(GradientConfig(output="all", cohort=smaller.pointer, **known))
    values = [open_gradient(one.pointer, config.warehouse).values for one in (first, second)]
    np.testing.assert_allclose(*values, atol=1e-9)

    # they go with a model, which tells what is unlike them
    of_these = {"output": "travels", "cohort": ref.pointer, "gradient": first.pointer, "warehouse": config.warehouse}
    model = pretrain(PretrainConfig(**study.pretrain | of_these))
    carried = download_model(model, tmp_path / "model") / STATISTICS
    assert RoiStatistics.from_bytes(carried.read_bytes()).n_scans == 20  # it holds nobody out
    write_study(tmp_path / "new", [f"{i:02d}" for i in range(12)])
    for i in range(12):
        write_scan(tmp_path / "new" / "scans", f"{i:02d}", series(100 + i) * np.where(np.arange(8) == 2, 5, 1))
    turned = series(50)[:, [3, 7, 0, 5, 1, 6, 2, 4]]
    write_scan(tmp_path / "new" / "scans", "11", turned)
    ingest_cohort(ingest_config(tmp_path / "new", output="new", t_r=1.0, warehouse=config.warehouse))
    page = write_shift(
        ShiftConfig(cohort="new", model=model.pointer, output=str(tmp_path / "shift"), warehouse=config.warehouse)
    )
    numbers = json.loads((local_path(page.uri).parent / "shift.json").read_text())
    third = next(line for line in numbers["regions"] if line["roi"] == "R3")
    assert third["off"]
    new = open_cohort("new", config.warehouse)
    light = new.table.iceberg.scan().to_arrow().combine_chunks()
    left_out = new.manifest.content["statistics"]["held_out_subjects"]
    subjects = light["subject"].to_pylist()
    own = [x[:, 2] for x, who in zip(iter_timeseries(light), subjects, strict=True) if who not in left_out]
    known = [x[:, 2] for x in iter_timeseries(rows)]  # the model held nobody out
    low, middle, high = np.quantile(np.concatenate(known), (0.25, 0.5, 0.75))
    own_low, own_middle, own_high = np.quantile(np.concatenate(own), (0.25, 0.5, 0.75))
    assert third["iqr"] == pytest.approx((own_high - own_low) / (high - low), rel=0.03)
    assert third["median"] == pytest.approx((own_middle - middle) / (high - low), rel=0.03)
    assert 0 < numbers["connectivity"]["difference"] < 1
    assert "Mean connectivity correlates" in local_path(page.uri).read_text()
    assert [scan["scan_key"] for scan in numbers["scans"] if scan["similarity"] < 0.2] == ["sub-11"]
    assert numbers["notes"] == ["Repetition times 1 s do not occur in training (2 s)."]
    assert "differs from the scans that models:/travels/1 was trained on" in local_path(page.uri).read_text()

    # what was changed behind the cohort's back is noticed
    (beside,) = (local_path(ref.uri) / "versions").glob("v1-statistics-*.npz")
    beside.write_bytes(beside.read_bytes()[:-1])
    with pytest.raises(CohortError, match=r"v1-statistics-\w{12}\.npz: has another sha256 than cohort study@1 tells"):
        cohort.statistics()
