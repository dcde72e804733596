import re
import signal
import subprocess
import time
from collections import Counter

import numpy as np
import pytest

from boldstream.artifacts.cohort import cohort_tables, iter_timeseries, open_cohort
from boldstream.errors import AtlasError, OutputExistsError, SourceError
from boldstream.ingest import ingest_cohort
from boldstream.storage import Warehouse
from synthetic import N_ROIS, ROIS, ingest_config, series, write_participants, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def tables(config):
    return cohort_tables(Warehouse.at(config.warehouse), config.output)


def column(table, name):
    return table.column([name])[name].to_pylist()


def assert_whole(config, n_scans):
    """Every scan is in exactly one of the two tables."""
    cohort, quarantine = tables(config)
    keys = column(cohort, "scan_key") + column(quarantine, "scan_key")
    assert len(keys) == len(set(keys)) == n_scans


def spoil(root):
    """Write scans with every kind of defect; return the reason expected of each."""
    scans = root / "scans"
    whole = series(1)
    write_scan(scans, "count", whole[:, :-1])
    write_scan(scans, "turned", np.vstack([whole.T, whole.T])[:N_ROIS])
    write_scan(scans, "nan", np.where(np.arange(N_ROIS) == 2, np.nan, whole))
    write_scan(scans, "short", whole[:10])
    write_scan(scans, "zero", whole * (np.arange(N_ROIS) < 6))
    (scans / "sub-text.csv").write_text((scans / "sub-a0.csv").read_text() + "1,2,3,four,5,6,7,8\n")
    (scans / "sub-empty.csv").touch()
    (scans / "sub-binary.csv").write_bytes(bytes(range(256)) * 4)
    (scans / "sub-archive.csv").write_bytes(b"PK\x03\x04" + bytes(100))
    order = ",".join([ROIS[1], ROIS[0], *ROIS[2:]])
    (scans / "sub-order.csv").write_text(f"{order}\n" + (scans / "sub-a0.csv").read_text())
    reasons = {
        "count": "wrong_roi_count",
        "turned": "wrong_roi_count",
        "nan": "non_finite",
        "short": "too_short",
        "zero": "bad_rois",
        "text": "unreadable",
        "empty": "unreadable",
        "binary": "unreadable",
        "archive": "unreadable",
        "order": "roi_order",
    }
    write_participants(root, [*(f"a{i}" for i in range(9)), *reasons])
    write_scan(scans, "stranger", whole)
    return reasons | {"stranger": "no_participants_row"}


def test_ingest__puts_every_scan_into_the_cohort_or_into_quarantine(tmp_path, caplog):
    write_study(tmp_path, [f"a{i}" for i in range(9)])
    write_scan(tmp_path / "scans", "a8", series(8) * (np.arange(N_ROIS) != 3))
    reasons = spoil(tmp_path)
    config = ingest_config(tmp_path, min_timepoints=20, max_bad_rois=0.2)
    ref = ingest_cohort(config)

    assert_whole(config, 20)
    _, quarantine = tables(config)
    found = dict(zip(column(quarantine, "scan_key"), column(quarantine, "reason"), strict=True))
    assert found == {f"sub-{subject}": reason for subject, reason in reasons.items()}
    assert all(column(quarantine, "message"))
    assert set(column(quarantine, "room")) == {"ingest"}
    assert "11 in quarantine (4 x unreadable" in caplog.text
    assert f"listed in {quarantine.uri}" in caplog.text

    cohort = open_cohort(ref.pointer, config.warehouse)
    assert cohort.roi_names == ROIS
    assert cohort.manifest.rows == 9
    assert cohort.manifest.content["quarantined"] == dict(Counter(reasons.values()))
    rows = cohort.table.iceberg.scan().to_arrow().sort_by("scan_key")
    assert rows["bad_rois"].to_pylist() == [[]] * 8 + [["R4"]]
    assert rows["age"].to_pylist() == [20.0 + i for i in range(9)]
    assert rows["site"].to_pylist()[:3] == ["site0", "site1", "site0"]
    assert rows["iq"].to_pylist()[0] == 100.0
    assert rows["diagnosis"].to_pylist()[:2] == ["asd", None]
    assert set(rows["t_r"].to_pylist()) == {2.0}
    for i, values in zip(range(8), iter_timeseries(rows.combine_chunks()), strict=False):
        np.testing.assert_allclose(values, series(i), atol=1e-4)

    # the same command again: nothing new, nothing doubled
    assert ingest_cohort(config) == ref
    assert_whole(config, 20)
    assert open_cohort("study", config.warehouse).ref.version == "1"


