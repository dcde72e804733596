import pytest
from hypothesis import given
from hypothesis import strategies as st

from boldstream.errors import ConfigError
from boldstream.parcellation.qc import MEASURES
from boldstream.parcellation.qc_rules import ALL_MEASURES, DECISION_COLUMNS, Limit, QualityRules, judge


def test_rules__have_a_limit_for_every_measure():
    assert set(QualityRules.model_fields) == set(ALL_MEASURES) | {"duplicates"}
    assert set(MEASURES) < set(ALL_MEASURES)


def test_rules__are_read_from_a_mapping():
    rules = QualityRules.from_mapping(
        {"mean_fd": {"flag": 0.25, "quarantine": 0.5}, "dvars": {}, "duplicates": "quarantine"}, where="a.yaml"
    )
    assert rules.mean_fd == Limit(flag=0.25, quarantine=0.5)
    assert rules.dvars == Limit()
    assert rules.spike_share == QualityRules().spike_share
    assert rules.duplicates == "quarantine"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mean_fd": {"flag": 0.5, "quarantine": 0.2}},
            "a.yaml: mean_fd: quarantine 0.2 is below flag 0.5, so nothing is ever flagged; high values are bad here",
        ),
        ({"tsnr": {"flag": 30, "quarantine": 50}}, "tsnr: quarantine 50 is above flag 30, .*; low values are bad here"),
        ({"mean_df": {"flag": 0.5}}, r"unknown key 'mean_df' \(did you mean 'mean_fd'\?\)"),
        ({"mean_fd": {"above": 0.5}}, r"unknown key 'mean_fd.above'"),
        ({"duplicates": "drop"}, "duplicates: Input should be 'keep', 'flag' or 'quarantine', got 'drop'"),
    ],
)
def test_rules__refuse(values, message):
    with pytest.raises(ConfigError, match=message):
        QualityRules.from_mapping(values, where="a.yaml")


def test_judge__keeps_a_scan_without_bad_measures():
    decision = judge(dict.fromkeys(MEASURES) | {"mean_fd": 0.1, "dvars": float("nan")}, QualityRules())
    assert (decision.status, decision.reasons, decision.message) == ("keep", (), "")
    assert decision.columns() == {"qc_status": "keep", "qc_reasons": []}
    assert list(decision.columns()) == list(DECISION_COLUMNS)


def test_judge__says_measure_value_and_limit():
    rules = QualityRules(mean_fd=Limit(flag=0.25, quarantine=0.5), tsnr=Limit(flag=40))
    decision = judge({"mean_fd": 0.3, "tsnr": 21.456, "dvars": 1.0}, rules)
    assert decision.status == "flag"
    assert [reason.text for reason in decision.reasons] == [
        "mean_fd: mean framewise displacement 0.3 mm is above 0.25 mm",
        "tsnr: temporal SNR, median region 21.5 is below 40",
    ]
    first = decision.reasons[0]
    assert (first.measure, first.value, first.threshold, first.status) == ("mean_fd", 0.3, 0.25, "flag")


def test_judge__is_as_grave_as_the_gravest_reason_which_comes_first():
    rules = QualityRules(mean_fd=Limit(flag=0.25), bad_roi_share=Limit(flag=0.1, quarantine=0.5))
    decision = judge({"mean_fd": 0.3, "bad_roi_share": 0.6}, rules)
    assert decision.status == "quarantine"
    assert [(reason.measure, reason.threshold) for reason in decision.reasons] == [
        ("bad_roi_share", 0.5),
        ("mean_fd", 0.25),
    ]
    assert decision.message.startswith("bad_roi_share: share of regions constant or not finite 0.6 is above 0.5; mean")


def test_judge__knows_what_a_scan_has_only_among_others():
    decision = judge({}, QualityRules(), outlier=6.0, duplicate_of="sub-2")
    assert [reason.text for reason in decision.reasons] == [
        "outlier: distance from the cohort's connectivity 6 is above 4",
        "duplicates: the same time series as sub-2",
    ]
    assert judge({}, QualityRules(duplicates="quarantine"), duplicate_of="sub-2").status == "quarantine"
    assert judge({}, QualityRules(duplicates="keep"), duplicate_of="sub-2").status == "keep"
    assert judge({}, QualityRules(), outlier=float("nan")).status == "keep"


def test_judge__writes_a_value_apart_from_its_limit():
    rules = QualityRules(mean_fd=Limit(flag=0.5))
    assert judge({"mean_fd": 0.5}, rules).status == "keep"
    assert "0.50001 mm is above 0.5 mm" in judge({"mean_fd": 0.50001}, rules).message
    assert "0.50000000000000011 mm" in judge({"mean_fd": 0.5000000000000001}, rules).message


def test_judge__refuses_an_unknown_measure():
    with pytest.raises(ValueError, match="'qc_mean_fd' is no quality measure; known: mean_fd, high_fd_share"):
        judge({"qc_mean_fd": 0.1}, QualityRules())


@given(
    value=st.floats(-1e6, 1e6),
    limits=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2).map(sorted),
    name=st.sampled_from(sorted(ALL_MEASURES)),
)
def test_judge__is_never_milder_to_worse_values(value, limits, name):
    high = ALL_MEASURES[name].bad == "high"
    mild, grave = limits if high else limits[::-1]
    rules = QualityRules(**{name: Limit(flag=mild, quarantine=grave)})
    at = [{"keep": 0, "flag": 1, "quarantine": 2}[judge({name: v}, rules).status] for v in (value, mild, grave)]
    worse = judge({name: value + (1 if high else -1)}, rules).status
    assert at[0] <= {"keep": 0, "flag": 1, "quarantine": 2}[worse]
    assert at[1] == 0
    assert at[2] <= 1
