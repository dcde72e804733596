import numpy as np
import pandas as pd
import pytest
from nilearn.connectome import ConnectivityMeasure

from boldstream.analysis.baselines import (
    Connectivity,
    MeanHead,
    RegionMoments,
    TangentConnectivity,
    confounds_only,
    reduced_connectivity,
)
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.linear_classifiers import LogisticHead
from boldstream.analysis.heads.ridge import KernelRidgeHead, RidgeHead
from boldstream.analysis.nested import predict_nested, score

N_ROIS = 6


def scans(n=12, seed=0):
    """Scans of uneven length; whoever is odd has her first two regions coupled."""
    rng = np.random.default_rng(seed)
    found = []
    for at in range(n):
        values = rng.normal(size=(60 + at, N_ROIS)) * np.arange(1, N_ROIS + 1) + 10
        if at % 2:
            values[:, 1] = values[:, 0] + 0.5 * values[:, 1]
        found.append(values.astype(np.float32))
    return found


def test_connectivity__is_fishers_z_of_pairs():
    found = scans()
    z = Connectivity().fit_transform(found)
    upper = np.triu_indices(N_ROIS, 1)
    np.testing.assert_allclose(z[3], np.arctanh(np.corrcoef(found[3].T)[upper]), rtol=1e-4)
    flat = found[0].copy()
    flat[:, 2] = 7
    np.testing.assert_array_equal(Connectivity().fit([flat]).transform([flat])[0, [1, 5, 9, 10, 11]], 0)
    flat[:, 1] = flat[:, 0]
    assert np.isfinite(Connectivity().fit_transform([flat])).all()


def test_region_moments__are_mean_and_log_variance():
    found = scans()
    moments = RegionMoments().fit(found)
    x = moments.transform(found)
    np.testing.assert_allclose(x[4, :N_ROIS], found[4].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(x[4, N_ROIS:], np.log(found[4].var(axis=0)), rtol=1e-4)
    flat = found[0].copy()
    flat[:, 2] = 7
    assert moments.transform([flat])[0, N_ROIS + 2] == pytest.approx(x[:, N_ROIS:].min())
    assert np.isfinite(RegionMoments().fit_transform([np.ones((5, 2))])).all()


def test_tangent__is_nilearns_around_the_training_scans():
    found = scans()
    ours = TangentConnectivity().fit(found[:8])
    standard = [(x - x.mean(axis=0)) / x.std(axis=0) for x in (scan.astype(np.float64) for scan in found)]
    theirs = ConnectivityMeasure(kind="tangent", vectorize=True, standardize=False).fit(standard[:8])
    np.testing.assert_allclose(ours.transform(found[8:]), theirs.transform(standard[8:]), atol=1e-9)
    assert ours.transform(found).shape == (12, N_ROIS * (N_ROIS + 1) // 2)
    # the training scans' own mean is the origin, another training set has another one
    inside, others = (np.abs(ours.transform(which).mean(axis=0)).max() for which in (found[:8], found[1::2]))
    assert inside < 1e-6 < 0.1 < others


def test_tangent__takes_constant_regions():
    found = scans()
    found[2][:, 3] = 0
    assert np.isfinite(TangentConnectivity().fit_transform(found)).all()


def test_reduced_connectivity__has_the_embeddings_dimensions_where_there_are_so_many():
    found = scans()
    assert reduced_connectivity(4, n_train=12).fit_transform(found).shape == (12, 4)
    assert reduced_connectivity(512, n_train=12).fit_transform(found).shape == (12, 11)
    with pytest.raises(ValueError, match="0 components of 12 training scans"):
        reduced_connectivity(0, n_train=12)


def test_confounds_only__takes_numbers_and_names_and_sites_not_seen():
    covariates = pd.DataFrame({"age": [20.0, 30.0, 40.0], "site": ["a", "b", "a"], "sex": ["F", "M", "M"]})
    front = confounds_only(covariates).fit(covariates)
    x = front.transform(covariates)
    assert x.shape == (3, 5)
    np.testing.assert_allclose(x[:, 0], (np.arange(3) - 1) / np.std([0, 1, 2]))
    new = front.transform(covariates.assign(site="z"))
    np.testing.assert_array_equal(new[:, 1:3], 0)
    lacking = covariates.assign(age=[1.0, np.nan, 2.0], sex=["F", None, "M"])
    with pytest.raises(ValueError, match="covariates are missing in age, sex; leave these rows out"):
        confounds_only(lacking)


def test_mean_head__predicts_the_mean():
    head = MeanHead().fit(np.zeros((3, 2)), [0, 1, 1])
    np.testing.assert_allclose(head.predict(np.zeros((2, 2))), 2 / 3)


@pytest.mark.parametrize("front", [Connectivity(), RegionMoments(), TangentConnectivity()])
def test_baselines__refuse_other_regions(front):
    fitted = front.fit(scans())
    with pytest.raises(ValueError, match=r"with 6 regions, got \[5\]"):
        fitted.transform([scan[:, :5] for scan in scans()])
    with pytest.raises(ValueError, match=r"with the same regions, got \[5, 6\]"):
        front.fit([scans()[0], scans()[0][:, :5]])
    with pytest.raises(ValueError, match=r"with the same regions, got \[-1\]"):
        front.fit([np.ones(3)])


def test_baselines__go_through_nested_folds_like_vectors():
    found = scans(60)
    target = np.arange(60) % 2
    frame = pd.DataFrame({"scan": np.arange(60), "subject": np.arange(60)})
    folds = nested_folds(frame, target, n_folds=3, n_inner=3)
    least = min(len(split.train) for split in folds.splits())
    for front, head in (
        (Connectivity(), LogisticHead()),
        (Connectivity(), KernelRidgeHead("correlation")),
        (TangentConnectivity(), RidgeHead()),
        (reduced_connectivity(5, least), LogisticHead()),
    ):
        coupled = predict_nested(found, target, folds, head, kind="binary", front=front)
        assert score(coupled, "binary")["auroc"] > 0.95
    amplitudes = predict_nested(found, target, folds, RidgeHead(), kind="binary", front=RegionMoments())
    assert score(amplitudes, "binary")["auroc"] > 0.95  # the coupled region is larger
    confounds = pd.DataFrame({"age": np.arange(60.0), "sex": np.where(target, "F", "M")})
    alone = predict_nested(confounds, target, folds, LogisticHead(), kind="binary", front=confounds_only(confounds))
    assert score(alone, "binary")["auroc"] == 1
