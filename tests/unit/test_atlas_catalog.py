from pathlib import Path

import numpy as np
import pytest

from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import NUMBERED, numbered_atlas
from boldstream.parcellation.atlas_catalog import (
    FIXED,
    catalog_entry,
    load_label_volume,
    load_ordering,
    load_region_names,
)
from boldstream.parcellation.fetched_atlases import fetch_schaefer
from schaefer import (
    AFFINE,
    TIAN,
    bricks,
    cached_schaefer,
    in_7,
    names_7,
    names_17,
    order_17,
    renumbered,
    write,
    write_names,
)

SHARED = Path(__file__).parents[2].parent / "shared/data/atlas"
STEM = "Schaefer2018_400Parcels_7Networks_order_Tian_Subcortex_S3"
NOTE = ("cortex permuted from 7- to 17-network order",)


@pytest.fixture
def offline(monkeypatch):
    """Let every download end at a port where nobody listens."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def cached_aal(cache, version, folder, stem, indices):
    folder = cache / f"aal_{version}/{folder}"
    write(folder / f"{stem}.nii", renumbered(bricks(len(indices)), indices))
    entries = "".join(f"<label><index>{i}</index><name>Region_{i}</name></label>" for i in indices)
    (folder / f"{stem}.xml").write_text(f"<atlas><data>{entries}</data></atlas>")


@pytest.fixture
def labs(tmp_path):
    """Lay out what labs have: 450 regions in 7-network order, and what tells the 17-network order."""
    write(tmp_path / "seven.nii.gz", in_7(400, before=50).astype(np.float32))
    write_names(tmp_path / "seven.txt", TIAN + names_7())
    write(tmp_path / "seventeen.nii.gz", bricks(450))
    write_names(tmp_path / "seventeen.csv", TIAN + names_17())
    write(tmp_path / "cortex.nii.gz", np.maximum(bricks(450) - 50, 0))
    write_names(tmp_path / "cortex.csv", names_17())
    np.save(tmp_path / "order.npy", order_17())
    return tmp_path


def brainjepa(labs, image="seven.nii.gz", names="seven.txt", cache=None, **more):
    more = {key: labs / value for key, value in more.items()}
    return load_label_volume("schaefer400_tian_s3", labs / image, labs / names, cache, **more)


@pytest.mark.parametrize(
    "more",
    [
        {"order": "order.npy", "order_labels": "cortex.csv"},
        {"order": "order.npy", "order_labels": "seventeen.csv"},
        {"order": "cortex.nii.gz", "order_labels": "cortex.csv"},
    ],
)
def test_load_label_volume__brings_450_regions_from_7_to_17_networks(labs, more):
    found = brainjepa(labs, **more)
    assert found.atlas.name == "schaefer400_tian_s3"
    assert found.atlas.roi_names == TIAN + names_17()
    assert found.notes == NOTE
    assert found.labels == (*range(1, 51), *(order_17() + 51).tolist())
    for j in (0, 49, 50, 301, 449):
        np.testing.assert_array_equal(found.data == found.labels[j], bricks(450) == j + 1)


def test_load_label_volume__matches_with_the_cortex_that_nilearn_has(labs, tmp_path):
    cached_schaefer(tmp_path / "cache", 400, 17)
    name = "Schaefer2018_400Parcels_17Networks_order_FSLMNI152_2mm.nii.gz"
    write(tmp_path / "cache/schaefer_2018" / name, np.maximum(bricks(450) - 50, 0))
    found = brainjepa(labs, cache=str(tmp_path / "cache"))
    assert found.atlas.roi_names == TIAN + names_17()
    assert found.digest == brainjepa(labs, order="order.npy", order_labels="cortex.csv").digest


def test_load_label_volume__leaves_17_networks_as_they_are(labs):
    found = brainjepa(labs, "seventeen.nii.gz", "seventeen.csv")
    assert (found.labels, found.notes) == (tuple(range(1, 451)), ())
    found = load_label_volume("schaefer400_17n", labs / "cortex.nii.gz", labs / "cortex.csv")
    assert found.atlas.roi_names == names_17()


@pytest.mark.parametrize(
    ("args", "more", "message"),
    [
        (
            (),
            {"order": "order.npy"},
            r"order.npy: give the table of the region names in the new order too: atlas_order",
        ),
        ((), {"order": "cortex.nii.gz"}, r"cortex.nii.gz: give the table of its labels: atlas_order_labels"),
        (
            ("seventeen.nii.gz", "seventeen.csv"),
            {"order": "order.npy", "order_labels": "cortex.csv"},
            r"is in 17-network order already: there is no use for .*order.npy",
        ),
        (("cortex.nii.gz", "cortex.csv"), {}, r"has 400 regions, atlas 'schaefer400_tian_s3' has 450"),
    ],
)
def test_load_label_volume__refuses_what_does_not_tell_the_order(labs, args, more, message):
    with pytest.raises(AtlasError, match=message):
        brainjepa(labs, *args, **more)


def test_load_label_volume__refuses_450_regions_in_other_blocks(labs):
    write_names(labs / "last.txt", names_17() + TIAN)
    write(labs / "last.nii", bricks(450))
    with pytest.raises(AtlasError, match=r"100 names stand in the wrong block; region 1 is '17Networks_LH_VisCent_1'"):
        brainjepa(labs, "last.nii", "last.txt")


def test_load_label_volume__refuses_names_of_parcels_elsewhere(labs):
    wide = AFFINE @ np.diag([5, 5, 5, 1])
    write(labs / "wide.nii.gz", in_7(400, before=50), wide)
    with pytest.raises(
        AtlasError,
        match=r"wide.nii.gz: parcels of one name, but for the number, lie \d\d.\d mm from their centre .*the names are "
        r"not those of the image. Give the label table that was published with the image, or the right permutation",
    ):
        brainjepa(labs, "wide.nii.gz", "seventeen.csv")


def test_load_label_volume__refuses_the_other_networks(labs):
    write(labs / "cortex7.nii.gz", in_7())
    write_names(labs / "cortex7.csv", names_7())
    assert load_label_volume("schaefer400_7n", labs / "cortex7.nii.gz", labs / "cortex7.csv").notes == ()
    with pytest.raises(AtlasError, match=r"is in 17-network order; name it 'schaefer400_17n'"):
        load_label_volume("schaefer400_7n", labs / "cortex.nii.gz", labs / "cortex.csv")
    with pytest.raises(
        AtlasError, match=r"nothing tells in which order the regions of atlas 'schaefer400_7n' are; .*s"
    ):
        load_label_volume("schaefer400_7n", labs / "cortex.nii.gz")
    write_names(labs / "silent.csv", [f"r{i}" for i in range(400)])
    with pytest.raises(AtlasError, match=r"no region has a name of Schaefer's \(first 'r0'\)"):
        load_label_volume("schaefer400_17n", labs / "cortex.nii.gz", labs / "silent.csv")


@pytest.mark.parametrize(("n", "networks"), [(100, 7), (100, 17), (1000, 17)])
def test_load_label_volume__takes_schaefer_from_nilearns_cache(tmp_path, offline, n, networks):
    cache = cached_schaefer(tmp_path, n, networks)
    found = load_label_volume(f"schaefer{n}_{networks}n", cache=cache)
    assert found.atlas.roi_names == (names_17(n) if networks == 17 else names_7(n))
    assert (found.labels[-1], found.space, found.notes) == (n, "MNI152NLin6Asym", ())
    assert load_region_names(f"schaefer{n}_{networks}n", cache=cache) == found.atlas


@pytest.mark.parametrize(
    ("name", "version", "folder", "stem", "indices"),
    [
        ("aal", "SPM12", "aal/atlas", "AAL", range(2001, 2117)),
        ("aal3", "3v2", "AAL3", "AAL3v1", [i for i in range(1, 171) if i not in (35, 36, 81, 82)]),
    ],
)
def test_load_label_volume__takes_aal_from_nilearns_cache(tmp_path, offline, name, version, folder, stem, indices):
    cached_aal(tmp_path, version, folder, stem, list(indices))
    found = load_label_volume(name, cache=str(tmp_path))
    assert found.labels == tuple(indices)
    assert found.atlas.roi_names == tuple(f"Region_{i}" for i in indices)
    assert found.space == "MNIColin27"


def test_load_label_volume__takes_craddocks_volumes_from_nilearns_cache(tmp_path, offline):
    stack = np.zeros((*bricks(400).shape, 32), dtype=np.int16)
    stack[..., 19] = np.where(bricks(400) <= 200, bricks(400), 0)
    stack[..., 31] = np.where(bricks(400) % 50, bricks(400), 0)
    path = write(tmp_path / "craddock_2012/tcorr05_2level_all.nii.gz", stack)
    assert load_label_volume("cc200", cache=str(tmp_path)).atlas == numbered_atlas("cc200")
    found = load_label_volume("cc400", cache=str(tmp_path))
    assert (found.n_rois, found.labels[49], found.atlas.roi_names[49]) == (392, 51, "CC400-051")
    write(path, stack[..., :20])
    with pytest.raises(AtlasError, match=r"tcorr05_2level_all.nii.gz: has shape .* and no volume 31, which is cc400"):
        load_label_volume("cc400", cache=str(tmp_path))


def test_load_label_volume__takes_harvard_oxford_from_nilearns_cache(tmp_path, offline):
    folder = tmp_path / "fsl/data/atlases"
    write(folder / "HarvardOxford/HarvardOxford-cortl-maxprob-thr25-2mm.nii.gz", bricks(96).astype(np.uint8))
    entries = "".join(f'<label index="{i}">Region {i}</label>' for i in range(96))
    (folder / "HarvardOxford-Cortical-Lateralized.xml").write_text(f"<atlas><data>{entries}</data></atlas>")
    found = load_label_volume("harvard_oxford", cache=str(tmp_path))
    assert (found.n_rois, found.labels[0], found.atlas.roi_names[0]) == (96, 1, "Region 0")


def test_load_label_volume__refuses_another_number_of_regions(tmp_path, offline):
    cached_aal(tmp_path, "SPM12", "aal/atlas", "AAL", [2001, 2002])
    with pytest.raises(AtlasError, match=r"atlas 'aal': has 2 regions, atlas 'aal' has 116"):
        load_label_volume("aal", cache=str(tmp_path))


@pytest.mark.parametrize("name", ["schaefer400_7n", "aal", "aal3", "cc200", "harvard_oxford"])
def test_load_label_volume__without_network_says_what_to_give(tmp_path, offline, name):
    publisher = catalog_entry(name).publisher
    with pytest.raises(
        AtlasError,
        match=rf"^atlas '{name}' could not be fetched by nilearn from {publisher} \(\w+: [^\n]*\); where there is no "
        r"network, give its image as atlas_file and its region names as atlas_labels$",
    ):
        load_label_volume(name, cache=str(tmp_path))


def test_load_label_volume__without_network_cannot_match_7_networks(labs, offline):
    with pytest.raises(
        AtlasError,
        match=r"^atlas 'schaefer400_tian_s3' is in 17-network order and its file in 7-network order; what tells the "
        r"permutation \(atlas_order with atlas_order_labels\) is not usable: atlas 'schaefer400_17n' could not be",
    ):
        brainjepa(labs, cache=str(labs / "cache"))


@pytest.mark.parametrize("name", ["tian_s1", "tian_s4", "schaefer400_tian_s3"])
def test_load_label_volume__says_where_tians_atlas_is(name):
    with pytest.raises(
        AtlasError,
        match=rf"atlas '{name}' comes by file only: get it from github.com/yetianmed/subcortex.* \(.*free with "
        r"citation \(Tian et al. 2020, doi 10.1038/s41593-020-00711-6\)\) and give its image as atlas_file and",
    ):
        load_label_volume(name)


@pytest.mark.parametrize(("name", "n"), [("tian_s1", 16), ("tian_s2", 32), ("tian_s3", 50), ("tian_s4", 54)])
def test_load_label_volume__takes_tian_by_file(tmp_path, name, n):
    path, labels = tmp_path / "t.nii.gz", write_names(tmp_path / "t.txt", [f"r{i}-rh" for i in range(n)])
    write(path, bricks(n))
    assert load_label_volume(name, path, labels).atlas.roi_names[-1] == f"r{n - 1}-rh"
    with pytest.raises(AtlasError, match=rf"has {n + 1} regions, atlas '{name}' has {n}"):
        load_label_volume(name, write(path, bricks(n + 1)))


def test_load_label_volume__takes_any_atlas_by_file(tmp_path):
    path = write(tmp_path / "own.nii.gz", bricks(3))
    assert load_label_volume("own", path).atlas.roi_names == ("OWN-1", "OWN-2", "OWN-3")
    with pytest.raises(AtlasError, match=r"atlas 'own' is not in 17-network order: there is no use for o.npy"):
        load_label_volume("own", path, order="o.npy")
    with pytest.raises(
        AtlasError,
        match=r"atlas 'schaefer400_17' has no volume by that name \(did you mean 'schaefer400_17n'\?\); known: .*tian"
        r".*cc200.*, schaefer<100-1000>_7n, schaefer<100-1000>_17n; give any other as atlas_file and atlas_labels",
    ):
        load_label_volume("schaefer400_17")
    with pytest.raises(AtlasError, match=r"atlas 'zzz' has no volume by that name; known: "):
        load_label_volume("zzz")
    with pytest.raises(AtlasError, match=r"atlas 'zzz' is none of schaefer<100-1000>_7n and"):
        fetch_schaefer("zzz", None)


def test_load_region_names__needs_no_volume(tmp_path):
    labels = write_names(tmp_path / "l.csv", names_17())
    assert load_region_names("schaefer400_17n", labels).roi_names == names_17()
    assert load_region_names("own", labels).name == "own"
    assert [load_region_names(name) for name in NUMBERED] == [numbered_atlas(name) for name in NUMBERED]
    with pytest.raises(AtlasError, match=r"l.csv: names 400 regions, atlas 'tian_s3' has 50"):
        load_region_names("tian_s3", labels)


def test_load_ordering__is_for_series_too(labs):
    source = load_region_names("seven", labs / "seven.txt")
    found = load_ordering(source, labs / "order.npy", labs / "cortex.csv", n_fixed=50)
    assert found.target.roi_names == TIAN + names_17()
    assert (found.source, found.note) == (source, NOTE[0])
    assert found.order.tolist() == [*range(50), *(order_17() + 50).tolist()]


def test_catalog__knows_a_licence_and_a_publisher_of_every_atlas():
    entries = [*FIXED.values(), catalog_entry("schaefer100_7n"), catalog_entry("schaefer1000_17n")]
    assert all(entry.licence and entry.publisher and entry.n_rois for entry in entries)
    assert [entry.n_rois for entry in entries[-2:]] == [100, 1000]
    assert [catalog_entry(name) for name in ("schaefer1100_7n", "schaefer150_7n", "schaefer400_8n", "own")] == [
        None
    ] * 4


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/atlas is not there")
def test_load_label_volume__of_what_labs_have():
    image, seven = SHARED / f"{STEM}_MNI152NLin6Asym_2mm.nii.gz", SHARED / f"{STEM}_label.txt"
    seventeen, order = SHARED / f"{STEM.replace('_7N', '_17N')}_label.txt", SHARED / "schaefer400_17to7.npy"
    found = load_label_volume("schaefer400_tian_s3", image, seven, order=order, order_labels=seventeen)
    assert found.atlas.roi_names[49:51] == ("aGP-lh", "17Networks_LH_VisCent_ExStr_1")
    assert (found.labels[:52], found.notes) == ((*range(1, 51), 53, 55), NOTE)
    with pytest.raises(AtlasError, match=r"lie 18.9 mm from their centre"):
        load_label_volume("schaefer400_tian_s3", image, seventeen)
