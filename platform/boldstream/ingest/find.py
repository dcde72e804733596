"""Find the scans of a source by their files' names, before anything is read."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from boldstream.errors import SourceError
from boldstream.ingest.companions import CompanionFiles
from boldstream.ingest.config import SourceConfig
from boldstream.parcellation.bids import BidsName, parse_name

IGNORED = re.compile(r"(?:^|/)(?:\.|(?:sourcedata|figures|logs?|code)/)")
"""Hidden files, and folders that hold no series to read (not for kind ``files``, whose template rules)."""

CHOICES = ("task", "space", "resolution", "segmentation")
"""What a source's configuration can choose by."""

WITHOUT = "none"
"""How one chooses the files that have no label of a kind, e.g. ``space: none``."""

UKB_FILE = re.compile(r"(?P<folder>.*/|)fMRI\.(?:(?P<cortex>Schaefer17n400p)|Tian_Subcortex_S3_3T)\.csv(?:\.gz)?")
UKB_FOLDER = re.compile(r"(?P<subject>\d+)(?:_\d{5})?(?:_(?P<session>\d{1,2})(?:_(?P<array>\d{1,2}))?)?")
PCP_FILE = re.compile(r"(?:.*/)?(?P<file_id>[^/]*_(?P<number>\d+))_rois_(?P<segmentation>[^/.]+)\.1D")

LOOKED_FOR = {
    "files": "fits the template {files!r}",
    "fmriprep": "is an fMRIPrep volume (*_desc-preproc_bold.nii.gz, without echo-)",
    "xcpd": "is an XCP-D time series (*_atlas-*_timeseries.tsv, *_seg-*_timeseries.tsv or .ptseries.nii)",
    "cifti": "is a CIFTI series (.dtseries.nii or .ptseries.nii; with BIDS names, or of the template `files`)",
    "ukb": "is a UK Biobank series (<id>/fMRI.Schaefer17n400p.csv.gz, <id>/fMRI.Tian_Subcortex_S3_3T.csv.gz)",
    "abide": "is a PCP series (<FILE_ID>_rois_<atlas>.1D)",
}


@dataclass(frozen=True)
class FoundScan:
    """One scan of a source.

    Attributes
    ----------
    fields : dict of str
        BIDS entities by long name (subject, session, task, run, space, …) and what else its name tells (file_id).
        Labels are bare: ``01``, not ``sub-01``.
    files : dict of str
        URI of each of its files by role. The series is in ``series`` (a table, .ptseries.nii), ``bold`` (a volume or
        .dtseries.nii) or ``subcortex`` and ``cortex`` (UK Biobank); beside them may be ``confounds``, ``sidecar``,
        ``confounds_sidecar``, ``bold_sidecar``, ``outliers``, ``motion``, ``qc``, and ``ptseries`` where XCP-D wrote
        one beside its table.
    problem : tuple of (str, str) or None
        Reason and message why it cannot be read (e.g. two files for one scan).
    """

    fields: dict[str, str]
    files: dict[str, str]
    problem: tuple[str, str] | None = field(default=None)


@dataclass(frozen=True)
class _Hit:
    """A file that holds a series, with the scan it belongs to; paths are relative."""

    key: Hashable
    fields: dict[str, str]
    files: dict[str, str]
    name: BidsName | None = None
    problem: tuple[str, str] | None = None

    @property
    def path(self) -> str:
        return next(iter(self.files.values()))


def find_scans(source: SourceConfig, paths: Sequence[str], root: str) -> list[FoundScan]:
    """Find the scans of a source in one listing of its files.

    Parameters
    ----------
    source : SourceConfig
        The kind of source, and what to choose of it. The label ``none`` chooses the files without a label.
    paths : sequence of str
        Paths of all its files, relative to `root`.
    root : str
        Absolute URI of the source's folder.

    Returns
    -------
    list of FoundScan
        Sorted by path. For the kinds with BIDS names each scan comes once: where it is there in two files it has a
        problem that names them, and none of them is to be read.

    Raises
    ------
    SourceError
        If no file is of the kind or of what is chosen, or if most scans are there in several spaces, resolutions or
        segmentations of which none is chosen.
    """
    if not paths:
        raise SourceError(f"source: {source.root} holds no files")
    visible = list(paths) if source.kind == "files" else [path for path in paths if not IGNORED.search(path)]
    hits = list(FINDERS[source.kind](source, visible, root))
    if not hits:
        looked_for = LOOKED_FOR[source.kind].format(files=source.files)
        raise SourceError(
            f"source: none of the {len(paths)} files in {source.root} {looked_for} (the first is {paths[0]!r})"
        )
    hits = _one_file_a_scan(source, _chosen(source, hits))
    if source.kind == "xcpd":
        hits = _without_combined_runs(hits)
    companions = CompanionFiles(source.kind, visible)
    scans = []
    for hit in sorted(hits, key=lambda hit: hit.path):
        beside, problem = companions.of(hit.name) if hit.name else ({}, None)
        files = {role: f"{root.rstrip('/')}/{path}" for role, path in {**beside, **hit.files}.items()}
        scans.append(FoundScan(hit.fields, files, hit.problem or problem))
    return scans


