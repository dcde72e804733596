import dataclasses

import numpy as np
import pandas as pd
import pytest

from boldstream.analysis.folds import nested_folds
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.leakage import check_out_of_fold
from boldstream.analysis.metrics import macro_auc
from boldstream.analysis.steps import AttentionStep, Impute, ResidualizeStep
from boldstream.analysis.targets import TargetSpec
from boldstream.probe.config import FoldSpec
from boldstream.probe.frames import join_predictions, make_frames, prediction_rows
from boldstream.probe.outcome import is_done, read_outcome, write_outcome
from boldstream.probe.spec import TrialSpec
from boldstream.probe.targets import read_target
from boldstream.probe.trial import TargetMaterial, front_of, input_rows, permutations_of, run_trial
from latents import latents_of

N, N_DIMS = 60, 5
RESIDUALIZE = ResidualizeStep(step="residualize", covariates=("site", "mean_fd"))


def study(seed=0, strength=1.0):
    """People of three sites whose vectors hold the target, the site and motion."""
    rng = np.random.default_rng(seed)
    site = rng.choice(["A", "B", "C"], N)
    fd = rng.gamma(2, 0.1, N)
    y = rng.normal(size=N)
    x = rng.normal(size=(N, N_DIMS))
    x[:, 0] += strength * 2 * y
    x[:, 1] += 5 * (site == "A") + 10 * fd
    covariates = pd.DataFrame(
        {"site": site, "mean_fd": fd, "sex": rng.choice(["F", "M"], N), "age": rng.uniform(20, 60, N)}
    )
    return x.astype(np.float32), y, covariates


def material_of(y, covariates, n_repeats=1):
    people = pd.DataFrame({"scan": [f"s{i}" for i in range(len(y))], "subject": np.arange(len(y)).astype(str)})
    folds = nested_folds(people.assign(site=covariates["site"]), y, n_folds=3, n_inner=3, n_repeats=n_repeats)
    sites = covariates["site"].to_numpy()
    return TargetMaterial(np.arange(len(y)), y, folds, covariates, people["subject"].to_numpy(), None, sites)


def spec_of(target, **values):
    known = {"target": "t", "kind": "continuous", "representation": "ours", "role": "embedding", "source": "ours"}
    known |= {"head": "ridge", "options": {"alphas": (0.01, 1.0, 100.0)}, "standardise": True, "bootstrap": 100}
    return TrialSpec.model_validate(known | {"seed": 0, "folds_id": target.folds.id, "inputs": ("a",)} | values)


@pytest.mark.parametrize("steps", [(), (RESIDUALIZE,)])
@pytest.mark.parametrize("representation", ["ours", "fc_reduced"])
def test_trial__sees_nothing_of_test_rows(steps, representation):
    """The canary on the room's own pipeline: whatever is fitted, is fitted without the fold that is predicted."""
    x, y, covariates = study()
    folds = material_of(y, covariates).folds

    def predict(vectors, targets):
        shown = dataclasses.replace(material_of(y, covariates), y=targets)
        spec = spec_of(shown, steps=steps, representation=representation, components=3)
        return run_trial(spec, shown, vectors).predictions.predicted

    def careless(vectors, targets):
        strongest = np.argsort(-np.abs(np.corrcoef(vectors.T, targets)[:-1, -1]))[:3]
        return predict(vectors[:, strongest], targets)

    check_out_of_fold(predict, x.astype(np.float64), y, folds)
    with pytest.raises(ValueError, match=r"the target leaks|fitted to test rows"):
        check_out_of_fold(careless, x.astype(np.float64), y, folds)


def test_trial__of_permuted_targets_is_at_chance_and_of_planted_ones_is_not():
    x, y, covariates = study()
    target = material_of(y, covariates, n_repeats=2)
    found = run_trial(spec_of(target, permutations=99, steps=(RESIDUALIZE,)), target, x)
    assert found.estimates["r2"].low > 0.3
    assert found.p == pytest.approx(1 / 100)
    shuffled = np.random.default_rng(1).permutation(y)
    lost = material_of(shuffled, covariates, n_repeats=2)
    found = run_trial(spec_of(lost, permutations=99, steps=(RESIDUALIZE,)), lost, x)
    assert found.estimates["r2"].value < 0.1
    assert found.p > 0.05


def classes_of(y, covariates):
    """Three classes by a target's terciles, as the room reads them."""
    names = np.array(["low", "middle", "high"])[np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))]
    scans = covariates.assign(subject=[f"s{i}" for i in range(N)], dx=names, site=covariates["site"])
    folds = FoldSpec(n_folds=3, n_inner=3, n_repeats=2)
    read = read_target(TargetSpec(column="dx"), scans.rename_axis("scan_key"), folds)
    sites = covariates["site"].to_numpy()
    return read, TargetMaterial(read.rows, read.y, read.folds, covariates, scans["subject"].to_numpy(), None, sites)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_trial__of_three_classes_is_scored_permuted_and_stored(head, tmp_path):
    x, y, covariates = study()
    read, target = classes_of(y, covariates)
    spec = spec_of(target, kind="multiclass", head=head, options={}, permutations=19, steps=(RESIDUALIZE,))
    found = run_trial(spec, target, x)
    assert set(found.estimates) == {"auroc", "balanced_accuracy", "auprc", "brier"}
    assert found.estimates["auroc"].low > 0.7
    assert found.p == pytest.approx(1 / 20)
    folder = f"file://{tmp_path}"
    write_outcome(folder, spec, found)
    again = read_outcome(folder, spec)
    assert again.estimates == found.estimates
    rows = make_frames([spec], {spec.key: again}, {"t": read}, [])["predictions"]
    assert len(rows) == 2 * N
    one = rows[rows["repeat"] == 1].reset_index(drop=True)
    np.testing.assert_array_equal(np.stack(one["probabilities"]), found.predictions.probability[:, 1])
    # what metrics are of can be computed from the stored rows
    decisions = np.stack(one["decisions"])
    by_fold = macro_auc(one["y"].to_numpy(), decisions, one["fold"].to_numpy())
    other = macro_auc(read.y, found.predictions.predicted[:, 0], found.predictions.fold[:, 0])
    assert (by_fold + other) / 2 == pytest.approx(found.estimates["auroc"].value)
    np.testing.assert_array_equal(one["predicted"], decisions.argmax(axis=1))
    picked = np.stack(one["probabilities"])[np.arange(N), one["predicted"].astype(int)]
    np.testing.assert_array_equal(one["probability"], picked)
    beside = prediction_rows(spec_of(target), run_trial(spec_of(target), target, x).predictions, read)
    both = join_predictions([beside, rows])
    assert both["probabilities"].isna().sum() == len(beside)
    assert both["probabilities"][0] is None


