"""Find what lies beside a scan's series: confounds, sidecars, outliers, quality control."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from boldstream.parcellation.bids import BidsName, parse_name

ROLES: dict[str, dict[str, Callable[[BidsName], bool]]] = {
    "fmriprep": {
        "confounds": lambda n: (
            n.suffix in ("timeseries", "regressors") and n.extension == ".tsv" and n.entities.get("desc") == "confounds"
        ),
    },
    "xcpd": {
        "outliers": lambda n: n.suffix == "outliers" and n.extension == ".tsv",
        "motion": lambda n: n.suffix == "motion" and n.extension == ".tsv" and "desc" not in n.entities,
        "qc": lambda n: (
            n.suffix == "qc" and n.extension in (".tsv", ".csv") and n.entities.get("desc", "linc") == "linc"
        ),
        "bold_sidecar": lambda n: (
            n.suffix == "bold" and n.extension == ".json" and n.entities.get("desc") == "denoised"
        ),
    },
    "cifti": {},
}
"""What may lie beside a series, by kind of source."""

ENDINGS = (".tsv", ".csv", ".json")


class CompanionFiles:
    """The files of one listing that belong to scans.

    Parameters
    ----------
    kind : str
        Kind of source; those without BIDS names have no companions.
    paths : iterable of str
        Relative paths of all files.
    """

    def __init__(self, kind: str, paths: Iterable[str]) -> None:
        self._roles = ROLES.get(kind, {})
        self._by_scan: dict[tuple[str, tuple[tuple[str, str], ...]], list[BidsName]] = defaultdict(list)
        self._sidecars: dict[tuple[str, str, str | None], list[BidsName]] = defaultdict(list)
        self._paths = {path for path in paths if path.endswith(ENDINGS)} if kind in ROLES else set()
        for path in sorted(self._paths):
            if (name := parse_name(path)) is None:
                continue
            for role, fits in self._roles.items():
                if fits(name):
                    self._by_scan[role, name.scan()].append(name)
            if name.extension == ".json":
                self._sidecars[name.folder, name.suffix, name.entities.get("sub")].append(name)

    def of(self, series: BidsName) -> tuple[dict[str, str], tuple[str, str] | None]:
        """Return the paths of a series' companions by role, and a problem where nobody can tell which is its own."""
        files, problem = {}, None
        for role in self._roles:
            found = _nearest(self._by_scan.get((role, series.scan()), []), series)
            if len(found) > 1:
                names = " and ".join(name.path for name in found)
                problem = ("two_files_for_one_scan", f"{series.path} has two files of {role}: {names}; take one away")
            elif found:
                files[role] = found[0].path
        if sidecar := self._sidecar_of(series):
            files["sidecar"] = sidecar
        if (beside := files.get("confounds", "").removesuffix(".tsv") + ".json") in self._paths:
            files["confounds_sidecar"] = beside
        return files, problem

    def _sidecar_of(self, series: BidsName) -> str | None:
        """Return the .json of the same name, or the nearest that BIDS lets the series inherit from."""
        stem = series.path.removesuffix(series.extension)
        for extension in (".json", series.extension.removesuffix(".nii") + ".json"):
            if stem + extension in self._paths:
                return stem + extension
        folder = series.folder
        while True:
            fitting = [
                name
                for subject in (series.entities.get("sub"), None)
                for name in self._sidecars.get((folder, series.suffix, subject), ())
                if name.entities.items() <= series.entities.items()
            ]
            if fitting:
                return max(fitting, key=lambda name: len(name.entities)).path
            if not folder:
                return None
            folder = folder.rpartition("/")[0]


def _nearest(found: list[BidsName], series: BidsName) -> list[BidsName]:
    """Narrow candidates to those in the series' folder, then of its space, then of the newer releases' names."""
    tests: tuple[Callable[[BidsName], bool], ...] = (
        lambda name: name.folder == series.folder,
        lambda name: name.entities.get("space") == series.entities.get("space"),
        lambda name: name.suffix != "regressors" and name.extension != ".csv",
    )
    for test in tests:
        if len(found) > 1:
            found = [name for name in found if test(name)] or found
    return found
