import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import Nifti2Image
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, LabelAxis, ParcelsAxis, ScalarAxis, SeriesAxis

from boldstream.errors import AtlasError, ScanError
from boldstream.parcellation.cifti import BLOCK_BYTES, extract_dtseries, read_dlabel, read_ptseries

N_TIMEPOINTS, N_VERTICES = 6, 40
GRID = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -12], [0, 0, 2, -8], [0, 0, 0, 1]])
TABLE = {0: ("???", (0,) * 4), 9: ("Vis_R", (0,) * 4), 2: ("Vis_L", (0,) * 4), 5: ("Thal", (0,) * 4)}


def surface(side, vertices, n_vertices=N_VERTICES):
    return BrainModelAxis.from_surface(np.asarray(vertices), n_vertices, f"CORTEX_{side}")


def voxels(mask, affine=GRID):
    return BrainModelAxis.from_mask(mask, name="THALAMUS_LEFT", affine=affine)


def thalamus(seed=0):
    return np.random.default_rng(seed).random((4, 3, 2)) < 0.7


def grayordinates():
    """Both cortices without some vertices (the medial wall), and some voxels."""
    return surface("LEFT", range(3, 38)) + surface("RIGHT", range(0, 33)) + voxels(thalamus())


def series(axis, values=None, step=0.72, unit="SECOND", n=N_TIMEPOINTS):
    if values is None:
        values = np.random.default_rng(1).normal(5000, 50, (n, len(axis)))
    return Cifti2Image(np.asarray(values, np.float32), (SeriesAxis(0, step, len(values), unit), axis))


def atlas_file(tmp_path, axis=None, keys=None, table=None, names=("map",), name="tiny.dlabel.nii"):
    axis = axis or grayordinates()
    if keys is None:
        keys = np.random.default_rng(2).choice([0, 2, 9], len(axis))
        keys[axis.name == "CIFTI_STRUCTURE_THALAMUS_LEFT"] = 5
    keys = np.broadcast_to(np.asarray(keys, np.float32), (len(names), len(axis)))
    image = Cifti2Image(keys, (LabelAxis(list(names), [table or TABLE] * len(names)), axis))
    image.to_filename(tmp_path / name)
    return tmp_path / name


@pytest.fixture
def labels(tmp_path):
    return read_dlabel(atlas_file(tmp_path))


@pytest.fixture(scope="session")
def kept_labels(tmp_path_factory):
    return read_dlabel(atlas_file(tmp_path_factory.mktemp("atlas")))


def keys_by_place(path):
    """Return the label of every (structure, vertex or voxel) of an atlas file, read place by place."""
    image = Cifti2Image.from_filename(path)
    keys = np.asarray(image.dataobj)[0]
    return {key: int(label) for key, label in zip(places(image.header.get_axis(1)), keys, strict=True)}


def places(axis):
    return [(kind, str(name), *np.atleast_1d(place).tolist()) for kind, place, name in axis]


def expected_means(axis, values, path, keys=(2, 5, 9)):
    by_place = keys_by_place(path)
    found = np.array([by_place.get(place, 0) for place in places(axis)])
    return np.stack([values[:, found == key].mean(axis=1) for key in keys], axis=1)


def test_read_ptseries__gives_names_values_and_repetition_time():
    parcels = ParcelsAxis.from_brain_models([("a", surface("LEFT", [1, 2])), ("b", surface("RIGHT", [3, 4]))])
    found = read_ptseries(series(parcels).to_bytes())
    np.testing.assert_array_equal(found.values, np.random.default_rng(1).normal(5000, 50, (6, 2)).astype(np.float32))
    assert found.values.flags.c_contiguous
    assert (found.roi_names, found.t_r, found.coverage) == (("a", "b"), 0.72, None)


@pytest.mark.parametrize(("step", "exponent", "t_r"), [(0.72, 0, 0.72), (720, -3, 0.72), (2, 0, 2.0), (0, 0, None)])
def test_read_ptseries__scales_the_step_by_its_exponent(step, exponent, t_r):
    image = series(ParcelsAxis.from_brain_models([("a", surface("LEFT", [1, 2]))]))
    mapping = image.header.get_index_map(0)
    mapping.series_step, mapping.series_exponent = step, exponent
    assert read_ptseries(image.to_bytes()).t_r == t_r


def test_read_dlabel__names_regions_by_ascending_key(tmp_path):
    labels = read_dlabel(atlas_file(tmp_path))
    assert labels.labels == (2, 5, 9)
    assert labels.atlas.roi_names == ("Vis_L", "Thal", "Vis_R")
    assert labels.atlas.name == "tiny"
    assert read_dlabel(tmp_path / "tiny.dlabel.nii", name="mine").atlas.name == "mine"