def test_permutations__stay_within_sites_and_keep_what_confounds_tell():
    _, _, covariates = study()
    y = 3.0 * (covariates["site"] == "A").to_numpy() + 0.01 * np.random.default_rng(0).normal(size=N)
    target = material_of(y, covariates)
    drawn = permutations_of(spec_of(target, permutations=9), target)
    for site in "ABC":
        rows = (covariates["site"] == site).to_numpy()
        np.testing.assert_allclose(np.sort(drawn[rows], axis=0), np.sort(y[rows])[:, None].repeat(9, axis=1))
    free = dataclasses.replace(target, blocks=None)
    assert np.corrcoef(permutations_of(spec_of(target, permutations=9), free)[:, 0], y)[0, 1] < 0.9
    kept = permutations_of(spec_of(target, permutations=9, steps=(RESIDUALIZE,)), free)
    assert np.corrcoef(kept[:, 0], y)[0, 1] > 0.99


def test_baselines__read_what_they_are_named_after():
    _, y, covariates = study()
    covariates.loc[0, "sex"], covariates.loc[1, "mean_fd"] = None, np.nan
    target = material_of(y, covariates)
    spec = spec_of(target, representation="confounds", source=None, confounds=("sex", "mean_fd"), options={})
    rows = input_rows(spec, target, None)
    assert rows["sex"][0] == ""
    found = run_trial(spec, target, None)
    assert np.isfinite(found.predictions.predicted).all()
    assert found.n_dims == 2
    nothing = run_trial(spec_of(target, representation="mean", source=None, head="mean", options={}), target, None)
    assert nothing.estimates["r2"] == (0, 0, 0)
    series = [np.random.default_rng(i).normal(size=(30, 4)) for i in range(N)]
    tangent = run_trial(spec_of(target, representation="tangent", source="series"), target, series)
    moments = run_trial(spec_of(target, representation="moments", source="series"), target, series)
    assert (tangent.n_dims, moments.n_dims) == (10, 8)
    adjusted = spec_of(target, representation="moments", source="series", steps=(RESIDUALIZE,))
    front = front_of(adjusted, series, target)
    assert isinstance(front, AdjustedFeatures)
    filled = adjusted.model_copy(update={"impute": Impute(mean_fd="median")})
    assert np.isfinite(run_trial(filled, target, series).predictions.predicted).all()
    with pytest.raises(ValueError, match="covariate 'mean_fd' is missing in"):
        run_trial(adjusted, target, series)


def test_outcome__comes_back_as_it_was_and_is_named_after_all_that_it_depends_on(tmp_path):
    x, y, covariates = study()
    target = material_of(y, covariates)
    spec = spec_of(target)
    folder = f"file://{tmp_path}"
    assert not is_done(folder, spec)
    made = run_trial(spec, target, x)
    write_outcome(folder, spec, made)
    assert is_done(folder, spec)
    found = read_outcome(folder, spec)
    for one, other in zip(found.predictions, made.predictions, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.estimates == made.estimates
    assert np.isnan(found.p)
    changed = [{"inputs": ("b",)}, {"seed": 1}, {"options": {}}, {"steps": (RESIDUALIZE,)}, {"bootstrap": 200}]
    changed += [{"permutations": 9}, {"head": "knn", "options": {}}, {"version": "0"}, {"folds_id": "other"}]
    keys = [spec.key, *(spec_of(target, **one).key for one in changed)]
    assert len(set(keys)) == len(keys)
    # what is asked first does not change what is answered
    assert spec_of(target, role="baseline").key == spec.key


def test_spec__tells_its_front_in_words():
    _, y, covariates = study()
    target = material_of(y, covariates)
    assert spec_of(target).front == "standardised"
    assert spec_of(target, standardise=False).front == "none"
    told = spec_of(target, representation="fc_reduced", components=3, steps=(RESIDUALIZE,), standardise=False)
    assert told.front == "3 components; residualize: site, mean_fd"


def test_trial_behind_a_query__sees_nothing_of_test_rows():
    """The canary again, where a step does read the target: that of training rows."""
    _, y, covariates = study()
    latents = latents_of(y, 5, N_DIMS, np.random.default_rng(0))
    folds = material_of(y, covariates).folds
    steps = (AttentionStep(step="attention", target="t", epochs=(0, 10)), RESIDUALIZE)

    def predict(vectors, targets):
        shown = dataclasses.replace(material_of(y, covariates), y=targets)
        spec = spec_of(shown, steps=steps, source="ours_attention")
        outcome = run_trial(spec, shown, vectors.reshape(latents.shape))
        assert outcome.n_dims == N_DIMS
        return outcome.predictions.predicted

    check_out_of_fold(predict, latents.reshape(N, -1).astype(np.float64), y, folds)
