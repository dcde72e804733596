import gzip
import io
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.image import resample_img, resample_to_img
from nilearn.maskers import NiftiLabelsMasker

from boldstream.errors import ScanError
from boldstream.parcellation.atlas import Atlas
from boldstream.parcellation.extract import extract_series, resample_labels
from boldstream.parcellation.label_volume import LabelVolume

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SHAPE = (9, 10, 8)
AFFINE = np.array([[-3.0, 0, 0, 12], [0, 3, 0, -14], [0, 0, 3, -11], [0, 0, 0, 1]])
N_TIMEPOINTS = 7


def label_volume(n_rois=6, shape=SHAPE, affine=AFFINE, labels=None, seed=0):
    """Blocks of voxels whose labels, by default, are neither counted from 1 nor in the atlas's order."""
    labels = labels or tuple(int(i) for i in np.random.default_rng(seed).permutation(n_rois) * 7 + 3)
    x, y, z = np.indices(shape)
    block = (x * 3 // shape[0]) + 3 * (y * 3 // shape[1]) + 9 * (z * 2 // shape[2])
    data = np.where(block < n_rois, np.array([*labels, 0])[np.minimum(block, n_rois)], 0).astype(np.int32)
    data[:2] = 0
    return LabelVolume(Atlas("blocks", tuple(f"r{i}" for i in range(n_rois))), labels, data, affine, "MNI152NLin6Asym")


def image(dtype=np.int16, shape=SHAPE, affine=AFFINE, n=N_TIMEPOINTS, kind=nibabel.Nifti1Image, order="<", seed=1):
    x = np.random.default_rng(seed).normal(900, 40, (*shape, n))
    if np.dtype(dtype).kind in "iu":
        x = (x % np.iinfo(dtype).max).round() if np.dtype(dtype).itemsize == 1 else x.round()
    header = (nibabel.Nifti1Header if kind is nibabel.Nifti1Image else nibabel.Nifti2Header)(
        endianness=order.replace("=", "<")
    )
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    made = kind(x.astype(dtype), affine, header=header)
    made.header.set_xyzt_units("mm", "sec")
    made.header["pixdim"][4] = 0.72
    return made


def nifti(made, slope=None, inter=None, **fields):
    """Return the bytes of an image, with the header's fields set whatever they are."""
    data = bytearray(made.to_bytes())
    header = type(made.header)(bytes(data[: made.header.sizeof_hdr]), check=False)
    if slope is not None:
        fields |= {"scl_slope": slope, "scl_inter": inter}
    for name, value in fields.items():
        header[name] = value
    data[: made.header.sizeof_hdr] = header.binaryblock
    return bytes(data)


def extract(data, volume=None, **options):
    return extract_series(io.BytesIO(data), volume or label_volume(), **options)


def loaded(data):
    nifti2 = 540 in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))
    return (nibabel.Nifti2Image if nifti2 else nibabel.Nifti1Image).from_bytes(data)


def by_nilearn(data, volume):
    """Return nilearn's columns in the atlas's order, zeros where it drops a region."""
    atlas = nibabel.Nifti1Image(volume.data, volume.affine)
    masker = NiftiLabelsMasker(atlas, standardize=False, resampling_target="data", reports=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dropped regions and values that are not finite
        found = masker.fit_transform(loaded(data))
    labels = [int(label) for label in np.unique(masker.region_atlas_.dataobj) if label]
    assert len(labels) == found.shape[1]
    values = np.zeros((len(found), volume.atlas.n_rois))
    values[:, [volume.labels.index(label) for label in labels]] = found
    return values


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_extract__equals_nilearn_for_every_type_and_byte_order(dtype, order):
    data = nifti(image(dtype, order=order))
    found = extract(data, n_at_once=3)
    np.testing.assert_allclose(found.values, by_nilearn(data, label_volume()), rtol=1e-6)
    assert found.values.dtype == np.float32
    assert found.values.flags.c_contiguous
    np.testing.assert_array_equal(found.coverage, 1)


@pytest.mark.parametrize(("slope", "inter"), [(0.37, -120.5), (-2.0, 3.0), (1.0, 0.0), (0.0, 5.0), (np.nan, np.nan)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_extract__equals_nilearn_for_scaled_images(dtype, slope, inter):
    data = nifti(image(dtype), slope, inter)
    np.testing.assert_allclose(extract(data).values, by_nilearn(data, label_volume()), rtol=1e-6)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:])]
)
def test_extract__gives_the_same_from_every_container(kind, pack):
    data = nifti(image(kind=kind))
    found = extract(pack(data))
    np.testing.assert_allclose(found.values, by_nilearn(data, label_volume()), rtol=1e-6)
    assert found.t_r == 0.72
    assert found.shape == SHAPE
    assert found.zooms == (3.0, 3.0, 3.0)
    np.testing.assert_array_equal(found.affine, AFFINE)


