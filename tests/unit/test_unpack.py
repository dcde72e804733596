"""Files made to harm whoever reads them: small ones that unpack to gigabytes, and ones that carry code."""

import gzip
import io
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from boldstream.analysis.roi_statistics import RoiStatistics
from boldstream.encoders.brainjepa.checkpoint import read_state
from boldstream.encoders.brainjepa.foreign import read_statistics
from boldstream.errors import AtlasError, CheckpointError, ModelError, ScanError, SourceError
from boldstream.parcellation.label_volume import read_image
from boldstream.parcellation.permutation import read_permutation
from boldstream.parcellation.timeseries import read_timeseries
from boldstream.parcellation.timing import sidecar_t_r
from boldstream.parcellation.ukb import read_ukb
from boldstream.parcellation.volumes import Unpacked, read_header, read_volumes
from boldstream.synthesis.connectivity import read_connectivity
from boldstream.unpack import LARGEST, check_mat, read_npz, unpack_gzip

MEMBER = bytes(16 << 20)
GIGABYTE = 64 * len(MEMBER)


@pytest.fixture(scope="module")
def gzip_bomb(tmp_path_factory):
    """A file of a megabyte that unpacks to one of a gigabyte."""
    path = tmp_path_factory.mktemp("bomb") / "sub-01.csv.gz"
    path.write_bytes(gzip.compress(MEMBER, 9) * (GIGABYTE // len(MEMBER)))
    assert path.stat().st_size < 2 << 20
    return path


@pytest.fixture
def peak():
    """Return a function that tells the most memory that was held since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_gzip_bomb__as_a_table_is_refused_within_bounded_memory(gzip_bomb, peak):
    with pytest.raises(ScanError, match=f"bytes unpack to more than {LARGEST}, which is no scan's") as caught:
        read_timeseries(gzip_bomb.read_bytes(), gzip_bomb.name)
    assert caught.value.reason == "unreadable"
    assert peak() < 1.5 * LARGEST


def test_gzip_bomb__in_biobanks_tables_is_refused(gzip_bomb):
    with pytest.raises(ScanError, match=f"unreadable: subcortex: its .* unpack to more than {LARGEST}"):
        read_ukb(gzip_bomb.read_bytes(), b"")


def test_gzip__within_the_limit_is_unpacked_whole():
    assert unpack_gzip(gzip.compress(b"12") + gzip.compress(b"34"), largest=4) == b"1234"
    with pytest.raises(ValueError, match="unpack to more than 3, which"):
        unpack_gzip(gzip.compress(b"12") + gzip.compress(b"34"), largest=3)


def nifti_header(shape, vox_offset=352):
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.float32)
    header.set_sform(np.diag([2, 2, 2, 1]), 1)
    header["vox_offset"] = vox_offset
    header["magic"] = b"n+1"
    return header.binaryblock + bytes(4)


def read_all(data):
    source = Unpacked(io.BytesIO(data))
    return [block.copy() for block in read_volumes(source, read_header(source), n_at_once=1)]


def test_gzip_bomb__behind_an_image_is_refused_within_bounded_memory(gzip_bomb, peak):
    whole = gzip.compress(nifti_header((4, 5, 6, 2)) + bytes(4 * 120 * 2))
    assert len(read_all(whole + gzip.compress(bytes(1000)))) == 2
    with pytest.raises(ScanError, match="goes on for more than 67108864 bytes after its last volume"):
        read_all(whole + gzip_bomb.read_bytes())
    assert peak() < LARGEST / 4


@pytest.mark.parametrize(
    ("shape", "offset", "told"),
    [
        ((400, 400, 400, 32000), 352, "4 bytes before the data, 8192000000000 of data"),
        ((4, 5, 6, 2), 1e9, "999999652 bytes before the data"),
    ],
)
def test_image__whose_header_promises_too_much_is_refused(shape, offset, told, gzip_bomb):
    with pytest.raises(ScanError, match=f"its NIfTI header makes no sense .{told}"):
        read_all(gzip.compress(nifti_header(shape, offset)) + gzip_bomb.read_bytes())


def test_atlas__whose_header_promises_too_much_is_refused(tmp_path, gzip_bomb):
    path = tmp_path / "atlas.nii.gz"
    path.write_bytes(gzip.compress(nifti_header((1000, 1000, 1000))) + gzip_bomb.read_bytes())
    with pytest.raises(AtlasError, match=r"cannot be read as an image .its header says 1000000000 voxels, more than"):
        read_image(path)


def zip_bomb(path):
    """An .npz whose one array has a third of a gigabyte of zeros."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (20 * len(MEMBER),)})
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("medians.npy", "w") as member:
        member.write(head.getvalue())
        for _ in range(20):
            member.write(MEMBER)
    return path


def test_zip_bomb__is_refused_within_bounded_memory(tmp_path, peak):
    path = zip_bomb(tmp_path / "statistics.npz")
    with pytest.raises(ModelError, match=f"cannot be read as .npz .its .* unpack to more than {LARGEST}"):
        read_statistics(path, 450)
    with pytest.raises(ValueError, match=f"is no .npz of statistics .its .* unpack to more than {LARGEST}"):
        RoiStatistics.from_bytes(path.read_bytes())
    assert peak() < LARGEST / 4


def test_zip_bomb__that_lies_about_its_size_gives_no_more_than_it_says(tmp_path, peak):
    data = bytearray(zip_bomb(tmp_path / "statistics.npz").read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1000)
    with pytest.raises(ValueError):
        read_npz(bytes(data))
    assert peak() < 1.5 * 20 * len(MEMBER)  # numpy makes room for what the array's own header says, and fills it not


def test_npz__of_plain_arrays_is_read():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.arange(3), b=np.eye(2))
    found = read_npz(buffer.getvalue())
    assert found.keys() == {"a", "b"}
    np.testing.assert_array_equal(found["b"], np.eye(2))


def mat_bomb():
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"tc": np.zeros((2, 2))})
    pack = zlib.compressobj(1)
    # the first eight bytes begin a matrix of three gigabytes
    packed = pack.compress(struct.pack("<II", 14, 3 << 30)) + b"".join(pack.compress(MEMBER) for _ in range(20))
    packed += pack.flush()
    return buffer.getvalue()[:128] + struct.pack("<II", 15, len(packed)) + packed