def template_pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression of a path template; a field that comes again must be the same again."""
    parts, seen = [], set()
    for piece in re.split(r"(\{\w+\})", template):
        name = piece[1:-1]
        if not re.fullmatch(r"\{\w+\}", piece):
            parts.append(re.escape(piece))
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            seen.add(name)
            parts.append(f"(?P<{name}>[^/]+?)")
    return re.compile("".join(parts))


def _of_template(source: SourceConfig, paths: list[str], root: str) -> Iterator[_Hit]:
    """Find what fits a template; which of the fields name a scan only the participants table may tell."""
    pattern = template_pattern(source.files or "")
    for path in paths:
        if (match := pattern.fullmatch(path)) and not path.rpartition("/")[2].startswith("."):
            yield _Hit(path, match.groupdict(), {_role(path): path})


def _role(path: str) -> str:
    return "bold" if path.endswith((".dtseries.nii", "_bold.nii.gz", "_bold.nii")) else "series"


def _of_bids(paths: list[str], endings: tuple[str, ...], wanted: Callable[[BidsName], bool]) -> Iterator[_Hit]:
    """Find the files with BIDS names that are wanted."""
    for path in paths:
        if path.endswith(endings) and (name := parse_name(path)) and wanted(name):
            wrong = name.contradiction()
            problem = ("contradictory_path", f"{path} {wrong}; rename or move it") if wrong else None
            yield _Hit(name.scan(), name.fields(), {_role(path): path}, name, problem)


def _of_fmriprep(source: SourceConfig, paths: list[str], root: str) -> Iterator[_Hit]:
    """Find preprocessed volumes; the echoes of a multi-echo run are not scans, their combination is."""
    endings = ("_bold.nii.gz", "_bold.nii")
    return _of_bids(paths, endings, lambda n: n.entities.get("desc") == "preproc" and "echo" not in n.entities)


def _of_xcpd(source: SourceConfig, paths: list[str], root: str) -> Iterator[_Hit]:
    """Find mean series of regions; a .ptseries.nii beside the table of the same regions is no double, but its copy."""
    endings = ("_timeseries.tsv", "_timeseries.ptseries.nii")
    tables: dict[Hashable, _Hit] = {}
    parcels: list[tuple[Hashable, _Hit]] = []
    for hit in _of_bids(paths, endings, _is_regional):
        made: Hashable = (hit.key, *map(hit.fields.get, ("space", "cohort", "resolution", "segmentation")))
        if hit.path.endswith(".tsv") and made not in tables:
            tables[made] = hit
        elif hit.path.endswith(".tsv"):
            yield hit
        else:
            parcels.append((made, hit))
    for twin, hit in parcels:
        if twin in tables:
            tables[twin].files.setdefault("ptseries", hit.path)
        else:
            yield hit
    yield from tables.values()


def _is_regional(name: BidsName) -> bool:
    return bool(name.entities.keys() & {"atlas", "seg"}) and name.entities.get("stat", "mean") == "mean"


def _of_cifti(source: SourceConfig, paths: list[str], root: str) -> Iterator[_Hit]:
    """Find parcellated series where a segmentation is chosen or there is nothing else, dense series otherwise."""
    if source.files is not None:
        yield from _of_template(source, paths, root)
        return
    dense = () if source.segmentation else tuple(_of_bids(paths, (".dtseries.nii",), lambda n: True))
    yield from dense or _of_bids(paths, (".ptseries.nii",), lambda n: n.entities.get("stat", "mean") == "mean")


def _of_ukb(source: SourceConfig, paths: list[str], root: str) -> Iterator[_Hit]:
    """Find pairs of cortex and subcortex; the folder's name is the subject's id, with or without field and instance."""
    folders: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in paths:
        if match := UKB_FILE.fullmatch(path):
            folders[match["folder"]].append(("cortex" if match["cortex"] else "subcortex", path))
    for folder, found in folders.items():
        name = f"{root.rstrip('/')}/{folder}".rstrip("/").rpartition("/")[2]
        match = UKB_FOLDER.fullmatch(name)
        fields = {key: label for key, label in match.groupdict().items() if label} if match else {"subject": name}
        files = dict(found)
        problem = None
        if len(found) > len(files):
            problem = _doubled([path for _, path in found], "")
        elif len(files) == 1:
            other = "fMRI.Tian_Subcortex_S3_3T.csv.gz" if "cortex" in files else "fMRI.Schaefer17n400p.csv.gz"
            problem = ("missing_file", f"{found[0][1]} has no {other} beside it; both make a scan")
        yield _Hit(tuple(fields.items()), fields, files, problem=problem)


def _of_abide(source: SourceConfig, paths: list[str], root: str) -> Iterator[_Hit]:
    """Find PCP's series. The phenotype table lacks the FILE_ID of some subjects, its SUB_ID has no leading zeros."""
    for path in paths:
        if match := PCP_FILE.fullmatch(path):
            fields = {"subject": match["number"], "file_id": match["file_id"], "segmentation": match["segmentation"]}
            yield _Hit(match["file_id"], fields | {"SUB_ID": match["number"].lstrip("0") or "0"}, {"series": path})


