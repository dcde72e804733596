"""Heads by the names that configurations use."""

from typing import Literal

from sklearn.base import BaseEstimator

from boldstream.analysis.baselines import MeanHead
from boldstream.analysis.heads.linear_classifiers import LogisticHead, SvmHead
from boldstream.analysis.heads.mlp import MlpHead
from boldstream.analysis.heads.neighbours import NeighboursHead
from boldstream.analysis.heads.prototypes import PrototypeHead
from boldstream.analysis.heads.ridge import KernelRidgeHead, RidgeHead
from boldstream.analysis.nested import TargetKind

HeadName = Literal["mean", "ridge", "kernel_ridge", "logistic", "svm", "prototype", "knn", "mlp", "attention"]


def make_head(name: HeadName, kind: TargetKind, *, seed: int = 0) -> BaseEstimator:
    """Return a head with its default choices, not fitted.

    Parameters
    ----------
    name : str
        Of `HeadName`; ``mean`` is the baseline that knows nothing, ``attention`` reads regions' latents.
    kind : {"continuous", "binary", "multiclass"}
    seed : int
        Of the multilayer perceptron; the others draw nothing.

    Raises
    ------
    ValueError
        For a classifier on a continuous target, and for other names.
    """
    classifiers = {"logistic": LogisticHead, "svm": SvmHead, "prototype": PrototypeHead}
    if name in classifiers:
        if kind == "continuous":
            raise ValueError(f"{name} tells classes apart, the target is {kind}; use ridge, kernel_ridge, knn or mlp")
        return classifiers[name]()
    makers = {"mean": MeanHead, "ridge": RidgeHead, "kernel_ridge": KernelRidgeHead, "knn": NeighboursHead}
    if name == "attention":
        from boldstream.analysis.heads.attention import AttentionHead  # torch takes seconds to import

        return AttentionHead(kind)
    if name == "mlp":
        return MlpHead(kind, seed=seed)
    if name not in makers:
        raise ValueError(f"heads are {', '.join([*makers, *classifiers, 'mlp', 'attention'])}, got {name!r}")
    return makers[name]()
