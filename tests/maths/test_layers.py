from itertools import pairwise

import pytest
import torch
from helpers import mlp
from torch import nn


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("sizes", [[4, 3], [4, 5, 3], [4, 6, 5, 3]])
def test_mlp_has_one_linear_layer_per_pair_of_sizes_and_relu_between(sizes):
    layers = list(mlp(sizes))
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(pairwise(sizes))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU] * (len(sizes) - 2) + [nn.Linear]


def test_mlp_output_is_linear_and_can_be_negative():
    output = mlp([3, 8, 1])(10 * torch.randn(200, 3))
    assert output.min() < 0 < output.max()
