"""`python -m boldstream.conformance` on Brain-JEPA's cases: passes what is right, fails what is not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from boldstream.conformance import compare_case, main

CASES = Path(__file__).parent / "cases"
EXPECTED = {"tokens", "subject_mean", "context_tokens", "predicted", "loss", "position_embedding"}


@pytest.fixture
def case(tmp_path):
    for suffix in ("json", "safetensors"):
        shutil.copy(CASES / f"brainjepa.{suffix}", tmp_path)
    return tmp_path / "brainjepa.json"


def change(case, tensors=None, sizes=None, drop=()):
    path = case.with_suffix(".safetensors")
    if tensors or drop:
        held = {k: v.clone() for k, v in load_file(path).items()}
        held = tensors(held) if tensors else held
        save_file({k: v.contiguous() for k, v in held.items() if not k.startswith(tuple(drop))}, path)
    if sizes:
        case.write_text(json.dumps(json.loads(case.read_text()) | sizes))


def test_case__is_met():
    comparisons = compare_case(CASES / "brainjepa.json")
    assert {c.name for c in comparisons} == {f"expected.{name}" for name in EXPECTED}
    assert all(c.met and c.dtype == "float32" for c in comparisons)


def test_formula_case__is_met():
    comparisons = compare_case(CASES / "brainjepa_formula.json")
    assert {c.name for c in comparisons if c.dtype == "float32"} < {c.name for c in comparisons if c.dtype == "float64"}
    assert {c.name for c in comparisons if c.dtype == "float64"} >= {"enc_full_abs_sum", "smooth_l1_loss"}
    assert all(c.difference < (1e-5 if c.dtype == "float32" else 1e-8) for c in comparisons)


def test_command__prints_a_table_and_exits_0(capsys):
    assert main([str(CASES / "brainjepa.json")]) == 0
    out = capsys.readouterr().out
    assert out.count(" yes") == 6
    assert "6 of 6 within 1e-05" in out


def test_command__runs_as_a_module():
    command = [sys.executable, "-m", "boldstream.conformance", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CASE.json" in done.stdout


@pytest.mark.parametrize("prefix", ["before", "between"])
def test_prefixed_weights__pass(case, prefix):
    def wrap(held):
        weights = {k for k in held if k.split(".")[0] in ("encoder", "predictor", "target_encoder")}
        if prefix == "before":
            return {f"module.{k}" if k in weights else k: v for k, v in held.items()}
        return {k.replace(".", ".module.", 1) if k in weights else k: v for k, v in held.items()}

    change(case, wrap)
    assert main([str(case)]) == 0


@pytest.mark.parametrize("drop", [["expected.predicted", "expected.loss"], ["expected.position_embedding"]])
def test_case_with_fewer_expected_tensors__passes(case, drop):
    change(case, drop=drop)
    assert main([str(case)]) == 0


def test_case_without_mask__needs_no_predictor(case):
    masked = ("context_tokens", "predicted", "loss")
    dropped = [
        "predictor",
        "target_encoder",
        "context_index",
        "target_index",
        *(f"expected.{m}" for m in masked),
    ]
    change(case, drop=dropped)
    assert main([str(case)]) == 0


def nudge(key, by=1e-3):
    def apply(held):
        held[key] += by
        return held

    return apply


def swap_time_and_roi(held):
    """Order tokens by patch first, as a transposed implementation would expect."""
    held["expected.tokens"] = held["expected.tokens"].unflatten(1, (12, 10)).transpose(1, 2).flatten(1, 2)
    return held


@pytest.mark.parametrize(
    ("alter", "failing"),
    [
        (
            nudge("encoder.norm.weight", 0.1),
            {"tokens", "subject_mean", "context_tokens", "predicted", "loss"},
        ),
        (nudge("encoder.pos_embed_proj.emb_h", 0.01), EXPECTED),
        (nudge("predictor.predictor_proj.bias"), {"predicted", "loss"}),
        (nudge("target_encoder.blocks.0.attn.qkv.weight", 0.01), {"loss"}),
        (nudge("expected.subject_mean", 2e-5), {"subject_mean"}),
        (nudge("expected.loss", torch.nan), {"loss"}),
        (swap_time_and_roi, {"tokens"}),
        (lambda h: h | {"input": h["input"].flip(2)}, EXPECTED - {"position_embedding"}),
        (lambda h: h | {"input": h["input"].flip(3)}, EXPECTED - {"position_embedding"}),
        (lambda h: h | {"gradient": h["gradient"].flip(0)}, EXPECTED),
    ],
)
def test_altered_case__fails_and_exits_1(case, capsys, alter, failing):
    change(case, alter)
    assert main([str(case)]) == 1
    out = capsys.readouterr().out
    assert {line.split()[0].removeprefix("expected.") for line in out.splitlines() if line.endswith(" NO")} == failing


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        ({"drop": ["expected"]}, "holds no expected"),
        ({"drop": ["input"]}, "missing 'input'"),
        ({"drop": ["gradient"]}, "missing 'gradient'"),
        ({"drop": ["context_index"]}, "missing tensor context_index"),
        ({"drop": ["predictor"]}, "holds no weights of predictor"),
        ({"drop": ["encoder.norm.bias"]}, "missing: norm.bias"),
        ({"tensors": lambda h: h | {"encoder.head": torch.ones(1)}}, "extra: head"),
        ({"tensors": lambda h: h | {"surplus": torch.ones(1)}}, "surplus belong"),
        (
            {"tensors": lambda h: h | {"expected.attention": torch.ones(1)}},
            "unknown expected.attention; known: ",
        ),
        ({"tensors": lambda h: h | {"expected.loss": torch.ones(2)}}, r"expected.loss has shape (2,)"),
        ({"tensors": lambda h: h | {"target_index": h["target_index"] + 100}}, "leaves the 120 tokens"),
        ({"tensors": lambda h: h | {"target_index": h["target_index"].float()}}, "not (B, N) integers"),
        (
            {"tensors": lambda h: h | {"input": h["input"].transpose(2, 3)}},
            "input has shape (2, 1, 160, 12)",
        ),
        ({"tensors": lambda h: h | {"input": h["input"][:1]}}, "differ in batch size: [1, 2]"),
        ({"sizes": {"depth": 3}}, "missing: blocks.2"),
        ({"sizes": {"num_heads": 5}}, "not a multiple of num_heads 5"),
        ({"sizes": {"n_rois": "many"}}, "n_rois: "),
        ({"sizes": {"system": "BrainLM9"}}, "unknown system 'BrainLM9'; known: Brain-JEPA"),
        ({"sizes": {"system": ["x"]}}, "unknown system"),
    ],
)
def test_broken_case__is_one_line_and_exits_2(case, capsys, alter, message):
    change(case, **alter)
    assert main([str(case)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda c: c.pop("tgt_idx"), "missing 'tgt_idx'"),
        (lambda c: c.update(surprise=[1.0]), "unknown value 'surprise'"),
        (lambda c: c.update(enc_mean_pool=["x"]), "enc_mean_pool holds 'x', which is no number"),
        (lambda c: c.update(enc_full_token60=[1.0]), "a token beyond the last, 59"),
        (lambda c: c["enc_keys_sorted"].pop(), "are not the keys of our encoder"),
        (lambda c: c["shapes"].update(enc=[1, 50, 32]), "shape of enc is [1, 60, 32] here"),
        (
            lambda c: [
                c.pop(k) for k in list(c) if k.startswith(("pos", "enc_", "pred_", "smooth")) and "keys" not in k
            ],
            "expects nothing",
        ),
    ],
)
def test_broken_formula_case__exits_2(tmp_path, capsys, alter, message):
    case = json.loads((CASES / "brainjepa_formula.json").read_text())
    alter(case)
    (tmp_path / "formula.json").write_text(json.dumps(case))
    assert main([str(tmp_path / "formula.json")]) == 2
    assert message in capsys.readouterr().err


def test_altered_formula_case__exits_1(tmp_path):
    case = json.loads((CASES / "brainjepa_formula.json").read_text())
    case["enc_full_abs_sum"] += 1e-4
    (tmp_path / "formula.json").write_text(json.dumps(case))
    assert main([str(tmp_path / "formula.json")]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("{", "not valid JSON"), ("[]", "holds list"), ("{}", "unknown system")],
)
def test_unreadable_case__exits_2(tmp_path, capsys, text, message):
    if text is not None:
        (tmp_path / "case.json").write_text(text)
    assert main([str(tmp_path / "case.json")]) == 2
    assert message in capsys.readouterr().err


def test_case_without_tensors__exits_2(case, capsys):
    case.with_suffix(".safetensors").unlink()
    assert main([str(case)]) == 2
    assert "no such weights file" in capsys.readouterr().err
