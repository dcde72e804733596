"""Find what lies beside a scan's series: confounds, sidecars, outliers, quality control."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property

from boldstream.parcellation.bids import BidsName, parse_name

ROLES: dict[str, dict[str, tuple[tuple[str, ...], tuple[str | None, ...]]]] = {
    "fmriprep": {"confounds": (("_timeseries.tsv", "_regressors.tsv"), ("confounds",))},
    "xcpd": {
        "outliers": (("_outliers.tsv",), (None,)),
        "motion": (("_motion.tsv",), (None,)),
        "qc": (("_qc.tsv", "_qc.csv"), ("linc", None)),
        "bold_sidecar": (("_bold.json",), ("denoised",)),
    },
    "cifti": {},
}
"""What may lie beside a series, by kind of source: endings, and labels of ``desc-`` (None: without one)."""

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
        self._paths = {path for path in paths if path.endswith(ENDINGS)} if kind in ROLES else set()
        self._by_scan: dict[tuple[str, tuple[tuple[str, str], ...]], list[BidsName]] = defaultdict(list)
        for role, (endings, descs) in self._roles.items():
            for path in self._paths:
                if path.endswith(endings) and (name := parse_name(path)) and name.entities.get("desc") in descs:
                    self._by_scan[role, name.scan()].append(name)

    @cached_property
    def _sidecars(self) -> dict[tuple[str, str, str | None], list[BidsName]]:
        """All .json by folder, suffix and subject; only needed where a series has none of its own name."""
        sidecars = defaultdict(list)
        for path in sorted(self._paths):
            if path.endswith(".json") and (name := parse_name(path)):
                sidecars[name.folder, name.suffix, name.entities.get("sub")].append(name)
        return sidecars

    def of(self, series: BidsName) -> tuple[dict[str, str], tuple[str, str] | None]:
        """Return the paths of a series' companions by role, and a problem where nobody can tell which is its own."""
        files, problem = {}, None
        for role in self._roles:
            found = _nearest(self._by_scan.get((role, series.scan()), []), series)
            if len(found) > 1:
                names = " and ".join(sorted(name.path for name in found))
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
