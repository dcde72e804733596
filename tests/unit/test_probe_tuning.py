import pytest

from boldstream.errors import ResultsError
from boldstream.probe.compare import pairs_of
from boldstream.probe.spec import TrialSpec
from boldstream.probe.tuning import TrialWatch


def spec_of(representation, target="age", role="baseline", head="ridge"):
    known = {"target": target, "kind": "continuous", "representation": representation, "role": role, "source": None}
    known |= {"head": head, "options": {}, "bootstrap": 100, "seed": 0, "folds_id": "f", "inputs": ("a",)}
    return TrialSpec.model_validate(known)


def test_trials__that_are_done_are_told_before_the_one_that_cannot_be_run():
    told = []
    watch = TrialWatch(told.append, told.clear)
    watch.see(spec_of("fc").model_dump(mode="json"), "")
    watch.tell()
    assert told == [spec_of("fc")]
    watch.see(spec_of("mean").model_dump(mode="json"), "")
    watch.see(spec_of("tangent").model_dump(mode="json"), "no room")
    watch.see(spec_of("moments").model_dump(mode="json"), "later")
    with pytest.raises(ResultsError, match=r"^age from tangent by ridge: no room$"):
        watch.tell()
    assert told == [spec_of("fc"), spec_of("mean")]


def test_pairs__are_of_tables_with_all_and_by_first_heads():
    ours = [spec_of("ours", role="embedding"), spec_of("ours", role="embedding", head="knn")]
    specs = [*ours, spec_of("twin", role="embedding"), spec_of("fc"), spec_of("mean"), spec_of("fc", target="sex")]
    named = [(first.representation, first.head, second.representation) for first, second in pairs_of(specs)]
    assert named == [
        ("ours", "ridge", "twin"),
        ("ours", "ridge", "fc"),
        ("ours", "ridge", "mean"),
        ("twin", "ridge", "fc"),
        ("twin", "ridge", "mean"),
    ]
