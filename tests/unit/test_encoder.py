import copy
from pathlib import Path

import pytest
import torch

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.encoder import BrainJEPAEncoder, count_parameters, token_grid
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.masks import sample_masks
from boldstream.encoders.brainjepa.position import PositionEmbedding, time_embedding
from boldstream.encoders.brainjepa.predictor import BrainJEPAPredictor
from boldstream.encoders.brainjepa.specs import MaskSpec
from boldstream.errors import ConfigError, GradientError

KEYS = Path(__file__).parents[3] / "shared" / "science" / "brainjepa_state_dict.txt"


def small_config(**values):
    sizes = {
        "n_rois": 7,
        "n_timepoints": 40,
        "patch_size": 8,
        "gradient_dims": 5,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
    }
    return BrainJEPAConfig(**(sizes | {"predictor_embed_dim": 8, "predictor_depth": 1} | values))


def gradient(config, seed=0):
    return torch.randn(config.n_rois, config.gradient_dims, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def config():
    return small_config()


@pytest.fixture
def encoder(config):
    torch.manual_seed(0)
    return BrainJEPAEncoder(config, gradient(config)).eval()


@pytest.fixture
def jepa(config):
    torch.manual_seed(0)
    return BrainJEPA.build(config, gradient(config))


@pytest.fixture
def batch(config):
    x = torch.randn(3, 1, config.n_rois, config.n_timepoints, generator=torch.Generator().manual_seed(1))
    masks = sample_masks(config.n_rois, config.n_patches, torch.arange(3), MaskSpec(), seed=2, step=1)
    return x, masks.context_index, masks.target_index


@pytest.mark.parametrize(
    ("size", "encoder_counts", "predictor_counts", "n_keys"),
    [
        ("small", (22_170_816, 21_306_816), (3_252_768, 2_820_768), 151),
        ("base", (86_808_960, 85_080_960), (12_108_864, 11_244_864), 151),
        ("large", (304_648_704, 302_344_704), None, 295),
    ],
)
def test_parameter_counts__paper_sizes(size, encoder_counts, predictor_counts, n_keys):
    config = BrainJEPAConfig.sized(size, 450)
    with torch.device("meta"):
        encoder = BrainJEPAEncoder(config, torch.zeros(450, 30))
        predictor = BrainJEPAPredictor(config, torch.zeros(450, 30))
    assert count_parameters(encoder) == encoder_counts
    assert len(encoder.state_dict()) == n_keys
    if predictor_counts:
        assert count_parameters(predictor) == predictor_counts
        assert len(predictor.state_dict()) == 82


def test_parameter_counts__predictor_of_12_blocks():
    config = BrainJEPAConfig.sized("base", 450, predictor_depth=12)
    with torch.device("meta"):
        assert count_parameters(BrainJEPAPredictor(config, torch.zeros(450, 30))) == (22_755_648, 21_891_648)


@pytest.mark.skipif(not KEYS.is_file(), reason=f"{KEYS} is not there")
def test_state_dict__has_the_released_keys_and_shapes():
    lines = [line.split("\t") for line in KEYS.read_text().splitlines() if line and not line.startswith("#")]
    listed = {line[0]: (line[1].replace(" ", ""), "FROZEN" in line[-1]) for line in lines if len(line) >= 2}
    config = BrainJEPAConfig.sized("base", 450)
    ours = {}
    with torch.device("meta"):
        for module in (
            BrainJEPAEncoder(config, torch.zeros(450, 30)),
            BrainJEPAPredictor(config, torch.zeros(450, 30)),
        ):
            for key, value in module.named_parameters():
                ours[key] = (str(tuple(value.shape)).replace(" ", ""), not value.requires_grad)
    assert len(listed) == 151 + 82
    assert ours == listed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embed_dim": 18, "num_heads": 3}, "embed_dim 18 is not a multiple of 4"),
        ({"num_heads": 3}, "embed_dim 16 is not a multiple of num_heads 3"),
        (
            {"predictor_embed_dim": 12, "num_heads": 8},
            "predictor_embed_dim 12 is not a multiple of num_heads 8",
        ),
        ({"n_timepoints": 7}, "holds no whole patch"),
    ],
)
def test_config__refuses_sizes_that_do_not_fit(values, message):
    with pytest.raises(ConfigError, match=message):
        BrainJEPAConfig.from_mapping(small_config().model_dump() | values, where="sizes")


