"""The transfer of the probe room without Ray: what is asked, who is on which side, and what is said of it."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from boldstream.analysis.transfer_shift import Overlap, VectorShift
from boldstream.artifacts.results import CONTESTS, PREDICTIONS, SCHEMAS, SCORES
from boldstream.errors import ConfigError, ResultsError
from boldstream.probe.config import ProbeConfig
from boldstream.probe.material import Material
from boldstream.probe.spec import TrialSpec
from boldstream.probe.transfer.config import Condition
from boldstream.probe.transfer.frames import Transfer, make_transfer_frames
from boldstream.probe.transfer.picture import draw_transfer
from boldstream.probe.transfer.sides import read_halves, read_sides
from boldstream.probe.transfer.trial import run_transfer
from boldstream.probe.transfer.wording import write_transfer_sentences

N, D = 120, 6
WEIGHT = np.random.default_rng(5).normal(size=D)


def config(**values):
    known = {"output": "t", "tables": {"ours": "ours"}, "targets": ["age", "sex"], "warehouse": "nowhere"}
    known |= {"folds": {"n_folds": 3, "n_inner": 3, "n_repeats": 1}, "bootstrap": 100}
    known |= {"transfer": {"target": [{"column": "site", "values": ["D"]}]}}
    return ProbeConfig.from_mapping(known | values, where="run.yaml")


def material(offset=0.0, seed=0, name="sub", table="ours"):
    """Scans at four sites; age and sex are in the vectors, site D's scanner offsets them."""
    rng = np.random.default_rng(seed)
    age, male = rng.uniform(10, 40, N), rng.integers(0, 2, N)
    vectors = rng.normal(size=(N, D)) + np.outer((age - 25) / 5, WEIGHT) + np.outer(male, WEIGHT[::-1])
    site = np.array(list("ABCD") * (N // 4))
    vectors += offset * (site == "D")[:, None]
    keys = [f"{name}-{i:03d}" for i in range(N)]
    scans = pd.DataFrame({"subject": keys, "site": site, "age": age, "sex": np.where(male, "M", "F")}, index=keys)
    scans = scans.assign(group=np.array(["young", "adult", "old"])[np.digitize(age, [20, 30])])
    scans = scans.assign(mean_fd=rng.gamma(2, 0.1, N), t_r=np.where(site == "D", 2.5, 2.0)).rename_axis("scan_key")
    content = {"model_digest": "m0", "model": "models:/m/1"}
    opened = SimpleNamespace(manifest=SimpleNamespace(content=content), label=f"{table}@1")
    return Material(
        scans=scans,
        tables={table: opened},
        vectors={table: vectors.astype(np.float32)},
        latents={},
        parts={table: 1},
        left_out={table: 0},
        n_sampled_from=N,
        cohort=None,
    )


def made_of(offset, asked=None, head="ridge", **values):
    """Transfers of a table, and of a baseline that knows nothing, from sites A to C to site D."""
    told = config(**values) if asked is None else asked
    sides = read_sides(told, material(offset))
    found = []
    for source, target in read_halves(told, sides, ()):
        kind = target.target.kind
        common = {
            "target": target.target.name,
            "kind": kind,
            "bootstrap": 100,
            "seed": 0,
            "folds_id": "f",
            "inputs": (),
        }
        for name, role in (("ours", "embedding"), ("mean", "baseline")):
            own = head if role == "embedding" else "mean"
            spec = TrialSpec(
                **common,
                representation=name,
                role=role,
                source=name,
                head=own,
                options={},
                standardise=role == "embedding",
            )
            x, z = (side.vectors["ours"] for side in sides)
            found.append(Transfer(spec, source, target, run_transfer(spec, source, target, x, z, None)))
    return found


def sentences_of(made, overlaps=(), shifts=None):
    frames = make_transfer_frames(made, [])
    return write_transfer_sentences(
        made, frames[SCORES], frames[CONTESTS], overlaps, shifts or {}, ["A note."], config().transfer
    )


def test_sides__are_apart_and_fulfil_their_conditions():
    source, target = read_sides(config(), material())
    assert set(source.scans["site"]) == {"A", "B", "C"}
    assert set(target.scans["site"]) == {"D"}
    np.testing.assert_array_equal(target.vectors["ours"], material().vectors["ours"][3::4])
    young = {"target": [{"column": "age", "high": 18}], "source": [{"column": "age", "low": 20, "high": 30}]}
    source, target = read_sides(config(transfer=young), material())
    assert target.scans["age"].max() <= 18
    assert (source.scans["age"].min() >= 20, source.scans["age"].max() <= 30) == (True, True)


def test_sides__a_missing_value_fulfils_no_condition():
    some = material()
    scans = some.scans.assign(site=some.scans["site"].where(some.scans["site"] != "A"), age=np.nan)
    source, _ = read_sides(config(), dataclasses.replace(some, scans=scans))
    assert source.scans["site"].isna().any()
    asked = {"target": [{"column": "site", "values": ["nan", "D"]}]}
    assert set(read_sides(config(transfer=asked), dataclasses.replace(some, scans=scans))[1].scans["site"]) == {"D"}


@pytest.mark.parametrize(
    ("transfer", "error", "message"),
    [
        (
            {"target": [{"column": "site", "values": ["X"]}]},
            ResultsError,
            r"transfer.target: no scan of ours@1 is left \(site X\)",
        ),
        ({"target": [{"column": "age", "low": 0}]}, ResultsError, r"transfer.source: no scan of ours@1 is left \(all"),
        ({"target": [{"column": "sex", "low": 0}]}, ConfigError, "column 'sex' holds no numbers; name values"),
    ],
)
def test_sides__refuse_conditions_that_leave_nobody(transfer, error, message):
    with pytest.raises(error, match=message):
        read_sides(config(transfer=transfer), material())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"transfer": {"target": [{"column": "site"}]}},
            "a condition on 'site' needs values, or low and high, not both",
        ),
        ({"transfer": {"source": [{"column": "age", "low": 1}]}}, "source: says whom to learn from, and nothing whom"),
        ({"transfer": {"target": [{"column": "age", "low": 1}], "other_people": True}}, "where one name is one person"),
        ({"transfer": {"tables": {"other": "x"}}}, r"transfer.tables: name the same as in tables \(ours\)"),
        ({"attention": True}, "attention: latents are not transferred; ask for them without transfer"),
        ({"permutations": 9}, "permutations: a transfer has no permutation test"),
        ({"adjust": "recipe.yaml"}, "the sites of the cohort that was not seen are unseen: set unseen_site: pooled"),
    ],
)
def test_config__refuses_what_cannot_be_transferred(values, message):
    with pytest.raises(ConfigError, match=message):
        config(**values)