class Dripping:
    """A stream that gives a few bytes at a time, as sockets do, and cannot seek."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readinto(self, buffer):
        return self.data.readinto(buffer[:1013])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: gzip.compress(data) + bytes(4096)])
@pytest.mark.parametrize("n_at_once", [1, 2, 7, 100])
def test_extract__does_not_depend_on_the_pieces(pack, n_at_once):
    data = nifti(image(np.float32))
    whole = extract(data)
    found = extract_series(Dripping(pack(data)), label_volume(), n_at_once=n_at_once)
    np.testing.assert_array_equal(found.values, whole.values)
    np.testing.assert_allclose(found.tsnr, whole.tsnr, rtol=1e-5)


def test_extract__reads_a_pyarrow_stream(tmp_path):
    from pyarrow.fs import LocalFileSystem

    data = nifti(image())
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data))
    for compression in (None, "detect"):  # pyarrow's default unpacks by the name
        with LocalFileSystem().open_input_stream(str(tmp_path / "a.nii.gz"), compression=compression) as stream:
            found = extract_series(stream, label_volume())
        np.testing.assert_array_equal(found.values, extract(data).values)


def moved(x, y, z, affine=AFFINE):
    """Return an affine with its origin moved by so many mm."""
    affine = np.array(affine, dtype=float)
    affine[:3, 3] += (x, y, z)
    return affine


GRIDS = {
    "coarser": ((6, 7, 5), moved(-14, -14, -11, np.diag([4.5, 4.5, 4.5, 1]))),
    "finer": ((14, 15, 12), moved(-14, -15, -12, np.diag([2, 2, 2, 1]))),
    "half a voxel off": (SHAPE, moved(1.5, -1.5, 0)),
    "larger": ((13, 12, 14), moved(6, -3, -9)),
    "turned": ((10, 9, 11), np.array([[0, 2.9, 0.3, -12], [2.9, 0.2, 0, -13], [0, -0.4, -2.8, 13], [0, 0, 0, 1]])),
    "same, cut": ((9, 10, 5), AFFINE),
}


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_extract__equals_nilearn_on_other_grids(grid):
    shape, affine = GRIDS[grid]
    data = nifti(image(shape=shape, affine=affine))
    volume = label_volume(12)
    np.testing.assert_allclose(extract(data, volume).values, by_nilearn(data, volume), rtol=1e-6)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_resample_labels__equals_nilearn(grid):
    shape, affine = GRIDS[grid]
    volume = label_volume(12)
    atlas = nibabel.Nifti1Image(volume.data, volume.affine)
    theirs = resample_to_img(atlas, nibabel.Nifti1Image(np.zeros(shape, np.int16), affine), interpolation="nearest")
    np.testing.assert_array_equal(resample_labels(volume, shape, affine), theirs.get_fdata())


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    zooms=st.tuples(*[st.sampled_from([-4.0, -3.0, 1.5, 2.0, 3.0, 3.3])] * 3),
    origin=st.tuples(*[st.sampled_from([-14.0, -7.5, 0.0, 1.0, 9.0])] * 3),
    tilt=st.sampled_from([0.0, 0.0, 0.2, -0.4]),
)
def test_resample_labels__equals_nilearn_on_any_grid(shape, zooms, origin, tilt):
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3], affine[0, 1] = origin, tilt
    volume = label_volume()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            atlas = nibabel.Nifti1Image(volume.data, volume.affine)
            theirs = resample_img(atlas, affine, shape, interpolation="nearest").get_fdata()
        except ValueError as error:  # the grid lies beside the atlas
            assert "field of view" in str(error)
            theirs = np.zeros(shape)
    np.testing.assert_array_equal(resample_labels(volume, shape, affine), theirs)


def test_extract__counts_what_is_not_finite_as_zero_and_says_so():
    made = image(np.float32)
    x, volume = made.get_fdata(dtype=np.float32), label_volume()
    roi = np.argwhere(volume.data == volume.labels[2])
    x[tuple(roi[0])][3] = np.nan
    x[tuple(roi[1])][:] = np.inf
    x[tuple(roi[2])][:] = 0
    for slope, inter in ((1.0, 0.0), (0.5, 30.0)):
        data = nifti(nibabel.Nifti1Image(x, AFFINE, dtype=np.float32), slope, inter)
        found = extract(data, n_at_once=2)
        np.testing.assert_allclose(found.values, by_nilearn(data, volume), rtol=1e-6)
        expected = np.ones(6)
        expected[2] = 1 - 3 / len(roi)
        np.testing.assert_allclose(found.coverage, expected, rtol=1e-6)
        assert np.isfinite(found.tsnr).all()


def test_extract__of_a_single_volume_takes_zeros_alone_for_no_signal():
    made = image(np.float32, n=1)
    x, volume = made.get_fdata(dtype=np.float32), label_volume()
    x[volume.data == volume.labels[4]] = 0
    found = extract(nifti(nibabel.Nifti1Image(x, AFFINE)), volume)
    np.testing.assert_array_equal(found.coverage, [1, 1, 1, 1, 0, 1])
    assert np.isnan(found.tsnr).all()


def test_extract__of_an_image_that_cuts_the_brain_says_how_much_it_sees():
    volume = label_volume(12)  # nine blocks below, three of the upper nine, from z = 4 on
    found = extract(nifti(image(shape=(9, 10, 4))), volume)
    np.testing.assert_array_equal(found.coverage, [1.0] * 9 + [0.0] * 3)
    np.testing.assert_array_equal(found.values[:, 9:], 0)
    assert np.isnan(found.tsnr[9:]).all()
    np.testing.assert_array_equal(extract(nifti(image(shape=(9, 10, 5))), volume).coverage, [1.0] * 9 + [0.25] * 3)
    finer = AFFINE.copy()
    finer[:3, :3] /= 2
    finer[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]  # the same box from its corner
    half = extract(nifti(image(shape=(18, 20, 12), affine=finer)), volume)
    np.testing.assert_array_equal(half.coverage, [1.0] * 9 + [0.5] * 3)


@pytest.mark.parametrize("slope", [1.0, 0.25, -0.25])
def test_extract__tsnr_is_the_median_over_voxels_of_mean_by_standard_deviation(slope):
    data = nifti(image(np.int16, n=40), slope, 500.0)
    x = nibabel.Nifti1Image.from_bytes(data).get_fdata()
    volume, found = label_volume(), extract(data, n_at_once=6)
    ratio = x.mean(axis=3) / x.std(axis=3)
    expected = [np.median(ratio[volume.data == label]) for label in volume.labels]
    np.testing.assert_allclose(found.tsnr, expected, rtol=1e-5)


def test_extract__ignores_labels_that_are_no_region():
    volume = label_volume()
    fewer = LabelVolume(Atlas("four", volume.atlas.roi_names[:4]), volume.labels[:4], volume.data, AFFINE)
    data = nifti(image())
    np.testing.assert_array_equal(extract(data, fewer).values, extract(data, volume).values[:, :4])


@pytest.mark.parametrize(
    ("units", "step", "expected"),
    [
        (2 | 8, 0.72, 0.72),
        (2 | 16, 720.0, 0.72),
        (2 | 24, 2e6, 2.0),
        (2, 1.66, 1.66),
        (0, 3.0, 3.0),
        (2 | 8, 0.0, None),
        (2 | 8, np.nan, None),
        (2 | 32, 2.0, None),
    ],
)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_extract__repetition_time_is_in_seconds(units, step, expected, kind):
    made = image(kind=kind)
    pixdim = made.header["pixdim"].copy()
    pixdim[4] = step
    assert extract(nifti(made, xyzt_units=units, pixdim=pixdim)).t_r == expected


def test_extract__without_sform_and_qform_follows_nibabel():
    data = nifti(image(), sform_code=0, qform_code=0)
    affine = nibabel.Nifti1Image.from_bytes(data).affine
    assert not np.array_equal(affine, AFFINE)
    found = extract(data)
    np.testing.assert_array_equal(found.affine, affine)
    np.testing.assert_allclose(found.values, by_nilearn(data, label_volume()), rtol=1e-6)


def test_extract__takes_a_fifth_dimension_of_one():
    made = image()
    deeper = nibabel.Nifti1Image(np.asarray(made.dataobj)[..., None], AFFINE)
    np.testing.assert_array_equal(extract(nifti(deeper)).values, extract(nifti(made)).values)


GOOD = nifti(image())
VOLUME_BYTES = 2 * int(np.prod(SHAPE))


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "unreadable", r"is no NIfTI image \(0 bytes"),
        (b"\x1f", "unreadable", r"is no NIfTI image \(1 bytes"),
        (b"1,2,3\n" * 200, "unreadable", r"is no NIfTI image \(348 bytes, beginning with b'1,2,3.n1,'\)"),
        (GOOD[:200], "unreadable", r"is no NIfTI image \(200 bytes"),
        (nifti(image(kind=nibabel.Nifti2Image))[:500], "unreadable", "ends within its header of 540 bytes"),
        (GOOD[: 352 + 5 * VOLUME_BYTES + 3], "unreadable", "ends after 5 of 7 volumes"),
        (GOOD[:350], "unreadable", "ends after 0 of 7 volumes"),
        (gzip.compress(GOOD[: 352 + 2 * VOLUME_BYTES]), "unreadable", "ends after 2 of 7 volumes"),
        (gzip.compress(GOOD)[:3000], "unreadable", "is cut: the gzip stream stops before its end"),
        (gzip.compress(GOOD)[:-4], "unreadable", "is cut: the gzip stream stops before its end"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "unreadable", "cannot be read to its end .*Incorrect checksum"),
        (gzip.compress(GOOD)[:900] + b"\xff" * 500, "unreadable", "is cut: the gzip stream stops before its end"),
        (gzip.compress(GOOD) + b"more" * 9, "unreadable", r"cannot be read to its end \(Error -\d"),
        (nifti(image(), dim=[4, 9, 10, 8, 900, 1, 1, 1]), "unreadable", "ends after 7 of 900 volumes"),
        (nifti(image(), dim=[4, 30000, 30000, 30000, 7, 1, 1, 1]), "unreadable", r"makes no sense \(shape \(30000, "),
        (nifti(image(), dim=[4, 9, 10, 0, 7, 1, 1, 1]), "unreadable", r"makes no sense \(shape \(9, 10, 0, 7\)"),
        (nifti(image(), datatype=1536, bitpix=12), "unreadable", "makes no sense|not real numbers"),
        (nifti(image(), datatype=32, bitpix=64), "unreadable", "holds complex64 voxels, not real numbers"),
        (nifti(image(), datatype=9999), "unreadable", "makes no sense .data code 9999 not recognized"),
        (nifti(image(), 2.0, np.inf), "unreadable", "makes no sense .*intercept"),
        (nifti(image(), magic=b"ni1"), "unreadable", r"is not one NIfTI file \(magic b'ni1.*save header and data as"),
        (nifti(image(), srow_x=0), "unreadable", r"its affine cannot be inverted: \[\[0"),
        (nifti(image(), vox_offset=1e30), "unreadable", "ends after 0 of 7 volumes|makes no sense"),
        (nifti(image(), dim=[3, 9, 10, 8, 1, 1, 1, 1]), "not_4d", r"has shape \(9, 10, 8\), not \(x, y, z, time\)"),
        (nifti(image(), dim=[5, 9, 10, 8, 1, 7, 1, 1]), "not_4d", r"has shape \(9, 10, 8, 1, 7\)"),
        (
            nifti(image(affine=moved(500, 0, 0))),
            "other_space",
            r"0 of 6 regions of blocks have .*is it in MNI152NLin6Asym\?",
        ),
    ],
)
def test_extract__refuses(data, reason, message):
    with pytest.raises(ScanError, match=message) as caught:
        extract(data)
    assert caught.value.reason == reason


def test_extract__refuses_an_image_that_holds_under_half_of_the_regions():
    volume = label_volume(18)
    assert (extract(nifti(image(shape=(9, 10, 4))), volume).coverage > 0).sum() == 9
    with pytest.raises(ScanError, match="6 of 18 regions of blocks have voxels in the image") as caught:
        extract(nifti(image(shape=(9, 6, 4))), volume)
    assert caught.value.reason == "other_space"


def test_extract__refuses_a_stream_that_breaks():
    class Breaking(Dripping):
        def readinto(self, buffer):
            if self.data.tell() > 5000:
                raise OSError("connection reset")
            return super().readinto(buffer)

    with pytest.raises(ScanError, match=r"cannot be read to its end \(connection reset\)"):
        extract_series(Breaking(GOOD), label_volume())


WHOLE = {"nii": GOOD, "nii.gz": gzip.compress(GOOD), "nii2": nifti(image(kind=nibabel.Nifti2Image))}


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(sorted(WHOLE)),
    edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4),
)
def test_extract__of_a_damaged_file_never_fails_otherwise_than_by_refusing(name, edits):
    data = WHOLE[name]
    for at, length, new in edits:
        data = data[:at] + new + data[at + length :]
    try:
        found = extract(data)
    except ScanError as error:
        assert error.reason in {"unreadable", "not_4d", "other_space"}
    else:
        assert found.values.shape[1] == 6


@pytest.mark.abide
def test_extract__gives_back_the_series_that_were_painted_into_an_atlas():
    if not (SHARED / "abide" / "abide_cc200.npz").exists():
        pytest.skip(f"needs {SHARED}")
    with np.load(SHARED / "abide" / "abide_cc200.npz") as series:
        painted = series[series.files[0]][:60].astype(np.float32)
    atlas = nibabel.load(SHARED / "atlas" / "CC200.nii.gz")
    data = np.asarray(atlas.dataobj).round().astype(np.int32)
    labels = tuple(int(label) for label in np.unique(data) if label)
    volume = LabelVolume(Atlas("cc200", tuple(f"r{i}" for i in labels)), labels, data, atlas.affine)
    padded = np.vstack([np.zeros((1, len(painted)), np.float32), painted.T[: len(labels)]])
    x = padded[np.searchsorted([0, *labels], data)]
    found = extract(gzip.compress(nifti(nibabel.Nifti1Image(x, atlas.affine)), 1), volume)
    varies = np.ptp(painted, axis=0) > 0
    r = [np.corrcoef(found.values[:, i], painted[:, i])[0, 1] for i in np.flatnonzero(varies)]
    assert min(r) > 0.998
    np.testing.assert_array_equal(found.coverage, varies)
