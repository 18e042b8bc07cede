import pytest
import torch

from recbole_dgrm.maths.noise import RowNoise


@pytest.fixture(scope="module")
def row_noise():
    return RowNoise(seed=2020, width=50, device=torch.device("cpu"))


def test_row_noise_of_a_row_does_not_depend_on_the_batch_or_its_order(row_noise):
    rows = torch.tensor([3, 0, 941, 17])
    batch, state = row_noise(rows, 50, stream=2), torch.get_rng_state()
    assert batch.shape == (4, 50)
    assert torch.equal(row_noise(rows.flip(0), 50, 2), batch.flip(0))
    for row, expected in zip(rows, batch, strict=True):
        assert torch.equal(row_noise(row.unsqueeze(0), 50, 2)[0], expected)
    same, other = (RowNoise(seed, 50, torch.device("cpu"))(rows, 50, 2) for seed in (2020, 2021))
    assert torch.equal(same, batch)
    assert not torch.equal(other, batch)
    assert torch.equal(torch.get_rng_state(), state)


def test_row_noise_differs_between_rows_and_between_streams(row_noise):
    rows = torch.arange(500)
    draws = torch.cat([row_noise(rows, 50, stream) for stream in range(4)])
    assert len(torch.unique(draws, dim=0)) == 2000
    correlation = torch.corrcoef(torch.stack([row_noise(rows, 50, stream).flatten() for stream in range(4)]))
    assert (correlation - torch.eye(4)).abs().max() < 0.03


def test_row_noise_is_about_standard_normal(row_noise):
    draws = row_noise(torch.arange(2000), 50, 0).double()
    assert draws.mean().item() == pytest.approx(0, abs=0.02)
    assert draws.std().item() == pytest.approx(1, abs=0.02)
    assert (draws.abs() < 1.96).double().mean().item() == pytest.approx(0.95, abs=0.01)
    assert draws.mean(dim=0).abs().max() < 0.15  # no item is pushed for all users


@pytest.mark.parametrize("row", [10**6, 10**9, 10**12, 2**62])
def test_row_noise_works_for_large_row_ids(row_noise, row):
    draw = row_noise(torch.tensor([row, row + 1]), 50, 3)
    assert draw.isfinite().all()
    assert not torch.equal(draw[0], draw[1])