def test_read_dlabel__leaves_out_what_no_grayordinate_has_and_what_is_called_unknown(tmp_path):
    table = TABLE | {7: ("nowhere", (0,) * 4), 5: ("???", (0,) * 4)}
    labels = read_dlabel(atlas_file(tmp_path, table=table))
    assert labels.atlas.roi_names == ("Vis_L", "Vis_R")


def test_extract__means_over_the_grayordinates_of_a_label(tmp_path, labels):
    image = series(grayordinates())
    found = extract_dtseries(image.to_bytes(), labels)
    expected = expected_means(grayordinates(), image.get_fdata(), tmp_path / "tiny.dlabel.nii")
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.values.dtype == np.float32
    assert found.values.flags.c_contiguous
    assert found.t_r == 0.72
    assert found.roi_names == ("Vis_L", "Thal", "Vis_R")
    np.testing.assert_array_equal(found.coverage, 1)


def test_extract__of_a_long_scan_goes_by_pieces(tmp_path, labels):
    axis, n = grayordinates(), 40_000
    assert BLOCK_BYTES // (8 * n) < len(axis) - 20
    image = series(axis, np.random.default_rng(3).normal(5000, 50, (n, len(axis))))
    found = extract_dtseries(image.to_bytes(), labels)
    expected = expected_means(axis, image.get_fdata(), tmp_path / "tiny.dlabel.nii")
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.coverage, 1)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000))
def test_extract__matches_by_structure_and_place_not_by_position(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    path = atlas_file(tmp_path_factory.mktemp("atlas"))

    def some():
        return np.sort(rng.permutation(N_VERTICES)[:30])

    axis = voxels(thalamus(seed)) + surface("RIGHT", some()) + surface("LEFT", some())
    image = series(axis)
    found = extract_dtseries(image.to_bytes(), read_dlabel(path))
    np.testing.assert_allclose(found.values, expected_means(axis, image.get_fdata(), path), rtol=1e-6)
    by_place = keys_by_place(path)
    n_found = [sum(by_place.get(place) == key for place in places(axis)) for key in (2, 5, 9)]
    n_all = [list(by_place.values()).count(key) for key in (2, 5, 9)]
    np.testing.assert_allclose(found.coverage, np.divide(n_found, n_all), rtol=1e-6)


def test_extract__takes_an_atlas_of_the_cortex_alone(tmp_path):
    cortex = surface("LEFT", range(N_VERTICES)) + surface("RIGHT", range(N_VERTICES))
    path = atlas_file(tmp_path, cortex)
    image = series(grayordinates())
    found = extract_dtseries(image.to_bytes(), read_dlabel(path))
    expected = expected_means(grayordinates(), image.get_fdata(), path, keys=(2, 9))
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert (found.coverage < 1).all()  # the medial wall is in the atlas's regions, not in the scan


def test_extract__leaves_out_grayordinates_without_signal(tmp_path, labels):
    axis = grayordinates()
    values = np.random.default_rng(1).normal(5000, 50, (N_TIMEPOINTS, len(axis)))
    by_place = keys_by_place(tmp_path / "tiny.dlabel.nii")
    key = np.array([by_place[place] for place in places(axis)])
    right, thal = np.flatnonzero(key == 9), np.flatnonzero(key == 5)
    values[:, right[0]], values[2, right[1]], values[1, right[2]] = 0, np.nan, np.inf
    values[:, thal] = 7
    found = extract_dtseries(series(axis, values).to_bytes(), labels)
    np.testing.assert_allclose(found.values[:, 2], values[:, right[3:]].mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.values[:, 1], 0)
    np.testing.assert_allclose(found.coverage, [1, 0, 1 - 3 / len(right)], rtol=1e-6)


def test_extract__of_a_single_timepoint_takes_zeros_alone_for_no_signal(labels):
    values = np.full((1, len(grayordinates())), 3.0)
    found = extract_dtseries(series(grayordinates(), values).to_bytes(), labels)
    np.testing.assert_array_equal(found.values, 3)


def relabelled(data, **fields):
    """Return a file's bytes with other fields in its NIfTI header."""
    header = Nifti2Image.header_class(data[:540], check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + data[540:]


DENSE = series(grayordinates()).to_bytes()
PARCELS = ParcelsAxis.from_brain_models([("a", surface("LEFT", [1, 2])), ("b", surface("RIGHT", [3, 4]))])
PARCELLATED = series(PARCELS).to_bytes()
N = len(grayordinates())
STEM = BrainModelAxis.from_mask(thalamus(), name="BRAIN_STEM", affine=GRID)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Binary block is wrong size"),
        (b"1,2,3\n" * 300, "data code|sizeof_hdr|magic|header"),
        (PARCELLATED[:700], "failed to read extension content"),
        (PARCELLATED[:-8], "Expected 48 bytes, got 40 bytes from object"),
        (DENSE, r"holds SeriesAxis, BrainModelAxis, not a .ptseries.nii's SeriesAxis, ParcelsAxis"),
        (series(PARCELS, unit="HERTZ").to_bytes(), "counts in HERTZ, not in seconds"),
        (
            relabelled(PARCELLATED, dim=[6, 1, 1, 1, 1, 6, 1, 1]),
            r"its header describes 6 x 2 values, its data are \(6, 1\)",
        ),
        (relabelled(PARCELLATED, datatype=32, bitpix=64), "has datatype complex64"),
    ],
)
def test_read_ptseries__refuses(data, message):
    with pytest.raises(ScanError, match=message) as caught:
        read_ptseries(data)
    assert caught.value.reason == "unreadable"
    assert "\n" not in caught.value.message


