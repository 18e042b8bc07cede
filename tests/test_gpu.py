"""What runs on a CPU runs on a GPU and gives the same: ``pytest -m gpu`` where there is one."""

import pytest
import torch

from recbole_dgrm.maths.sparse import Places, products_at, sparse_product, squared_norms
from recbole_dgrm.models.dgrm.noise import Factors
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.testing import interaction

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def sparse_results(device: str) -> list[torch.Tensor]:
    """Values and gradients of products of few entries, on the CPU in the end."""
    generator = torch.Generator().manual_seed(0)
    key = torch.randperm(40 * 300, generator=generator)[:900].sort().values
    places = Places(40, 300, (key // 300).to(device), (key % 300).to(device))
    value, left, right = (
        torch.randn(size, generator=generator).to(device).requires_grad_(True) for size in ((900,), (40, 16), (300, 16))
    )
    found = [sparse_product(places, value, right), products_at(places, left, right), squared_norms(left, right)]
    sum(each.square().sum() for each in found).backward()
    return [each.detach().cpu() for each in (*found, value.grad, left.grad, right.grad, Factors()(right.detach()))]


def test_products_of_few_entries_are_those_of_the_cpu():
    torch.testing.assert_close(sparse_results("cuda"), sparse_results("cpu"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["DGRM", "DGRMPlus", "DGRMKL", "ICDAE", "CFGAN"])
def test_a_model_predicts_there_what_it_predicts_on_the_cpu(make_model, name):
    models = []
    for device in ("cpu", "cuda"):
        config, _, model = make_model(name, device=device)
        models.append(model.to(config["device"]).eval())
    models[1].load_state_dict(models[0].state_dict())
    users = interaction({"USER_ID_FIELD": "user_id"}, [1, 2, 3, 4])
    scores = [model.full_sort_predict(users.to(model.device)).cpu() for model in models]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["DGRM", "DGRMPlus", "DGRMKL", "ICDAE", "CFGAN", "DiffRec"])
@pytest.mark.parametrize("protocol", ["rated", "full"])
def test_a_run_finishes_there(make_config, name, protocol):
    record, _ = run_one(make_config(name, protocol=protocol, device="cuda"))
    assert record.status == "finished"
    assert record.environment["device"].startswith("cuda")
