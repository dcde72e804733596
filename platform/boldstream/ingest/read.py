"""Read one scan of a source, whatever made it, into its series and what its files say of it."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.config import digest_json
from boldstream.errors import ScanError, StorageError
from boldstream.ingest.config import SourceConfig
from boldstream.ingest.plan import ScanPlan
from boldstream.ingest.regions import Regions
from boldstream.parcellation.confounds import ConfoundFiles
from boldstream.parcellation.extract import extract_series
from boldstream.parcellation.permutation import reorder_columns
from boldstream.parcellation.timeseries import check_regions, read_timeseries
from boldstream.parcellation.timing import header_t_r, sidecar_t_r
from boldstream.parcellation.ukb import read_ukb
from boldstream.parcellation.xcpd import kept_timepoints, read_qc, read_xcpd
from boldstream.storage import open_stream, read_bytes

PTSERIES, DTSERIES = ".ptseries.nii", ".dtseries.nii"


@dataclass(frozen=True, eq=False)
class ReadScan:
    """What the files of one scan hold.

    Attributes
    ----------
    values : array, shape (n_timepoints, n_rois), float32
        In the cohort's order of regions.
    names : tuple of str or None
        Regions as the file names them, in its order.
    t_rs : dict of float or None
        Repetition times (seconds) by who says so, the most trusted first.
    kept : array of bool or None
        Over the scan's whole time axis, where the source censored; `values` may hold only those.
    coverage, tsnr : array of float32, shape (n_rois,), or None
        Of scans averaged from images.
    confounds : ConfoundFiles or None
    mean_fd : float or None
        Mean framewise displacement (mm), where a table of the source says it.
    sha256 : str
        Of all files that were read.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...] | None = None
    t_rs: dict[str, float | None] = field(default_factory=dict)
    kept: NDArray[np.bool_] | None = None
    coverage: NDArray[np.float32] | None = None
    tsnr: NDArray[np.float32] | None = None
    confounds: ConfoundFiles | None = None
    mean_fd: float | None = None
    sha256: str = ""


class ScanFiles:
    """The files of one scan, by role; whatever is read is hashed.

    Parameters
    ----------
    files : dict of str
        URIs by role.
    """

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self._digests: dict[str, Any] = {}

    def name(self, role: str) -> str:
        """Return a file's name without its folder."""
        return self.files[role].rpartition("/")[2]

    def read(self, role: str) -> bytes:
        """Return a file's content.

        Raises
        ------
        ScanError
            ``unreadable``.
        """
        try:
            data = read_bytes(self.files[role])
        except StorageError as error:
            raise ScanError("unreadable", str(error)) from None
        self._digests[role] = hashlib.sha256(data)
        return data

    def read_if_there(self, role: str) -> bytes | None:
        """Return a file's content, None where the scan has no such file."""
        return self.read(role) if role in self.files else None

    def open(self, role: str) -> "HashedStream":
        """Open a large file to be read once from its start.

        Raises
        ------
        ScanError
            ``unreadable``.
        """
        try:
            stream = open_stream(self.files[role])
        except StorageError as error:
            raise ScanError("unreadable", str(error)) from None
        hashed = HashedStream(stream, self.files[role])
        self._digests[role] = hashed.sha256
        return hashed

    @property
    def sha256(self) -> str:
        """Digest of what was read: of the file, or of the digests of several."""
        digests = {role: found.hexdigest() for role, found in self._digests.items()}
        return next(iter(digests.values())) if len(digests) == 1 else digest_json(digests)


