import os
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.errors import ConfigError
from boldstream.remote.package import copy_code, list_files, pack


def write(root, *names, size=1):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)


def listed(root, *exclude):
    return [path.as_posix() for path in list_files(root, exclude)]


def test_files__of_a_project_without_environments_data_results_and_secrets(tmp_path):
    kept = ["configs/embed/demo.yaml", "jobs/embed.py", "rois.txt", "platform/boldstream/artifacts/keys.py"]
    write(tmp_path, *kept)
    write(tmp_path, ".git/config", ".venv/lib/a.py", "sub/.mypy_cache/x", "a/__pycache__/b.pyc", "x.egg-info/PKG")
    write(tmp_path, "data/sub-01.csv", "warehouse/data/f.parquet", "mlruns/1/meta.yaml", "mlflow.db", "run.log")
    write(tmp_path, ".env", ".env.lab", ".aws/credentials", "deep/id_rsa", "server.pem", ".netrc")
    assert listed(tmp_path) == sorted(kept)


def test_files__leave_out_environments_and_warehouses_of_any_name(tmp_path):
    write(tmp_path, "a.py", "python/pyvenv.cfg", "python/bin/x", "tables/catalog.db", "tables/cohorts/f.parquet")
    assert listed(tmp_path) == ["a.py"]


@pytest.mark.parametrize("name", [".gitignore", ".rayignore"])
def test_files__heed_ignore_files_of_every_folder(tmp_path, name):
    write(tmp_path, "a.csv", "a.py", "sub/a.csv", "sub/b.txt", "sub/c.txt", "report/x.html", "sub/report/x.html")
    (tmp_path / name).write_text("*.csv\n/report/\n")
    (tmp_path / "sub" / name).write_text("b.*\n")
    assert listed(tmp_path) == sorted([name, "a.py", "sub/" + name, "sub/c.txt", "sub/report/x.html"])


def test_files__leave_out_what_is_asked_for_and_links_to_folders(tmp_path):
    write(tmp_path, "work/a.py", "work/big.bin", "elsewhere/data.bin")
    (tmp_path / "work" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "work" / "loop").symlink_to(tmp_path / "work")
    (tmp_path / "work" / "nowhere").symlink_to(tmp_path / "none")
    (tmp_path / "work" / "one.bin").symlink_to(tmp_path / "elsewhere" / "data.bin")
    assert listed(tmp_path / "work", "big.*") == ["a.py", "one.bin"]


def test_pack__of_the_same_files_gives_the_same_bytes(tmp_path):
    write(tmp_path / "w", "a.py", "sub/run.sh")
    (tmp_path / "w/sub/run.sh").chmod(0o755)
    files = list_files(tmp_path / "w")
    pack(tmp_path / "w", files, tmp_path / "1.zip", 1)
    os.utime(tmp_path / "w/a.py", (1, 1))
    pack(tmp_path / "w", files, tmp_path / "2.zip", 1)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as package:
        assert package.namelist() == ["a.py", "sub/run.sh"]
        assert package.getinfo("sub/run.sh").external_attr >> 16 & 0o777 == 0o755


def test_pack__of_too_much_names_the_largest_files(tmp_path):
    write(tmp_path, "a.bin", size=600_000)
    write(tmp_path, "sub/b.bin", size=900_000)
    write(tmp_path, *(f"{i}.txt" for i in range(9)))
    with pytest.raises(ConfigError, match=r"too large.* 2 MB in 11 files, at most 1 MB.*sub/b.bin \(0.9 MB\), a.bin"):
        pack(tmp_path, list_files(tmp_path), tmp_path / "p.zip", 1)
    assert not (tmp_path / "p.zip").exists()


def test_copy_code__has_every_module_and_nothing_compiled(tmp_path):
    copied = copy_code(tmp_path)
    assert copied == tmp_path / "boldstream"
    assert (copied / "report" / "run.py").is_file()
    assert (copied / "report" / "page.html.j2").is_file()
    assert not list(copied.rglob("*.pyc"))


names = st.text("ab.-", min_size=1, max_size=3).filter(lambda name: name.strip(".") == name)


@settings(deadline=None)
@given(st.sets(st.tuples(names, names), max_size=8), st.sets(names, max_size=2))
def test_files__that_are_listed_are_those_that_no_pattern_matches(tmp_path_factory, places, excluded):
    root = tmp_path_factory.mktemp("w")
    write(root, *(f"{folder}/{name}" for folder, name in places))
    expected = sorted(f"{f}/{n}" for f, n in places if f not in excluded and n not in excluded)
    assert sorted(listed(root, *excluded)) == expected
