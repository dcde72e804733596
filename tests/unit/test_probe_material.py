import numpy as np
import pyarrow as pa
import pytest

from adjustable import PHENOTYPES, make_cohort, make_table, rows_of
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.targets import TargetSpec
from boldstream.artifacts.cohort import NOT_CARRIED, cohort_schema
from boldstream.artifacts.embeddings import embedding_schema
from boldstream.errors import ConfigError, EmbeddingsError, ResultsError
from boldstream.probe.config import ProbeConfig
from boldstream.probe.features import CONNECTIVITY
from boldstream.probe.material import open_tables, read_material
from boldstream.probe.methods import describe_methods, notes_of, target_notes
from boldstream.probe.plan import (
    plan_trials,
    pools_regions,
    present_confounds,
    steps_of,
    target_material,
    without_target,
)
from boldstream.probe.targets import read_target
from boldstream.probe.trial import front_of
from boldstream.storage import Warehouse
from probeable import publish_rows

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
N = 24
RECIPE = """
id: recipe
window: {length: 32, stride: 14}
adjust:
  - {step: harmonize, keep: [age, sex]}
  - {step: project, dim: 4}
  - {step: residualize, covariates: [age, sex, mean_fd], age_knots: 3}
"""


@pytest.fixture
def place(tmp_path):
    warehouse = Warehouse.at(str(tmp_path / "w"))
    cohort, _ = make_cohort(warehouse, range(N))
    return warehouse, cohort


def config_of(place, **values):
    known = {"output": "p", "tables": {"ours": "toy"}, "targets": ["age"], "baselines": ["mean", "confounds"]}
    known |= {"folds": {"n_folds": 3, "n_inner": 2, "n_repeats": 1}, "warehouse": place[0].uri}
    return ProbeConfig.model_validate(known | values)


def read(place, **values):
    config = config_of(place, **values)
    latents = config.attention or pools_regions(steps_of(config))
    return config, read_material(config, *open_tables(config), latents=latents)


def planned(place, **values):
    config, material = read(place, **values)
    target = read_target(config.targets[0], material.scans, config.folds)
    steps = steps_of(config)
    trials = plan_trials(config, material, target, steps, present_confounds(config, material.scans))
    return {(one.representation, one.head): one for one in trials}, target_material(config, material, target, steps)


def test_material__is_of_scans_that_all_tables_have(place):
    make_table(place[0], rows_of(range(N), runs=2), place[1])
    make_table(place[0], rows_of(range(4, N)), place[1], name="twin", model="m1")
    _, material = read(place, tables={"ours": "toy", "twin": "twin"})
    assert material.keys == [f"sub-{i:03d}_run-0" for i in range(4, N)]
    assert material.left_out == {"ours": 2 * N - 20, "twin": 0}
    expected = {row["scan_key"]: row["embedding"] for row in rows_of(range(N))}
    for vectors in material.vectors.values():
        np.testing.assert_array_equal(vectors, [expected[key] for key in material.keys])
    assert material.scans["age"].notna().all()


def test_parts_of_a_scan__are_averaged_if_all_are_there(place):
    rows = []
    for row in rows_of(range(N)):
        for part in (0, 1):
            vector = row["embedding"] + np.float32(part)
            rows.append(row | {"row_key": f"{row['scan_key']}_part-{part}", "part": part, "embedding": vector})
    schema = embedding_schema(pa.schema([f for f in cohort_schema(PHENOTYPES) if f.name not in NOT_CARRIED]))
    light = [{key: row.get(key) for key in schema.names} for row in rows[1:]]
    publish_rows(place[0].uri, "toy", light, schema, place[1], parts=2)
    config, material = read(place)
    assert material.keys == [f"sub-{i:03d}_run-0" for i in range(1, N)]
    whole = np.array([row["embedding"] for row in rows_of(range(1, N))])
    np.testing.assert_allclose(material.vectors["ours"], whole + 0.5, rtol=1e-5)
    assert notes_of(config, material) == [
        "1 scans of ours lack a part, or are not in all tables.",
        "ours: the 2 parts of every scan are averaged.",
        "Nothing was permuted, so there are no p values.",
    ]


def test_a_random_part__takes_whole_subjects(place):
    make_table(place[0], rows_of(range(N), runs=2), place[1])
    config, material = read(place, max_scans=21)
    assert len(material.keys) == 20
    assert (material.scans["subject"].value_counts() == 2).all()
    assert "20 of 48 scans were taken, those of random subjects." in notes_of(config, material)
    assert read(place, max_scans=21)[1].keys == material.keys
    assert read(place, max_scans=21, seed=1)[1].keys != material.keys


