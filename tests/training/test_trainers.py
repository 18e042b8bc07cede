"""What trainers do with what a model declares."""

import pytest

from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.models import registry
from recbole_dgrm.training.trainers import trainer_class


@pytest.mark.parametrize(
    ("name", "compiled"),
    [("DGRM", {"generator"}), ("PRGAN", {"generator", "memory"}), ("CFGAN", {"generator", "discriminator"})],
)
def test_all_networks_are_compiled_but_those_whose_gradient_is_differentiated_again(name, compiled, make_config):
    config = make_config(name, compile=True)
    model = registry.model_class(name)(config, build_splits(config).train)
    trainer_class(type(model))(config.writing_to("."), model)
    networks = {key: network for key, network in model.named_children() if list(network.parameters())}
    assert {key for key, network in networks.items() if network._compiled_call_impl} == compiled