def test_config__says_whether_anything_is_asked():
    assert config().transfer.is_asked
    assert not config(transfer={}).transfer.is_asked
    assert Condition(column="age", low=8, high=16.5).describe() == "age at least 8 and at most 16.5"
    assert Condition(column="site", values=("KKI", "OHSU")).describe() == "site KKI or OHSU"


def test_three_classes__are_carried_over_stored_and_told_of():
    made = made_of(0.0, config(targets=["group"]), head="logistic")
    frames = make_transfer_frames(made, [])
    scores = frames[SCORES].query("representation == 'ours'").set_index("metric")["value"]
    assert scores["auroc"] > 0.7
    assert {"auroc_recentred", "auroc_in_cohort", "brier_recalibrated", "calibration_slope"} <= set(scores.index)
    assert "auroc_recalibrated" not in scores.index
    rows = frames[PREDICTIONS].query("representation == 'ours'")
    assert len(rows) == N // 4
    np.testing.assert_array_equal(np.stack(rows["decisions"]).argmax(axis=1), rows["predicted"])
    # beside it, the class that is most frequent in the source
    source = made[0].source.target
    assert set(rows["null"]) == {float(np.argmax(source.shares))}
    told = " ".join(sentences_of(made)[1])
    assert "group: ours, applied unchanged, " in told
    assert "(AUROC over classes " in told
    assert "group: probabilities of ours are given to the wrong classes by 0." in told
    assert draw_transfer(frames[SCORES])[:4] == b"\x89PNG"


def test_halves__tell_other_people_of_one_name_apart():
    asked = config(transfer={"tables": {"ours": "elsewhere"}, "other_people": True})
    source, target = read_halves(asked, read_sides(config(), material()), ())[0]
    assert source.people["subject"].str.startswith("source ").all()
    assert target.people["subject"].str.startswith("target ").all()
    shared = material()
    scans = shared.scans.assign(subject=[f"s{i // 4}" for i in range(N)])  # each at all four sites
    both = read_sides(config(), dataclasses.replace(shared, scans=scans))
    with pytest.raises(
        ResultsError, match=r"target 'age': 30 subject name\(s\) are in both cohorts .*other_people: true"
    ):
        read_halves(config(), both, ())
    assert read_halves(asked, both, ())[0][0].people["subject"].nunique() == 30


