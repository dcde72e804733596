"""Read the volumes of a NIfTI image a few at a time, from any stream of bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from isal import isal_zlib
from nibabel import Nifti1Header, Nifti2Header
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from numpy.typing import NDArray

from boldstream.errors import ScanError

HEADERS = {348: Nifti1Header, 540: Nifti2Header}
"""By a header's own length, which is its first number."""

SECONDS = {0: 1.0, 8: 1.0, 16: 1e-3, 24: 1e-6}
"""By the time part of a NIfTI header's units: not said, seconds, milliseconds, microseconds."""

GZIP_MAGIC = b"\x1f\x8b"
PACKED_BYTES = 1 << 18
PIECE_BYTES = 1 << 20
BLOCK_BYTES = 1 << 25
"""At most so much is held of the raw image, or one volume."""

MAX_VOXELS = 1 << 27
"""A volume of more voxels (512 in each direction) is a damaged header, not a brain."""

MAX_BEFORE = 1 << 26
"""More bytes between header and data hold no header extension."""

MAX_AFTER = 1 << 26
"""More bytes after the last volume are no padding."""

MAX_IMAGE = 1 << 36
"""An image of more bytes (64 GiB: 7 T, 1.2 mm, 6000 volumes in float32) is a damaged or malicious header."""

DAMAGED_HEADER = (ArithmeticError, HeaderDataError, HeaderTypeError, LookupError, ValueError)
"""What nibabel raises on headers that make no sense."""


class ByteStream(Protocol):
    """What can be read once from its start: a file, a pyarrow input stream, a `io.BytesIO`."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read some bytes into a buffer and return how many; 0 or None at the end."""
        ...