class HashedStream:
    """A stream that is hashed as it is read.

    Parameters
    ----------
    stream : pyarrow.NativeFile
    uri : str
        For messages.
    """

    def __init__(self, stream: pa.NativeFile, uri: str) -> None:
        self._stream, self._uri = stream, uri
        self.sha256 = hashlib.sha256()

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read some bytes into a buffer and return how many.

        Raises
        ------
        ScanError
            ``unreadable`` if the storage fails.
        """
        try:
            count: int | None = self._stream.readinto(buffer)
        except OSError as error:
            raise ScanError("unreadable", f"{self._uri}: cannot be read: {error}") from None
        if count:
            self.sha256.update(buffer[:count])
        return count

    def finish(self) -> None:
        """Read what is left, so that the digest is of the whole file."""
        buffer = memoryview(bytearray(1 << 20))
        while self.readinto(buffer):
            pass
        self._stream.close()


def read_scan(plan: ScanPlan, source: SourceConfig, regions: Regions) -> ReadScan:
    """Read one scan.

    Raises
    ------
    ScanError
        If a file cannot be read, or is not what its name says.
    """
    files = ScanFiles(plan.files)
    if source.kind == "fmriprep":
        found = _read_fmriprep(files, regions)
    elif source.kind == "ukb":
        series = read_ukb(files.read("subcortex"), files.read("cortex"))
        found = ReadScan(series.values, series.roi_names)
    elif source.kind == "xcpd":
        found = _read_xcpd(files)
    elif source.kind == "cifti":
        found = _read_cifti(files, regions)
    else:
        table = read_timeseries(
            files.read("series"), files.name("series"), orientation=source.orientation, mat_key=source.mat_key
        )
        found = ReadScan(table.values, table.column_names)
    check_regions(found.values, found.names, regions.source.roi_names)
    values = found.values if regions.order is None else reorder_columns(found.values, regions.order)
    return replace(found, values=values, sha256=files.sha256)


def _read_fmriprep(files: ScanFiles, regions: Regions) -> ReadScan:
    """Average an image over the atlas, and take its confounds along."""
    assert regions.volume is not None
    stream = files.open("bold")
    found = extract_series(stream, regions.volume)
    stream.finish()
    confounds = None
    if (table := files.read_if_there("confounds")) is not None:
        confounds = ConfoundFiles(table, files.read_if_there("confounds_sidecar"), files.name("bold"))
    t_rs = _sidecar_t_r(files, "sidecar") | {"the image's header": header_t_r(found.t_r or 0.0, found.zooms, "sec")}
    return ReadScan(found.values, None, t_rs, None, found.coverage, found.tsnr, confounds)


def _read_xcpd(files: ScanFiles) -> ReadScan:
    """Read XCP-D's series with its outliers and quality control."""
    outliers = files.read_if_there("outliers")
    t_rs: dict[str, float | None] = {}
    if files.name("series").endswith(PTSERIES):
        from boldstream.parcellation.cifti import read_ptseries

        parcels = read_ptseries(files.read("series"))
        values, names, kept = parcels.values, parcels.roi_names, kept_timepoints(len(parcels.values), outliers)
        t_rs = {"the series' header": parcels.t_r}
    else:
        series = read_xcpd(files.read("series"), outliers)
        values, names, kept = series.values, series.roi_names, series.kept
    t_rs = _sidecar_t_r(files, "sidecar") | _sidecar_t_r(files, "bold_sidecar") | t_rs
    qc = files.read_if_there("qc")
    mean_fd = read_qc(qc).get("mean_fd") if qc is not None else None
    return ReadScan(values, names, t_rs, kept if outliers is not None else None, mean_fd=mean_fd)


def _read_cifti(files: ScanFiles, regions: Regions) -> ReadScan:
    """Read a parcellated series, or average a dense one."""
    from boldstream.parcellation.cifti import extract_dtseries, read_ptseries

    role = "bold" if "bold" in files.files else "series"
    if files.name(role).endswith(PTSERIES):
        parcels = read_ptseries(files.read(role))
        return ReadScan(parcels.values, parcels.roi_names, {"the series' header": parcels.t_r})
    if regions.grayordinates is None:
        raise ScanError("no_atlas", "is a dense series; give the .dlabel.nii to average it over: atlas_file")
    dense = extract_dtseries(files.read(role), regions.grayordinates)
    t_rs = _sidecar_t_r(files, "sidecar") | {"the series' header": dense.t_r}
    return ReadScan(dense.values, None, t_rs, coverage=dense.coverage)


def _sidecar_t_r(files: ScanFiles, role: str) -> dict[str, float | None]:
    """Return what a JSON sidecar says of the repetition time."""
    data = files.read_if_there(role)
    return {} if data is None else {files.name(role): sidecar_t_r(data, files.name(role))}