def test_tables__that_cannot_be_probed_are_refused(place, tmp_path):
    make_table(place[0], rows_of(range(N)), place[1])
    with pytest.raises(ConfigError, match=r"targets: the tables have no column 'agee' \(did you mean 'age'\?\)"):
        read(place, targets=["agee"])
    for name in ("scan_key", "bad_rois", "embedding"):
        with pytest.raises(ConfigError, match=f"targets: the tables have no column '{name}'"):
            read(place, targets=[name])
    with pytest.raises(ConfigError, match=r"folds.family: the tables have no column 'kin'"):
        read(place, folds={"family": "kin"})
    with pytest.raises(EmbeddingsError, match="none"):
        read(place, tables={"ours": "none"})
    with pytest.raises(ResultsError, match=r"no scan is in all of them and in the cohort \(scans in each: ours: 24\)"):
        read(place, baselines=["fc"])  # the cohort of this test has no scans
    make_table(place[0], rows_of(range(30, 40)), place[1], name="others")
    with pytest.raises(ResultsError, match=r"no scan is in all of them .* \(scans in each: ours: 24, others: 10\)"):
        read(place, tables={"ours": "toy", "others": "others"})
    elsewhere = Warehouse.at(str(tmp_path / "elsewhere"))
    cohort, _ = make_cohort(elsewhere, range(N))
    far = make_table(elsewhere, rows_of(range(N)), cohort)
    with pytest.raises(ConfigError, match=r"tables.far: 'toy@1' was made of cohort .*elsewhere.*, tables.ours of"):
        read(place, tables={"ours": "toy", "far": far.pointer})
    uneven = {"row_3": {"embedding": np.zeros(5, np.float32)}}
    make_table(place[0], rows_of(range(N), **uneven), place[1], name="uneven")
    with pytest.raises(ResultsError, match=r"vectors of uneven@1 have different lengths, or none \(12, 5\)"):
        read(place, tables={"ours": "uneven"})
    with pytest.raises(ResultsError, match="table toy@1 has no latents of regions to pool by attention; embed with a"):
        read(place, attention=True)
    infinite = {"row_3": {"embedding": np.full(12, np.inf, np.float32)}}
    make_table(place[0], rows_of(range(N), **infinite), place[1], name="infinite")
    with pytest.raises(ResultsError, match="table infinite@1 has vectors that are not finite"):
        read(place, tables={"ours": "infinite"})


def test_plan__has_a_trial_a_head_and_a_baseline(place):
    make_table(place[0], rows_of(range(N)), place[1])
    trials, _ = planned(place, heads={"continuous": ["ridge", "knn"]}, permutations=9, confounds=["age", "sex", "none"])
    assert set(trials) == {("ours", "ridge"), ("ours", "knn"), ("mean", "mean"), ("confounds", "ridge")}
    # the target is never among its own confounds; knn would have to be fitted anew for every permutation
    assert trials["confounds", "ridge"].confounds == ("sex",)
    assert [trials[name].permutations for name in trials] == [9, 0, 0, 0]
    again, _ = planned(place, heads={"continuous": ["knn"]}, permutations=9, refit_permutations=True)
    assert again["ours", "knn"].permutations == 9
    alone, _ = planned(place, confounds=["age"])
    assert ("confounds", "ridge") not in alone


def test_plan__fits_steps_in_folds_without_the_target(place, tmp_path):
    make_table(place[0], rows_of(range(N)), place[1])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    trials, material = planned(place, adjust=str(recipe))
    assert trials["ours", "ridge"].front == (
        "harmonize: combat, keep sex; project: 4, pca; residualize: sex, mean_fd; standardised"
    )
    assert trials["mean", "mean"].steps == ()
    assert set(material.blocks) == {"A", "B", "C"}
    config, read_in = read(place, adjust=str(recipe))
    target = read_target(config.targets[0], read_in.scans, config.folds)
    told = config.model_copy(update={"baselines": ("fc", "fc_kernel", "fc_reduced"), "adjust_baselines": True})
    found = {one.representation: one for one in plan_trials(told, read_in, target, steps_of(config), [])}
    assert found["fc"].front == "harmonize: combat, keep sex; residualize: sex, mean_fd; standardised"
    assert found["fc_kernel"].options == {"kernel": "correlation"}
    assert found["fc_kernel"].source == CONNECTIVITY
    assert found["fc_reduced"].front.startswith("12 components; harmonize")
    with pytest.raises(ConfigError, match="targets: target 'site' is a covariate of the step 'harmonize"):
        without_target(steps_of(config), "site")
    recipe.write_text("id: none\nwindow: {length: 32, stride: 14}\n")
    with pytest.raises(ConfigError, match=r"recipe.yaml: has no steps \(adjust is empty\); leave adjust out"):
        steps_of(config)


def test_covariates__that_are_missing_are_refused_or_filled_in(place, tmp_path):
    make_table(place[0], rows_of(range(N), row_3={"mean_fd": None}), place[1])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    with pytest.raises(ResultsError, match=r"target 'age': adjust needs mean_fd, which 1 of 24 scans lack; say how to"):
        planned(place, adjust=str(recipe))
    planned(place, adjust=str(recipe), impute={"mean_fd": "median"})


def test_somebody_scanned_at_two_sites__leaves_permutations_without_blocks(place):
    make_table(place[0], rows_of(range(N), runs=2), place[1])
    config, material = read(place)
    scans = material.scans.copy()
    scans.iloc[0, scans.columns.get_loc("site")] = "B"
    target = read_target(TargetSpec(column="age"), scans, config.folds)
    assert target_material(config, material, target, ()).blocks is None