FINDERS: dict[str, Callable[[SourceConfig, list[str], str], Iterator[_Hit]]] = {
    "files": _of_template,
    "fmriprep": _of_fmriprep,
    "xcpd": _of_xcpd,
    "cifti": _of_cifti,
    "ukb": _of_ukb,
    "abide": _of_abide,
}


def _chosen(source: SourceConfig, hits: list[_Hit]) -> list[_Hit]:
    """Keep what the configuration chooses; refuse several segmentations of which none is chosen."""
    for choice in CHOICES:
        wanted = getattr(source, choice)
        labels = Counter(hit.fields.get(choice, WITHOUT) for hit in hits)
        there = ", ".join(f"{label} ({count})" for label, count in sorted(labels.items()))
        if wanted is not None and wanted not in labels:
            raise SourceError(
                f"source: none of {len(hits)} series in {source.root} has the {choice} {wanted!r}; there are {there}"
            )
        if wanted is not None:
            hits = [hit for hit in hits if hit.fields.get(choice, WITHOUT) == wanted]
        elif choice == "segmentation" and len(labels) > 1:
            raise SourceError(
                f"source: the series in {source.root} are of several atlases; set source.segmentation to one of {there}"
            )
    return hits


def _one_file_a_scan(source: SourceConfig, hits: list[_Hit]) -> list[_Hit]:
    """Mark the scans that are there more than once; refuse the source where most are, for want of a choice."""
    scans: dict[Hashable, list[_Hit]] = defaultdict(list)
    for hit in hits:
        scans[hit.key].append(hit)
    if len(scans) == len(hits):
        return hits
    doubled = [sorted(group, key=lambda hit: hit.path) for group in scans.values() if len(group) > 1]
    to_choose = {}
    for choice in CHOICES:
        labels = [{hit.fields.get(choice, WITHOUT) for hit in group} for group in doubled]
        if any(len(found) > 1 for found in labels):
            to_choose[choice] = ", ".join(sorted(set().union(*labels)))
    hint = "; ".join(f"set source.{choice} to one of {labels}" for choice, labels in to_choose.items())
    if not hint and source.kind == "cifti":
        hint = "name the one you mean with the template source.files"
    if hint and 2 * len(doubled) > len(scans):
        raise SourceError(
            f"source: {len(doubled)} of {len(scans)} scans in {source.root} are there more than once, e.g. "
            f"{doubled[0][0].path} and {doubled[0][1].path}; {hint}"
        )
    single = [group[0] for group in scans.values() if len(group) == 1]
    return single + [replace(group[0], problem=_doubled([hit.path for hit in group], hint)) for group in doubled]


def _doubled(paths: list[str], hint: str) -> tuple[str, str]:
    return ("two_files_for_one_scan", f"{' and '.join(sorted(paths))}; {hint or 'take one of them away'}")


def _without_combined_runs(hits: list[_Hit]) -> list[_Hit]:
    """Mark the series that XCP-D joined from runs that are there one by one."""
    parts: dict[Hashable, str] = {}
    for hit in hits:
        joined = tuple(item for item in hit.name.scan() if item[0] not in ("run", "dir")) if hit.name else ()
        if joined != hit.key:
            parts.setdefault(joined, hit.path)
    return [
        replace(hit, problem=("combined_runs", f"{hit.path} joins runs that are there one by one, e.g. {parts[key]}"))
        if (key := hit.key) in parts
        else hit
        for hit in hits
    ]