@pytest.mark.parametrize(
    ("n_timepoints", "patch_size", "n_patches"), [(40, 8, 5), (43, 8, 5), (16, 16, 1), (12, 1, 12)]
)
def test_encoder__takes_any_number_of_patches(n_timepoints, patch_size, n_patches):
    config = small_config(n_timepoints=n_timepoints, patch_size=patch_size)
    tokens = BrainJEPAEncoder(config, gradient(config))(torch.randn(2, 1, 7, n_timepoints))
    assert config.n_patches == n_patches
    assert token_grid(tokens, config).shape == (2, 7, n_patches, 16)


def test_encoder__refuses_another_shape(encoder):
    with pytest.raises(ValueError, match=r"input has shape \(1, 1, 40, 7\)"):
        encoder(torch.zeros(1, 1, 40, 7))


def test_patches__are_roi_major(encoder):
    x = torch.zeros(1, 1, 7, 40)
    x[0, 0, 3, 8:16] = 1.0
    patches = encoder.patch_embed(x)
    silent = encoder.patch_embed(torch.zeros_like(x))
    changed = (patches != silent).any(-1)[0].nonzero().flatten().tolist()
    assert changed == [3 * 5 + 1]


def test_encoder__equals_explicit_attention(encoder, config):
    x = torch.randn(2, 1, 7, 40)
    tokens = encoder.patch_embed(x) + encoder.pos_embed_proj()
    for block in encoder.blocks:
        h = block.norm1(tokens)
        B, N, D = h.shape
        q, k, v = block.attn.qkv(h).reshape(B, N, 3, config.num_heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (D // config.num_heads) ** -0.5).softmax(-1)
        tokens = tokens + block.attn.proj((weights @ v).transpose(1, 2).reshape(B, N, D))
        h = block.mlp.fc1(block.norm2(tokens))
        tokens = tokens + block.mlp.fc2(0.5 * h * (1 + torch.erf(h / 2**0.5)))
    torch.testing.assert_close(encoder(x), encoder.norm(tokens), atol=1e-5, rtol=0)


def test_encoder__context_is_all_that_the_blocks_see(encoder):
    x = torch.randn(2, 1, 7, 40)
    index = torch.tensor([[0, 7, 20], [1, 2, 34]])
    torch.testing.assert_close(encoder(x, torch.arange(35).expand(2, -1)), encoder(x))
    other = x.clone()
    other[0, 0, 2] = 9.0  # tokens 10 to 14, outside of the first context
    torch.testing.assert_close(encoder(other, index), encoder(x, index), atol=0, rtol=0)


def test_initialisation__is_that_of_the_reference():
    torch.manual_seed(0)
    config = BrainJEPAConfig.sized("tiny", 20)
    encoder = BrainJEPAEncoder(config, gradient(config))
    for block in encoder.blocks:
        assert abs(block.attn.proj.weight.std().item() - 0.02) < 0.002
        assert abs(block.mlp.fc2.weight.std().item() - 0.02) < 0.002
        assert not block.mlp.fc1.bias.any()
    assert bool((encoder.norm.weight == 1).all())


def test_time_embedding__is_sines_then_cosines():
    table = time_embedding(3, 8)
    assert table.shape == (3, 8)
    assert table[0].tolist() == [0.0] * 4 + [1.0] * 4
    angle = torch.tensor([1.0, 0.1, 0.01, 0.001]) * 2
    torch.testing.assert_close(table[2], torch.cat([angle.sin(), angle.cos()]))


def test_position__is_scaled_to_one_over_the_whole_matrix(encoder):
    position = encoder.pos_embed_proj()
    assert position.shape == (1, 35, 16)
    region = position[0, :, 8:]
    assert (region.min().item(), region.max().item()) == (-1.0, 1.0)
    torch.testing.assert_close(region.view(7, 5, 8)[:, 0], region.view(7, 5, 8)[:, 4])


@torch.no_grad()
def test_position__is_kept_in_inference_and_equals_the_uncached(encoder):
    position = encoder.pos_embed_proj
    first = position()
    assert position() is first
    torch.testing.assert_close(first, position._compute(), atol=0, rtol=0)
    with torch.inference_mode():
        assert position() is first
    assert copy.deepcopy(encoder).pos_embed_proj() is not first


@pytest.mark.parametrize("change", ["load", "in_place", "foreach", "to", "train", "optimizer"])
def test_position__is_computed_again_after(encoder, change):
    position: PositionEmbedding = encoder.pos_embed_proj
    weight = position.predictor_pos_embed_proj.weight
    with torch.no_grad():
        old = position().clone()
        if change == "load":
            state = {k: v * torch.randn_like(v) for k, v in encoder.state_dict().items()}
            encoder.load_state_dict(state)
        elif change == "in_place":
            weight.mul_(torch.randn_like(weight))
        elif change == "foreach":
            torch._foreach_lerp_([weight], [torch.randn_like(weight)], 0.5)
        elif change == "to":
            encoder.to(torch.float64)
    if change == "train":
        encoder.train()
        assert position._kept is None
        encoder.eval()
        weight.data = torch.randn_like(weight)
    elif change == "optimizer":
        position().square().sum().backward()
        torch.optim.AdamW(encoder.parameters(), lr=0.1).step()
    with torch.no_grad():
        new = position()
        torch.testing.assert_close(new, position._compute(), atol=0, rtol=0)
    assert new.dtype is (torch.float64 if change == "to" else torch.float32)
    assert change == "to" or not torch.equal(new, old)


def test_position__has_a_gradient_when_grad_is_on(encoder):
    with torch.no_grad():
        encoder.pos_embed_proj()
    encoder.pos_embed_proj().square().sum().backward()
    assert encoder.pos_embed_proj.predictor_pos_embed_proj.weight.grad is not None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(5, 7), r"shape \(5, 7\), the model takes \(7, 5\)"),
        (torch.full((7, 5), torch.nan), "35 values that are NaN or infinite"),
        (torch.ones(7, 5), "the same for every region"),
    ],
)
def test_gradient__that_does_not_fit_is_refused(config, bad, message):
    with pytest.raises(GradientError, match=message):
        BrainJEPAEncoder(config, bad)


