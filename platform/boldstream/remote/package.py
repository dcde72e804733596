"""What of a working directory goes to the cluster: code and configurations; no environments, data, results, secrets."""

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import boldstream
from boldstream.errors import ConfigError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".gitignore", ".rayignore")
LEFT_OUT = (
    # environments, caches, version control
    *(".git/", ".venv/", "venv/", "node_modules/", "__pycache__/", "*.egg-info/", ".*_cache/", ".hypothesis/"),
    # data and results
    *(
        "data/",
        "derivatives/",
        "warehouse/",
        "boldstream-demo/",
        "boldstream-abide/",
        "mlruns/",
        "mlartifacts/",
        "mlflow.db",
        "*.log",
    ),
    # secrets: the package lies readable on the cluster
    *(".env", ".env.*", ".netrc", ".pgpass", ".aws/", ".ray/", "*.pem", "id_rsa", "id_ed25519"),
)
MARKS = {"pyvenv.cfg": "a virtual environment", "catalog.db": "a warehouse"}
"""Files whose folder is left out, whatever its name."""
LARGEST_NAMED = 5
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Of every file in a package: the same files make the same bytes, which Ray uploads once."""
MB = 1e6


def list_files(root: Path, exclude: Sequence[str] = ()) -> list[Path]:
    """Return the files below a folder that go along, relative to it, sorted.

    Left out are `LEFT_OUT`, folders with one of `MARKS`, what `exclude` and the ``.gitignore`` and ``.rayignore`` of
    any folder name (patterns as in a .gitignore), and links to folders.
    """
    return sorted(_walk(root, root, [(root, _patterns([*LEFT_OUT, *exclude]))]))


def _patterns(lines: Sequence[str]) -> "GitIgnoreSpec":
    import pathspec

    return pathspec.GitIgnoreSpec.from_lines(lines)


def _walk(root: Path, folder: Path, rules: list[tuple[Path, "GitIgnoreSpec"]]) -> Iterator[Path]:
    rules = rules + [
        (folder, _patterns((folder / name).read_text(errors="replace").splitlines()))
        for name in IGNORE_FILES
        if (folder / name).is_file()
    ]
    for entry in sorted(os.scandir(folder), key=lambda found: found.name):
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        end = "/" if is_folder else ""
        if any(spec.match_file(f"{path.relative_to(base).as_posix()}{end}") for base, spec in rules):
            continue
        if is_folder:
            if not any((path / mark).exists() for mark in MARKS):
                yield from _walk(root, path, rules)
        elif entry.is_file():
            yield path.relative_to(root)


def pack(root: Path, files: Sequence[Path], target: Path, most_mb: float) -> None:
    """Write files into a zip file, the same bytes for the same files.

    Raises
    ------
    ConfigError
        If they are larger than `most_mb` together; the message names the largest.
    """
    sizes = {path: (root / path).stat().st_size for path in files}
    total = sum(sizes.values())
    if total > most_mb * MB:
        largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:LARGEST_NAMED]
        named = ", ".join(f"{path} ({sizes[path] / MB:.1f} MB)" for path in largest)
        raise ConfigError(
            f"the working directory {root} is too large to be sent: {total / MB:.0f} MB in {len(files)} files, at most "
            f"{most_mb:g} MB; the largest: {named}. Name what the job does not need in .rayignore (as in a .gitignore)"
        )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for path in files:
            info = zipfile.ZipInfo(path.as_posix(), EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((root / path).stat().st_mode & 0xFFFF) << 16
            package.writestr(info, (root / path).read_bytes())


def copy_code(folder: Path) -> Path:
    """Copy the package boldstream, as this process runs it, into a folder; return the copy.

    Ray packs the copy by itself: in the package's own folder the patterns that are meant for the working directory
    (``/report/``) would take rooms away.
    """
    return Path(
        shutil.copytree(
            Path(boldstream.__file__).parent,
            folder / boldstream.__name__,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
        )
    )