def test_mat_bomb__is_refused_within_bounded_memory(peak):
    with pytest.raises(ScanError, match=f"unreadable: its .* unpack to more than {LARGEST}"):
        read_timeseries(mat_bomb(), "a.mat", mat_key="tc")
    assert peak() < LARGEST / 4


def test_mat__that_is_packed_and_small_is_read():
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"other": np.ones(9), "tc": np.eye(3)}, do_compression=True)
    np.testing.assert_array_equal(read_timeseries(buffer.getvalue(), "a.mat", mat_key="tc").values, np.eye(3))
    with pytest.raises(ValueError, match="unpack to more than 100,"):
        check_mat(buffer.getvalue(), largest=100)


def test_sidecar__of_brackets_in_brackets_is_refused():
    with pytest.raises(ScanError, match=r"bad_t_r: a.json is not JSON"):
        sidecar_t_r(b"[" * 200_000, "a.json")


class Code:
    """What unpickling would run: it leaves a file behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def code(tmp_path):
    """An object that leaves a trace where it is unpickled, and the place to look for it."""
    trace = tmp_path / "was-here"
    pickle.loads(pickle.dumps(Code(trace)))
    assert trace.exists(), "the pickle is harmless and proves nothing"
    trace.unlink()
    yield Code(trace)
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.pth.tar", "a.ckpt"])
def test_code__in_weights_is_refused(code, tmp_path, name, zipped):
    torch.save({"target_encoder": code}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="refused, it holds more than tensors and plain values") as caught:
        read_state(tmp_path / name)
    assert "\n" not in str(caught.value)


def object_array(code):
    buffer = io.BytesIO()
    np.save(buffer, np.array([code], dtype=object))
    return buffer.getvalue()


def test_code__in_arrays_is_refused(code, tmp_path):
    data = object_array(code)
    (tmp_path / "order.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "statistics.npz", "w") as archive:
        archive.writestr("medians.npy", data)
    with pytest.raises(ScanError, match="unreadable: Object arrays cannot be loaded"):
        read_timeseries(data, "a.npy")
    with pytest.raises(AtlasError, match=r"cannot be read as a permutation .Object arrays"):
        read_permutation(tmp_path / "order.npy", 1)
    with pytest.raises(SourceError, match=r"is no matrix of numbers .Object arrays"):
        read_connectivity(data, "fc.npy")
    with pytest.raises(ModelError, match=r"cannot be read as .npz .Object arrays"):
        read_statistics(tmp_path / "statistics.npz", 1)


def test_pickle__instead_of_an_array_is_refused(code, tmp_path):
    (tmp_path / "statistics.npz").write_bytes(pickle.dumps(code))
    with pytest.raises(ScanError, match="unreadable"):
        read_timeseries(pickle.dumps(code), "a.npy")
    with pytest.raises(ModelError, match="File is not a zip file"):
        read_statistics(tmp_path / "statistics.npz", 1)