def test_gradient__is_no_part_of_the_state(encoder):
    assert not [key for key in encoder.state_dict() if "gradient" in key]


def test_predictor__sees_positions_of_targets(jepa, batch):
    x, context, target = batch
    predicted = jepa.predict(x, context, target)
    assert predicted.shape == (*target.shape, 16)
    assert (predicted[:, 0] - predicted[:, 1]).abs().max() > 1e-5


def test_loss__equals_the_equation(jepa, batch):
    x, context, target = batch
    loss = jepa(x, context, target)
    tokens = jepa.target_encoder(x)
    normed = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    goal = torch.stack([normed[b, target[b]] for b in range(3)])
    gap = (jepa.predictor(jepa.encoder(x, context), context, target) - goal).abs()
    torch.testing.assert_close(loss, torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean())


def test_loss__gives_no_gradient_to_the_target_encoder(jepa, batch):
    jepa.loss(*batch).backward()
    assert all(p.grad is None for p in jepa.target_encoder.parameters())
    trained = [*jepa.encoder.named_parameters(), *jepa.predictor.named_parameters()]
    assert [n for n, p in trained if p.requires_grad and p.grad is None] == []
    assert [n for n, p in trained if not p.requires_grad] == [
        "pos_embed_proj.emb_h",
        "predictor_2dpe_proj.emb_h",
    ]


def test_update_target__moves_by_the_momentum(jepa):
    before = {k: v.clone() for k, v in jepa.target_encoder.state_dict().items()}
    with torch.no_grad():
        for parameter in jepa.encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    jepa.eval()
    with torch.no_grad():
        jepa.target_encoder.pos_embed_proj()
    jepa.update_target(0.9)
    after, source = jepa.target_encoder.state_dict(), jepa.encoder.state_dict()
    for key, old in before.items():
        torch.testing.assert_close(after[key], 0.9 * old + 0.1 * source[key])
    position = jepa.target_encoder.pos_embed_proj
    with torch.no_grad():
        torch.testing.assert_close(position(), position._compute(), atol=0, rtol=0)


def test_training__lowers_the_loss(jepa, batch):
    optimizer = torch.optim.AdamW([p for p in jepa.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = jepa.loss(*batch)
        loss.backward()
        optimizer.step()
        jepa.update_target(0.99)
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