def other(left=N_VERTICES, right=N_VERTICES, affine=GRID):
    parts = surface("LEFT", range(30), left) + surface("RIGHT", range(30), right) + voxels(thalamus(), affine)
    return series(parts).to_bytes()


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (PARCELLATED, "unreadable", "holds SeriesAxis, ParcelsAxis, not a .dtseries.nii's SeriesAxis, BrainModelAxis"),
        (
            relabelled(DENSE, dim=[6, 1, 1, 1, 1, 6, N - 1, 1]),
            "unreadable",
            rf"its header describes 6 x {N} values, its data are \(6, {N - 1}\)",
        ),
        (DENSE[:-8], "unreadable", "Expected .* bytes, got .* bytes"),
        (series(grayordinates(), unit="RADIAN").to_bytes(), "unreadable", "counts in RADIAN, not in seconds"),
        (other(right=164), "other_space", "CORTEX_RIGHT has 164 vertices, tiny 40 vertices there"),
        (other(affine=GRID * [[1.5], [1], [1], [1]]), "other_space", r"its voxels lie by \[\[-3.* tiny by \[\[-2"),
        (series(STEM).to_bytes(), "other_space", "0 of 3 regions of tiny have grayordinates in the file"),
    ],
)
def test_extract__refuses(labels, data, reason, message):
    with pytest.raises(ScanError, match=message) as caught:
        extract_dtseries(data, labels)
    assert caught.value.reason == reason


def test_extract__refuses_voxels_where_the_atlas_has_vertices(labels):
    axis = BrainModelAxis.from_mask(thalamus(), name="CORTEX_LEFT", affine=GRID) + surface("RIGHT", range(30))
    with pytest.raises(ScanError, match="CORTEX_LEFT has voxels, tiny 40 vertices there"):
        extract_dtseries(series(axis).to_bytes(), labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ("a", "b")}, r"holds 2 maps \(a, b\); save the one that you want alone"),
        ({"table": {0: TABLE[0], 2: TABLE[2], 5: TABLE[5]}}, "labels 9 are not in its table of 3 names"),
        ({"keys": [1.5] * N}, "labels 1.5 are not in its table of 4 names"),
        ({"keys": [0] * N}, "has no regions"),
        ({"table": TABLE | {9: TABLE[2]}}, "'Vis_L' stands twice"),
    ],
)
def test_read_dlabel__refuses(tmp_path, options, message):
    path = atlas_file(tmp_path, **options)
    with pytest.raises(AtlasError, match=message) as caught:
        read_dlabel(path)
    assert str(path) in str(caught.value)


def test_read_dlabel__refuses_what_is_no_dlabel(tmp_path):
    with pytest.raises(AtlasError, match=r"missing.dlabel.nii: cannot be read \(.*No such file"):
        read_dlabel(tmp_path / "missing.dlabel.nii")
    (tmp_path / "text.dlabel.nii").write_text("1 2 3\n")
    with pytest.raises(AtlasError, match=r"text.dlabel.nii: cannot be read"):
        read_dlabel(tmp_path / "text.dlabel.nii")
    scalars = Cifti2Image(np.zeros((1, N), np.float32), (ScalarAxis(["thickness"]), grayordinates()))
    scalars.to_filename(tmp_path / "a.dlabel.nii")
    with pytest.raises(AtlasError, match=r"holds ScalarAxis, BrainModelAxis, not a \.dlabel\.nii's"):
        read_dlabel(tmp_path / "a.dlabel.nii")


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=60)
@given(
    dense=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4),
)
def test_read__of_a_damaged_file_never_fails_otherwise_than_by_refusing(kept_labels, dense, edits):
    data = DENSE if dense else PARCELLATED
    for at, length, new in edits:
        data = data[:at] + new + data[at + length :]
    try:
        if dense:
            extract_dtseries(data, kept_labels)
        else:
            read_ptseries(data)
    except ScanError as error:
        assert error.reason in {"unreadable", "other_space"}
