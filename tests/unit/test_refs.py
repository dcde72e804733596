import pytest
import yaml

from boldstream.errors import ConfigError
from boldstream.refs import CohortRef, EmbeddingTableRef, GradientRef, ModelRef, split_pointer

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("ref", "key", "pointer"),
    [
        (CohortRef("file:///w/cohorts/a", "3", DIGEST), "cohort", "file:///w/cohorts/a@3"),
        (GradientRef("s3://b/w/gradients/g", "1", DIGEST), "gradient", "s3://b/w/gradients/g@1"),
        (ModelRef("models:/m", "12", DIGEST), "model", "models:/m/12"),
        (EmbeddingTableRef("file:///my study/embeddings/t", "1", DIGEST), "table", "file:///my study/embeddings/t@1"),
    ],
)
def test_ref__prints_a_line_of_yaml(ref, key, pointer):
    assert yaml.safe_load(str(ref)) == {key: pointer}
    assert str(ref).endswith("# sha256 0123456789ab")


@pytest.mark.parametrize(
    ("pointer", "uri", "version"),
    [
        ("abide", "abide", None),
        ("abide@3", "abide", "3"),
        ("warehouse/cohorts/abide", "warehouse/cohorts/abide", None),
        ("warehouse/cohorts/abide/", "warehouse/cohorts/abide", None),
        ("s3://bucket/w/cohorts/abide@12", "s3://bucket/w/cohorts/abide", "12"),
        ("file:///home/me@work/w/cohorts/a_b-c@1", "file:///home/me@work/w/cohorts/a_b-c", "1"),
    ],
)
def test_split_pointer__takes_every_spelling(pointer, uri, version):
    assert split_pointer(pointer, field="cohort") == (uri, version)


@pytest.mark.parametrize("pointer", ["", "@1", "abide@", "a b", "../", "cohorts/.hidden", "a;b@1"])
def test_split_pointer__refuses_what_names_nothing(pointer):
    with pytest.raises(ConfigError, match=r"cohort: '.*' does not name an artifact; write name, name@version, or"):
        split_pointer(pointer, field="cohort")
