"""Measuring a layer of any network through hooks."""

import pytest
import torch
from helpers.probes import gaussian
from torch import nn

from rlop.probes import measure, probe
from rlop.types import InputError


class TwoHeads(nn.Module):
    """The value head is registered first but runs last."""

    def __init__(self):
        super().__init__()
        self.value = nn.Linear(6, 1)
        self.torso = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.unused = nn.Linear(6, 2)

    def forward(self, x, scale=1.0):
        return scale * self.value(self.torso(x))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TwoHeads()


@pytest.fixture
def batch():
    return gaussian(16, 4).float()


def test_probe_reads_the_input_of_the_linear_that_runs_last(model, batch):
    next_batch = gaussian(16, 4, seed=1).float()
    phi = torch.relu(model.torso[0](batch)).detach()
    next_phi = torch.relu(model.torso[0](next_batch)).detach()
    weight = model.value.weight.detach()

    mask = torch.ones(16)
    measures = probe(model, batch, next_batch=next_batch, mask=mask)
    assert measures == measure(phi, next_phi, mask, weight)
    assert probe(model, (batch, 2.0)) == measure(phi, head_weight=weight)


def test_probe_takes_a_layer_by_name_before_the_next_one_works_in_place(model, batch):
    expected = measure(model.torso[0](batch).detach(), activation="identity")
    assert probe(model, batch, "torso.0", activation="identity") == expected


def test_probe_flattens_feature_maps():
    conv = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU())
    images = gaussian(5, 2, 4, 4).float()
    expected = measure(conv(images).detach().flatten(1))
    assert probe(conv, images, "1") == expected


def test_probe_leaves_the_model_as_it_was(model):
    model.train()
    model.torso[0].eval()  # an owner may have frozen a part
    before = {name: module.training for name, module in model.named_modules()}

    probe(model, torch.zeros(3, 4))
    for layer in (None, "torso.1"):
        with pytest.raises(RuntimeError):
            probe(model, torch.zeros(3, 5), layer)

    assert before == {name: module.training for name, module in model.named_modules()}
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for parameter in model.parameters():
        assert parameter.grad is None


@pytest.mark.parametrize(
    ("network", "rows", "layer", "message"),
    [
        (TwoHeads(), (3, 4), "torso.9", r"'torso\.9'.*did you mean 'torso\.\d'"),
        (TwoHeads(), (3, 4), "unused", "'unused' of TwoHeads: expected it to run"),
        (nn.ReLU(), (3, 4), None, r"last nn\.Linear of ReLU"),
        (nn.GRU(4, 2), (3, 4), "", "found tuple"),
        (nn.Flatten(0), (3,), "", r"found \(3,\)"),
    ],
)
def test_probe_errors_name_the_layer(network, rows, layer, message):
    with pytest.raises(InputError, match=message):
        probe(network, torch.zeros(rows), layer)


@pytest.mark.parametrize(("network", "layer"), [(TwoHeads(), "value"), (nn.Linear(1, 3), None)])
def test_a_layer_of_one_unit_is_refused_because_its_rank_is_always_one(network, layer):
    width = 1 if layer is None else 4
    with pytest.raises(InputError, match=r"got one unit.*name the layer that feeds it"):
        probe(network, torch.zeros(3, width), layer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": torch.zeros(64, 2)}, r"layer: .*tensor \(64, 2\); pass .* as one tuple"),
        ({"mask": [1.0] * 500}, r"mask: expected a tensor \[n\], got list"),
        ({"activation": torch.zeros(64, 2)}, r"activation: .*a tensor \(64, 2\)"),
        ({"model": torch.zeros(64, 2)}, r"model: expected a torch.nn.Module, got a tensor"),
    ],
)
def test_wrong_arguments_are_named_by_type_and_shape_never_by_content(
    model, batch, arguments, message
):
    arguments = {"model": model, "batch": batch, **arguments}
    with pytest.raises(InputError, match=message) as error:
        probe(**arguments)
    assert len(str(error.value)) < 200
