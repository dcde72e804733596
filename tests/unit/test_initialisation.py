import pytest
import torch

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.jepa import BrainJEPA

TINY = BrainJEPAConfig.sized("tiny", 20)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def build(*initialisation):
    torch.manual_seed(0)
    return BrainJEPA.build(TINY, random(20, 30), *initialisation)


def linear_layers(jepa):
    for network in (jepa.encoder, jepa.predictor):
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                yield name, module.weight.detach().flatten(1), module.bias.detach()


def test_xavier__has_glorots_variances():
    for name, weight, bias in linear_layers(build("xavier")):
        n_out, n_in = weight.shape
        # uniform: the variance of n numbers is known to sqrt(0.8 / n) of itself, 4 % in the smallest layer
        assert weight.var().item() == pytest.approx(2 / (n_in + n_out), rel=0.16), name
        assert weight.abs().max().item() <= (6 / (n_in + n_out)) ** 0.5
        assert not bias.any()


def test_reference_initialisation__is_what_it_was():
    for name, weight, bias in linear_layers(build("reference")):
        assert weight.std().item() == pytest.approx(0.02, rel=0.12), name
        assert not bias.any()
    default = build().state_dict()
    for key, value in build("reference").state_dict().items():
        assert torch.equal(value, default[key])


def test_initialisations__have_the_same_state():
    xavier, reference = build("xavier"), build("reference")
    assert {k: v.shape for k, v in xavier.state_dict().items()} == {
        k: v.shape for k, v in reference.state_dict().items()
    }
    xavier.load_state_dict(reference.state_dict(), strict=True)
    x = random(1, 1, 20, 160)
    with torch.no_grad():
        assert torch.equal(xavier.target_encoder(x), reference.target_encoder(x))


@pytest.mark.parametrize("initialisation", ["xavier", "reference"])
def test_target_encoder__begins_as_the_encoder(initialisation):
    jepa = build(initialisation)
    own = jepa.target_encoder.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in jepa.encoder.state_dict().items())
    norms = [module for module in jepa.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert all(bool((norm.weight == 1).all()) and not norm.bias.any() for norm in norms)