def test_target__that_is_the_site_is_permuted_across_sites(place):
    make_table(place[0], rows_of(range(N)), place[1])
    told, blocks = {}, {}
    for name in ("age", "site"):
        config, material = read(place, targets=[name], permutations=9)
        target = read_target(config.targets[0], material.scans, config.folds)
        told[name], blocks[name] = target_notes(config, [target]), target_material(config, material, target, ()).blocks
    assert told["age"] == []
    assert blocks["age"] is not None
    assert blocks["site"] is None
    assert told["site"][0] == "site does not vary within sites, so subjects are permuted across them."
    assert told["site"][1].startswith("site: AUROC and AUPRC are means over 3 classes (")
    assert len(target_notes(config_of(place, targets=["site"]), [target])) == 1


ATTENTION_RECIPE = """
id: recipe
window: {length: 32, stride: 14}
keep_roi_latents: true
adjust:
  - {step: attention, target: sex, epochs: [7]}
  - {step: project, dim: 4}
  - {step: residualize, covariates: [age, mean_fd]}
"""


def with_latents(n_rois=4):
    """Rows with latents, as many regions as `adjustable.make_cohort` names."""
    return [row | {"roi_latents": np.tile(row["embedding"], n_rois)} for row in rows_of(range(N))]


def test_plan__trains_the_query_for_the_target_that_is_asked(place, tmp_path):
    """Not for the recipe's own, which would tell of test rows what goes with it; and never on rows of baselines."""
    make_table(place[0], with_latents(), place[1])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(ATTENTION_RECIPE)
    told = {"adjust": str(recipe), "permutations": 9}
    trials, _ = planned(place, targets=[{"column": "age", "transform": "log"}], **told)
    assert set(trials) == {("ours", "ridge"), ("mean", "mean"), ("confounds", "ridge")}
    spec = trials["ours", "ridge"]
    assert spec.front == (
        "attention: regions pooled by a query trained for log_age, seed 0; project: 4, pca; residualize: mean_fd; "
        "standardised"
    )
    assert spec.source == "ours_attention"
    # a query would have to be trained for every permutation
    assert spec.permutations == 0
    again, _ = planned(place, refit_permutations=True, **told)
    assert again["ours", "ridge"].permutations == 9
    config, material = read(place, adjust_baselines=True, **told)
    assert material.latents["ours"].shape == (N, 4, 12)
    target = read_target(config.targets[0], material.scans, config.folds)
    asked = config.model_copy(update={"baselines": ("fc",)})
    found = {one.representation: one for one in plan_trials(asked, material, target, steps_of(config), [])}
    assert found["fc"].front == "residualize: mean_fd; standardised"
    methods = describe_methods(config, material, [], steps_of(config))
    assert methods["adjust"][:2] == [
        "attention: regions pooled by a query trained for the target itself",
        "project: 4, pca",
    ]
    front = front_of(spec, material.latents["ours"], None)
    assert isinstance(front, AdjustedFeatures)
    assert (front.features.kind, front.features.epochs) == ("continuous", (7,))


def test_recipe_that_pools_regions__is_refused_where_there_are_none(place, tmp_path):
    make_table(place[0], rows_of(range(N)), place[1])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(ATTENTION_RECIPE)
    with pytest.raises(ResultsError, match="table toy@1 has no latents of regions to pool by attention; embed with a"):
        read(place, adjust=str(recipe))
    transfer = {"target": [{"column": "site", "values": ["A"]}]}
    config = config_of(place, adjust=str(recipe), unseen_site="pooled", transfer=transfer)
    with pytest.raises(ConfigError, match=r"recipe.yaml: step 'attention': latents are not transferred; use a recipe"):
        steps_of(config)


def test_table_that_was_pooled_for_a_target__is_not_asked_for_it(place):
    """By the same people; of another cohort, or for another target, a note says what is flattered."""
    pooling = {"target": {"column": "age"}, "n_train_subjects": 19, "cohort": place[1].uri}
    told = {"pooling": pooling, "adjustment": "x", "table": "file:///w/embeddings/raw"}
    make_table(place[0], rows_of(range(N)), place[1], more=told)
    for target in ("age", {"column": "age", "transform": "log"}):
        with pytest.raises(
            ConfigError,
            match=r"targets: '(log_)?age' is what the vectors of tables.ours \(toy@1\) were pooled for, by a query "
            r"trained on 19 subjects of this cohort; name the table that it was made from \(file:///w/embeddings/raw\)",
        ):
            read(place, targets=[target])
    note = "ours was pooled before the folds were dealt, by a query trained for age in 19 subjects, so whatever"
    assert any(one.startswith(note) for one in notes_of(*read(place, targets=["sex"])))
    told["pooling"] = pooling | {"cohort": "file:///elsewhere"}
    make_table(place[0], rows_of(range(N)), place[1], name="frozen", more=told)
    found = notes_of(*read(place, tables={"ours": "frozen"}))
    assert any(one.startswith(note) for one in found)