def test_frames__have_the_schemas_columns_and_one_primary_row_each():
    made = made_of(0.0)
    frames = make_transfer_frames(made, [])
    for name in (SCORES, CONTESTS, PREDICTIONS):
        assert list(frames[name].columns) == SCHEMAS[name].names
    scores = frames[SCORES]
    assert scores["primary"].groupby([scores["target"], scores["representation"], scores["head"]]).sum().eq(1).all()
    assert not scores.duplicated(["target", "representation", "head", "metric"]).any()
    own = scores[(scores["representation"] == "ours") & (scores["target"] == "age")].set_index("metric")
    assert {"r2", "r2_source", "r2_recentred", "r2_recalibrated", "r2_in_cohort", "calibration_slope"} < set(own.index)
    assert "r_recalibrated" not in own.index
    nothing = scores[(scores["representation"] == "mean") & (scores["target"] == "age")].set_index("metric")["value"]
    assert nothing["r"] == 0
    assert own.loc["r2", "low"] <= own.loc["r2", "value"] <= own.loc["r2", "high"]
    assert (
        own["scheme"].iloc[0].startswith("transfer: learnt from 90 scans of 90 subjects at 3 sites, penalties chosen")
    )
    assert (own["n_scans"] == 30).all()
    predictions = frames[PREDICTIONS]
    assert (predictions["fold"] == 0).all()
    ours = predictions[(predictions["target"] == "age") & (predictions["representation"] == "ours")]
    assert ours["scan_key"].tolist() == [f"sub-{i:03d}" for i in range(3, N, 4)]
    contests = frames[CONTESTS]
    assert contests["second"].tolist() == [f"{n}, learnt there" for n in ("ours", "mean")] * 2


def test_sentences__say_what_an_offset_costs_and_what_mends_it():
    headline, told = sentences_of(made_of(4.0))
    assert headline.startswith("Learnt from 90 subjects and applied unchanged to 30 others (site D): ours")
    assert re.search(r"It tells less than what is learnt there of age", headline)
    assert told[0].startswith(
        "age: ours, applied unchanged, tells less than what is learnt in the unseen cohort itself"
    )
    text = "\n".join(told)
    assert re.search(r"age: predictions of ours are [\d.]+ too (low|high) on average, and have a slope of", text)
    assert re.search(
        r"age: vectors moved to the source's mean, .* uses the unseen cohort's vectors and no target", text
    )
    assert re.search(r"age: recalibrated out of fold, which uses the unseen cohort's own targets", text)
    assert told[-1] == "A note."


def test_sentences__of_no_shift_claim_no_loss():
    headline, told = sentences_of(made_of(0.0))
    assert "It tells less" not in headline
    assert any(one.startswith("age: ours, applied unchanged, ") and "tells less" not in one for one in told)
    assert headline.count("too few for a claim") == 1


def test_sentences__say_why_it_may_fail():
    rows = np.zeros(30, dtype=bool)
    rows[:12] = True
    overlaps = [
        Overlap("age", 0.4, "20 to 60, median 40", "8 to 16, median 11", 0, rows),
        Overlap("sex", 0.0, "M (9)", "M (3)", 0, ~rows),
    ]
    _, told = sentences_of(
        made_of(0.0), overlaps, {"ours": VectorShift(0.97, 1.3, 0.001, "dimension 3", 0.4), "x": None}
    )
    text = "\n".join(told)
    assert "40% of unseen scans have a age" not in text
    assert (
        "Why it may fail: 40% of unseen scans are beyond the source in age (8 to 16, median 11; source: 20 to 60"
        in text
    )
    assert "in sex" not in text
    assert "tells ours's unseen vectors from the source's with an AUROC of 0.97; dimension 3 differs by 1.30 SD" in text
    assert re.search(
        r"age: the mean error of ours is [\d.]+ where age is beyond the source's range, [\d.]+ within it", text
    )


def test_picture__is_drawn():
    scores = make_transfer_frames(made_of(0.0, head="knn"), [])[SCORES]
    assert draw_transfer(scores).startswith(b"\x89PNG")


def test_trial__of_classes_has_calibrated_probabilities():
    _, _, ours, _ = made_of(0.0)
    assert ours.spec.target == "sex"
    assert np.isnan(ours.outcome.extrapolated)
    assert set(ours.outcome.calibration) == {"unchanged", "recentred", "recalibrated"}
    assert ours.outcome.estimates["unchanged"]["auroc"].value > 0.5