def test_ingest__adds_new_scans_as_a_new_version_and_keeps_the_old(tmp_path):
    write_study(tmp_path, ["1", "2", "3", "4"])
    config = ingest_config(tmp_path)
    first = ingest_cohort(config)
    write_scan(tmp_path / "scans", "0", series(20))
    write_participants(tmp_path, ["1", "2", "3", "4", "0"])
    second = ingest_cohort(config.model_copy(update={"shard_size": 2}))
    assert (first.version, second.version) == ("1", "2")
    assert first.digest != second.digest
    keys = {
        version: sorted(
            key for _, found in open_cohort(f"study@{version}", config.warehouse).keys_by_file() for key in found
        )
        for version in "12"
    }
    assert keys["1"] == ["sub-1", "sub-2", "sub-3", "sub-4"]
    assert keys["2"] == ["sub-0", *keys["1"]]
    assert open_cohort(first.pointer, config.warehouse).ref == first

    # the same scans at once give the same content
    whole = ingest_config(tmp_path, warehouse=str(tmp_path / "other"), shard_size=64)
    assert ingest_cohort(whole).digest == second.digest
    assert_whole(whole, 5)


def test_cohort_digest__does_not_depend_on_the_shards(tmp_path):
    write_study(tmp_path, ["1", "2", "3", "4", "5"])
    digests = {
        ingest_cohort(ingest_config(tmp_path, warehouse=str(tmp_path / f"w{size}"), shard_size=size)).digest
        for size in (1, 2, 64)
    }
    assert len(digests) == 1


def test_ingest__refuses_other_settings_for_the_same_output(tmp_path):
    write_study(tmp_path, ["1", "2"])
    ingest_cohort(ingest_config(tmp_path))
    with pytest.raises(
        OutputExistsError, match=r"cohort 'study' exists in .*\(min_timepoints: 2 -> 30\); choose another"
    ):
        ingest_cohort(ingest_config(tmp_path, min_timepoints=30))
    (tmp_path / "rois.txt").write_text("\n".join(reversed(ROIS)))
    with pytest.raises(OutputExistsError, match="roi_names_sha256"):
        ingest_cohort(ingest_config(tmp_path))


def test_ingest__without_one_usable_scan_says_why(tmp_path):
    write_study(tmp_path, ["1", "2"])
    config = ingest_config(tmp_path, min_timepoints=100)
    with pytest.raises(
        SourceError,
        match=r"none of the 2 scans can be used \(2 x too_short; for example sub-1: has 60 timepoints, fewer than",
    ):
        ingest_cohort(config)
    with pytest.raises(SourceError, match=r"none of the 2 scans can be used \(2 x too_short; for example sub-1"):
        ingest_cohort(config)
    # the name is free for the mended settings
    assert ingest_cohort(config.model_copy(update={"min_timepoints": 50})).version == "1"
    assert_whole(config, 2)


def test_ingest__of_an_unknown_atlas_leaves_nothing_behind(tmp_path):
    write_study(tmp_path, ["1"])
    with pytest.raises(AtlasError, match="atlas 'toy' is unknown"):
        ingest_cohort(ingest_config(tmp_path, atlas_labels=None))
    assert not (tmp_path / "warehouse").exists()


def test_ingest__reads_and_writes_folders_with_blanks_and_umlauts(tmp_path):
    root = tmp_path / "Studie Zürich 100%"
    write_study(root, ["1", "2"])
    ref = ingest_cohort(ingest_config(root))
    assert open_cohort(ref.pointer, "elsewhere").manifest.rows == 2
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


N_MANY = 300


@pytest.fixture
def many(tmp_path):
    write_study(tmp_path, [f"{i:03d}" for i in range(N_MANY)], n_timepoints=30)
    return ingest_config(tmp_path, shard_size=1)


def test_ingest__killed_goes_on_and_loses_and_doubles_nothing(many, job, wait_for_a_commit):
    process = job("ingest", many)
    wait_for_a_commit(tables(many)[0], process)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    cohort, _ = tables(many)
    done = len(column(cohort, "scan_key"))
    assert 0 < done < N_MANY
    assert cohort.versions == []

    process = job("ingest", many)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert f"{N_MANY} scans in {many.source.root}, {N_MANY - done} to read" in err
    assert out.startswith(f"cohort: {cohort.uri}@1  # sha256 ")
    assert_whole(many, N_MANY)
    assert open_cohort("study", many.warehouse).manifest.rows == N_MANY


def interrupt(process):
    """Press Ctrl-C, and again where nothing happens: Python drops one that falls into some C callbacks."""
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=6)
        except subprocess.TimeoutExpired:
            continue
    return process.communicate(timeout=30)


def test_ingest__interrupted_ends_in_one_line_and_status_130(many, job, wait_for_a_commit):
    process = job("ingest", many)
    wait_for_a_commit(tables(many)[0], process)
    time.sleep(0.3)
    out, err = interrupt(process)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "interrupted; the same command again goes on from what is there" in err
    assert ingest_cohort(many).version == "1"
    assert_whole(many, N_MANY)


def test_ingest__that_cannot_write_its_shards_stops_in_one_line(tmp_path, job):
    write_study(tmp_path, ["1", "2"])
    config = ingest_config(tmp_path)
    blocked = tmp_path / "warehouse" / "cohorts" / "study"
    blocked.mkdir(parents=True)
    (blocked / "data").write_text("in the way")
    process = job("ingest", config)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, out) == (2, "")
    assert re.search(r"^StorageError: .*/data/\w+\.parquet: cannot be written: ", err, re.MULTILINE)
    assert "Traceback" not in err
    (blocked / "data").unlink()
    assert ingest_cohort(config).version == "1"
    assert_whole(config, 2)
