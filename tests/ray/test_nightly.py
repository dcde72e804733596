"""Ten nights over a study that grows, loses, corrects and spoils scans, and changes its model."""

import pytest

from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.artifacts.embeddings import open_table
from boldstream.errors import ConfigError, LeaseError, OutputExistsError
from boldstream.lease import Lease
from boldstream.nightly import run_nightly
from boldstream.nightly.nights import past_nights
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.registry import set_alias
from boldstream.tables import run_tables
from night_study import STRATEGY, NightStudy, white_noise
from synthetic import ingest_config, series, write_scan

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def study(study, tmp_path_factory):
    set_alias(study.model, "nightly")
    found = NightStudy(tmp_path_factory.mktemp("nights"), "models:/toy@nightly", 16)
    found.model, found.pretrain = study.model, study.pretrain
    return found


def test_nightly__promotes_what_is_sound_and_holds_what_is_not(study):
    assert study.night() == ("promoted", "1", "1", 16, [])
    assert study.night() == ("unchanged", "1", "1", 16, [])

    study.add([f"{i:02d}" for i in range(16, 24)])
    assert study.night() == ("promoted", "2", "2", 24, [])
    study.remove(["03"])
    assert study.night() == ("promoted", "3", "3", 23, [])
    write_scan(study.root / "scans", "05", series(99))
    assert study.night() == ("promoted", "4", "4", 23, [])

    bad = [f"{i:02d}" for i in range(24, 32)]
    study.add(bad, white_noise)
    outcome, candidate, champion, rows, why = study.night()
    assert (outcome, candidate, champion, rows) == ("held", "5", "4", 23)
    assert "drift" in why
    assert study.champion == "4"
    assert "did not pass the gate" in study.page
    assert "differs by" in study.page
    study.remove(bad)
    assert study.night()[0] == "unchanged"

    other = pretrain(PretrainConfig(**study.pretrain | {"output": "toy-nightly", "seed": 5}))
    study.embed(other.pointer)
    with pytest.raises(
        ConfigError, match=r"every-night@4 is of models:/toy/1, .* now means models:/toy-nightly/1; mode: re"
    ):
        run_nightly(study.config())
    outcome, candidate, _, rows, why = study.night(mode="reembed")
    assert (outcome, rows, why) == ("promoted", 23, [])
    assert study.champion == candidate

    run_tables(["rollback", "every-night", "--warehouse", f"{study.root}/warehouse"])
    assert study.champion == "4"
    outcome, _, champion, _, why = study.night(mode="reembed")
    assert (outcome, champion, why) == ("held", "4", ["taken back"])
    study.embed("models:/toy@nightly")
    assert study.night()[:1] + study.night()[2:4] == ("unchanged", "4", 23)


def test_nightly__says_what_it_would_do(study, caplog):
    before = len(past_nights(f"{study.root}/warehouse", "every-night"))
    study.add(["40"])
    with caplog.at_level("INFO"):
        assert run_nightly(study.config(dry_run=True)) is None
    assert "1 to read, 0 to let go" in caplog.text
    assert "embed: 1 of" in caplog.text
    assert len(past_nights(f"{study.root}/warehouse", "every-night")) == before
    study.remove(["40"])


def test_nightly__does_not_run_twice_at_once(study):
    with (
        Lease(f"{study.root}/warehouse/leases/nightly-every-night.json", "the nightly job of table 'every-night'", 60),
        pytest.raises(
            LeaseError, match=r"the nightly job of table 'every-night' is being done by .* process \d+, which was"
        ),
    ):
        run_nightly(study.config())


def test_nightly__applies_a_frozen_adjustment_and_promotes_what_it_makes(study):
    warehouse = f"{study.root}/warehouse"
    steps = [{"step": "attention", "target": "age", "epochs": [5]}, {"step": "zscore"}]
    strategy = study.write("adjusted", STRATEGY | {"id": "toy_adjusted_v1", "adjust": steps})
    fit = AdjustConfig(
        output="adjusted", table="every-night@champion", strategy=strategy, holdout=0, warehouse=warehouse
    )
    adjust_table(fit)
    known = {"output": "adjusted", "table": "every-night", "warehouse": warehouse}
    frozen = study.write("frozen", known | {"adjustment": "adjusted@1"})
    before = study.champion
    study.add(["50"])
    ref = run_nightly(study.config(adjust=frozen))
    assert (ref.version, study.champion > before) == ("2", True)
    rows, n_rows = (
        open_table("adjusted@champion", warehouse).rows(),
        open_table("every-night@champion", warehouse).rows(),
    )
    assert rows["row_key"].tolist() == n_rows["row_key"].tolist()
    assert set(rows["strategy_id"]) == {"toy_adjusted_v1"}
    assert "adjusted: drift" in study.page
    with pytest.raises(ConfigError, match="names a strategy to be fitted; a night fits nothing"):
        run_nightly(study.config(adjust=study.write("fit", fit.model_dump(mode="json") | {"table": "every-night"})))


def test_nightly__keeps_the_champion_where_no_version_can_be_made(study):
    stood = study.champion
    lost = study.subjects[:15]
    study.remove(lost)
    assert study.night()[:3] == ("failed", None, stood)
    assert "15 of the" in study.page
    assert open_table("every-night@champion", f"{study.root}/warehouse").ref.version == stood


def test_nightly__refuses_configurations_that_do_not_belong_together(study, tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").touch()
    with pytest.raises(OutputExistsError, match=r"page: .* exists and is no page of this job"):
        run_nightly(study.config(page=str(tmp_path / "page")))
    other = ingest_config(study.root, output="other").model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"embed.yaml: cohort is 'study', but .* makes 'other'; name that"):
        run_nightly(study.config(ingest=study.write("other", other)))
    elsewhere = ingest_config(study.root, warehouse=f"{tmp_path}/w").model_dump(mode="json")
    with pytest.raises(ConfigError, match="name two warehouses"):
        run_nightly(study.config(ingest=study.write("elsewhere", elsewhere)))
