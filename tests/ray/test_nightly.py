"""Ten nights over a study that grows, loses, corrects and spoils scans, and changes its model."""

import numpy as np
import pytest
import yaml

from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.artifacts.embeddings import open_table
from boldstream.errors import ConfigError, HeldError, LeaseError, OutputExistsError, SourceError
from boldstream.lease import Lease
from boldstream.nightly import NightlyConfig, run_nightly
from boldstream.nightly.nights import past_nights
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.registry import set_alias
from boldstream.table_registry import resolve_table_alias
from boldstream.tables import run_tables
from synthetic import ingest_config, series, write_participants, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

FIRST = [f"{i:02d}" for i in range(16)]
STRATEGY = {"id": "toy_v1", "window": {"length": 32, "stride": 14}}


class Study:
    """A study on disk, with the configurations of its nights."""

    def __init__(self, root, model):
        self.root, self.subjects = root, list(FIRST)
        write_study(root, FIRST)
        self.write("strategy", STRATEGY)
        self.write("ingest", ingest_config(root, max_removed=0.5).model_dump(mode="json"))
        self.embed(model)

    def write(self, name, values):
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    def embed(self, model):
        strategy, warehouse = str(self.root / "strategy.yaml"), str(self.root / "warehouse")
        values = {"output": "nights", "cohort": "study", "model": model, "strategy": strategy, "warehouse": warehouse}
        self.write("embed", values)

    def config(self, **values):
        known = {"ingest": f"{self.root}/ingest.yaml", "embed": f"{self.root}/embed.yaml", "page": f"{self.root}/page"}
        return NightlyConfig.model_validate(known | values)

    def add(self, subjects, **kinds):
        self.subjects += [subject for subject in subjects if subject not in self.subjects]
        for subject in subjects:
            write_scan(self.root / "scans", subject, spoil(series(int(subject)), **kinds))
        write_participants(self.root, self.subjects)

    def remove(self, subjects):
        self.subjects = [subject for subject in self.subjects if subject not in subjects]
        for subject in subjects:
            (self.root / "scans" / f"sub-{subject}.csv").unlink()
        write_participants(self.root, self.subjects)

    def night(self, **values):
        """Run a night; return its outcome, the version made, the champion, its rows and what held it."""
        try:
            run_nightly(self.config(**values))
        except (HeldError, SourceError) as error:
            assert str(error)
        found = past_nights(str(self.root / "warehouse"), "nights")[-1]
        held_by = [check.name for check in found.checks if check.passed is False]
        return found.outcome, found.candidate, found.champion, found.rows, held_by

    @property
    def champion(self):
        return resolve_table_alias(f"file://{self.root}/warehouse/embeddings/nights", "champion").version

    @property
    def page(self):
        return (self.root / "page" / "index.html").read_text()


def spoil(values, noise=False):
    """Return what a broken pipeline might make of a scan: white noise."""
    return np.random.default_rng(int(abs(values[0, 0]) * 1e4)).normal(size=values.shape) if noise else values


@pytest.fixture(scope="module")
def study(study, tmp_path_factory):
    set_alias(study.model, "nightly")
    found = Study(tmp_path_factory.mktemp("nights"), "models:/toy@nightly")
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
    study.add(bad, noise=True)
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
        ConfigError, match=r"nights@4 is of models:/toy/1, .* now means models:/toy-nightly/1; mode: re"
    ):
        run_nightly(study.config())
    outcome, candidate, _, rows, why = study.night(mode="reembed")
    assert (outcome, rows, why) == ("promoted", 23, [])
    assert study.champion == candidate

    run_tables(["rollback", "nights", "--warehouse", f"{study.root}/warehouse"])
    assert study.champion == "4"
    outcome, _, champion, _, why = study.night(mode="reembed")
    assert (outcome, champion, why) == ("held", "4", ["taken back"])
    study.embed("models:/toy@nightly")
    assert study.night()[:1] + study.night()[2:4] == ("unchanged", "4", 23)


def test_nightly__says_what_it_would_do(study, caplog):
    before = len(past_nights(f"{study.root}/warehouse", "nights"))
    study.add(["40"])
    with caplog.at_level("INFO"):
        assert run_nightly(study.config(dry_run=True)) is None
    assert "1 to read (sub-40), 0 to let go" in caplog.text
    assert "embed: 1 of" in caplog.text
    assert len(past_nights(f"{study.root}/warehouse", "nights")) == before
    study.remove(["40"])


def test_nightly__does_not_run_twice_at_once(study):
    with (
        Lease(f"{study.root}/warehouse/leases/nightly-nights.json", "the nightly job of table 'nights'", 60),
        pytest.raises(
            LeaseError, match=r"the nightly job of table 'nights' is being done by .* process \d+, which was"
        ),
    ):
        run_nightly(study.config())


def test_nightly__applies_a_frozen_adjustment_and_promotes_what_it_makes(study):
    warehouse = f"{study.root}/warehouse"
    strategy = study.write("adjusted", STRATEGY | {"id": "toy_adjusted_v1", "adjust": [{"step": "zscore"}]})
    fit = AdjustConfig(output="adjusted", table="nights@champion", strategy=strategy, holdout=0, warehouse=warehouse)
    adjust_table(fit)
    known = {"output": "adjusted", "table": "nights", "warehouse": warehouse}
    frozen = study.write("frozen", known | {"adjustment": "adjusted@1"})
    before = study.champion
    study.add(["50"])
    ref = run_nightly(study.config(adjust=frozen))
    assert (ref.version, study.champion > before) == ("2", True)
    rows, n_rows = open_table("adjusted@champion", warehouse).rows(), open_table("nights@champion", warehouse).rows()
    assert rows["row_key"].tolist() == n_rows["row_key"].tolist()
    assert set(rows["strategy_id"]) == {"toy_adjusted_v1"}
    assert "adjusted: drift" in study.page
    with pytest.raises(ConfigError, match="names a strategy to be fitted; a night fits nothing"):
        run_nightly(study.config(adjust=study.write("fit", fit.model_dump(mode="json") | {"table": "nights"})))


def test_nightly__keeps_the_champion_where_no_version_can_be_made(study):
    stood = study.champion
    lost = study.subjects[:15]
    study.remove(lost)
    assert study.night()[:3] == ("failed", None, stood)
    assert "15 of the" in study.page
    assert open_table("nights@champion", f"{study.root}/warehouse").ref.version == stood


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
