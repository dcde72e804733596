"""Packed files unpacked within a limit: a small file may hold zeros for terabytes."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 28
"""So many bytes a packed table or array may hold: 1000 regions over 13,000 timepoints as text."""
PIECE_BYTES = 1 << 20
MAT_HEADER, MAT_TAG, MAT_COMPRESSED = 128, 8, 15


def unpack_gzip(data: bytes, largest: int = LARGEST) -> bytes:
    """Return what gzipped bytes hold.

    Raises
    ------
    OSError, EOFError, zlib.error
        If they are damaged.
    ValueError
        If they hold more than `largest` bytes; no more than that is ever held.
    """
    found = bytearray()
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while piece := stream.read(PIECE_BYTES):
            found += piece
            _check(len(found), len(data), largest)
    return bytes(found)


def read_npz(data: bytes, largest: int = LARGEST) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file; objects, whose reading could run code, are refused.

    Raises
    ------
    ValueError
        If it is none, is damaged, or says that it holds more than `largest` bytes (zip readers give no more than a file
        says).
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(sum(member.file_size for member in archive.infolist()), len(data), largest)
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return dict(found)
    except (OSError, EOFError, LookupError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def check_mat(data: bytes, largest: int = LARGEST) -> None:
    """Refuse a MATLAB file (version 5 to 7) whose packed variables hold more than `largest` bytes together.

    Raises
    ------
    ValueError
        If they do. What is no such file, or a damaged one, is left to its reader.
    """
    n_bytes = 0
    for packed in _packed_variables(data):
        one = zlib.decompressobj()
        while packed and not one.eof:
            try:
                n_bytes += len(one.decompress(packed, PIECE_BYTES))
            except zlib.error:
                return
            packed = one.unconsumed_tail
            _check(n_bytes, len(data), largest)


def _packed_variables(data: bytes) -> Iterator[bytes]:
    order = "<" if data[MAT_HEADER - 2 : MAT_HEADER] == b"IM" else ">"
    at = MAT_HEADER
    while at + MAT_TAG <= len(data):
        kind, n_bytes = struct.unpack(f"{order}II", data[at : at + MAT_TAG])
        at += MAT_TAG
        if kind == MAT_COMPRESSED:
            yield data[at : at + n_bytes]
        at += n_bytes


def _check(n_bytes: int, n_packed: int, largest: int) -> None:
    if n_bytes > largest:
        raise ValueError(f"its {n_packed} bytes unpack to more than {largest}, which is no scan's or atlas's")