class Unpacked:
    """A stream's bytes, unpacked where they are gzipped (which its first two bytes tell).

    By ISA-L, which takes about half of zlib's time: unpacking is most of what reading a packed image costs.

    Parameters
    ----------
    stream : ByteStream
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._start = bytearray(len(GZIP_MAGIC))
        del self._start[_fill(memoryview(self._start)[:], stream.readinto) :]
        self._gzip = isal_zlib.decompressobj(isal_zlib.MAX_WBITS | 16) if self._start == GZIP_MAGIC else None
        self._packed = bytes(self._start)

    def fill(self, view: memoryview) -> int:
        """Fill a view of bytes as far as the stream goes and return how many there were.

        Raises
        ------
        ScanError
            ``unreadable`` if the stream breaks, or a gzipped one is damaged or cut.
        """
        try:
            if self._gzip is not None:
                return _fill(view, self._unzip)
            n_start = min(len(view), len(self._start))
            view[:n_start] = self._start[:n_start]
            del self._start[:n_start]
            return n_start + _fill(view[n_start:], self._stream.readinto)
        except (OSError, isal_zlib.error) as error:  # type: ignore[misc]  # its stub calls the class an instance
            raise ScanError("unreadable", f"cannot be read to its end ({error})") from None

    def check_rest(self) -> None:
        """Read a gzipped stream to its end, where it compares the checksum.

        Raises
        ------
        ScanError
            ``unreadable`` if it is damaged or cut, or holds far more than what was read.
        """
        rest, n_after = memoryview(bytearray(PIECE_BYTES)), 0
        while self._gzip is not None and (n_read := self.fill(rest)):
            n_after += n_read
            if n_after > MAX_AFTER:
                raise ScanError("unreadable", f"goes on for more than {MAX_AFTER} bytes after its last volume")

    def _unzip(self, view: memoryview) -> int:
        """Put the next piece of unpacked bytes into the view."""
        assert self._gzip is not None
        while True:
            if self._gzip.eof:  # files may be several gzip streams in a row, padded by zeros
                self._packed = self._gzip.unused_data.lstrip(b"\0") or self._read().lstrip(b"\0")
                if not self._packed:
                    return 0
                self._gzip = isal_zlib.decompressobj(isal_zlib.MAX_WBITS | 16)
            packed = self._packed or self._read()
            piece = self._gzip.decompress(packed, min(len(view), PIECE_BYTES))
            self._packed = self._gzip.unconsumed_tail
            if piece:
                view[: len(piece)] = piece
                return len(piece)
            if not packed and not self._gzip.eof:
                raise ScanError("unreadable", "is cut: the gzip stream stops before its end")

    def _read(self) -> bytes:
        packed = bytearray(PACKED_BYTES)
        return bytes(packed[: self._stream.readinto(memoryview(packed)) or 0])


def _fill(view: memoryview, readinto: Any) -> int:
    """Call until the view is full or nothing comes; return the number of bytes."""
    n_bytes = 0
    while n_bytes < len(view):
        n_read = readinto(view[n_bytes:])
        if not n_read:
            break
        n_bytes += n_read
    return n_bytes


@dataclass(frozen=True)
class ImageHeader:
    """What a NIfTI header says.

    Attributes
    ----------
    shape : tuple of int
        Voxels in each direction (X, Y, Z).
    n_timepoints : int
    dtype : numpy.dtype
        Of the stored numbers, byte order included.
    slope, inter : float
        A voxel is ``slope * stored + inter``.
    affine : array of float64, shape (4, 4)
        Voxel indices to millimetres, as nibabel gives it: sform, else qform, else voxel sizes around the centre.
    t_r : float or None
        Seconds; None where the header says 0 or counts other things than time.
    n_before : int
        Bytes between header and data.
    """

    shape: tuple[int, int, int]
    n_timepoints: int
    dtype: np.dtype[Any]
    slope: float
    inter: float
    affine: NDArray[np.float64]
    t_r: float | None
    n_before: int

    @property
    def n_voxels(self) -> int:
        """Voxels of a volume."""
        return int(np.prod(self.shape))


def read_header(source: Unpacked) -> ImageHeader:
    """Read the header of a NIfTI-1 or NIfTI-2 image.

    Raises
    ------
    ScanError
        ``unreadable`` if it is none or makes no sense, ``not_4d`` if the image has no time axis.
    """
    block = bytearray(max(HEADERS))
    view = memoryview(block)
    n_bytes = source.fill(view[: min(HEADERS)])
    size = next((n for n in HEADERS for order in ("little", "big") if int.from_bytes(block[:4], order) == n), None)
    if n_bytes < min(HEADERS) or size is None:
        raise ScanError("unreadable", f"is no NIfTI image ({n_bytes} bytes, beginning with {bytes(block[:8])!r})")
    if source.fill(view[n_bytes:size]) < size - n_bytes:
        raise ScanError("unreadable", f"ends within its header of {size} bytes")
    try:
        header = HEADERS[size](bytes(block[:size]))
        return _understood(header, size)
    except DAMAGED_HEADER as error:
        raise ScanError("unreadable", f"its NIfTI header makes no sense ({error})") from None


def _understood(header: Any, size: int) -> ImageHeader:
    magic = bytes(header["magic"])
    if not magic.startswith(b"n+"):
        raise ScanError("unreadable", f"is not one NIfTI file (magic {magic!r}); save header and data as one .nii")
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 4:
        raise ScanError("not_4d", f"has shape {shape}, not (x, y, z, time)")
    if min(shape) < 1 or int(np.prod(shape[:3], dtype=object)) > MAX_VOXELS:
        raise ScanError("unreadable", f"its NIfTI header makes no sense (shape {shape})")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise ScanError("unreadable", f"holds {dtype} voxels, not real numbers")
    n_before = max(int(header.get_data_offset()) - size, 0)
    n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if n_before > MAX_BEFORE or n_bytes > MAX_IMAGE:
        told = f"{n_before} bytes before the data, {n_bytes} of data"
        raise ScanError("unreadable", f"its NIfTI header makes no sense ({told})")
    slope, inter = header.get_slope_inter()
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise ScanError("unreadable", f"its affine cannot be inverted: {affine[:3].round(3).tolist()}")
    return ImageHeader(
        shape=shape[:3],
        n_timepoints=shape[3],
        dtype=dtype,
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        affine=affine,
        t_r=_t_r(header),
        n_before=n_before,
    )


def _t_r(header: Any) -> float | None:
    """Return the repetition time; from the shortest text of a float32, so that 0.72 stays 0.72."""
    step = float(str(header["pixdim"][4]))
    unit = SECONDS.get(int(header["xyzt_units"]) & 0b111000)
    if unit is None or not np.isfinite(step) or step <= 0:
        return None
    return step if unit == 1.0 else round(step * unit, 9)


def read_volumes(source: Unpacked, header: ImageHeader, *, n_at_once: int) -> Iterator[NDArray[Any]]:
    """Read the volumes after the header in blocks, as stored.

    Yields
    ------
    array, shape (n, X * Y * Z)
        Volumes in order, voxels with x running fastest; one buffer, overwritten by the next block.

    Raises
    ------
    ScanError
        ``unreadable`` if there are fewer volumes than the header says.
    """
    n_left = header.n_before
    while n_left and (n_skipped := source.fill(memoryview(bytearray(min(n_left, PACKED_BYTES))))):
        n_left -= n_skipped
    n_bytes = header.n_voxels * header.dtype.itemsize
    n_block = max(1, min(n_at_once, BLOCK_BYTES // n_bytes, header.n_timepoints))
    buffer = np.empty((n_block, header.n_voxels), dtype=header.dtype)
    view = buffer.view(np.uint8).reshape(-1).data
    for t in range(0, header.n_timepoints, n_block):
        n = min(n_block, header.n_timepoints - t)
        n_read = source.fill(view[: n * n_bytes])
        if n_read < n * n_bytes:
            n_whole = t + n_read // n_bytes
            raise ScanError("unreadable", f"ends after {n_whole} of {header.n_timepoints} volumes")
        yield buffer[:n]
    source.check_rest()
