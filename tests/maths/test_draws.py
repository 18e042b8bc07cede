"""A draw that looks at few keys is the one that looks at all of them."""

import pytest
import torch

from recbole_dgrm.maths.draws import LowestKeys
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places

USERS = torch.tensor([7, 3, 3, 900, 12])
NOISE = RowNoise(1, 50_000, torch.device("cpu"))


def rated(width: int, counts: list[int]) -> Places:
    """As many random columns of each row as ``counts`` says."""
    draw = torch.Generator().manual_seed(0)
    column = torch.cat([torch.randperm(width, generator=draw)[:count] for count in counts])
    return Places(len(counts), width, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)), column)


def dense(places: Places) -> torch.Tensor:
    return places.dense(torch.ones(len(places.row)))


@pytest.mark.parametrize("counts", [[0, 5, 5, 30, 400], [0, 0, 0, 0, 0]])
@pytest.mark.parametrize(("width", "count"), [(2000, 9), (50_000, 9), (2000, 300)])
def test_few_keys_draw_what_all_keys_draw(width, count, counts, monkeypatch):
    draw, without = LowestKeys(NOISE, width, count), rated(width, counts)
    assert bool(len(draw.low)) == (count == 9)
    for stream in range(4):
        expected = draw._of_all(USERS, stream, without)
        with monkeypatch.context() as patch:
            if count == 9:
                patch.delattr(LowestKeys, "_of_all")
            found = draw(USERS, stream, without)
        assert torch.equal(dense(found), dense(expected))
        assert torch.diff(found.row_start).tolist() == [count] * len(USERS)
        assert (torch.diff(found.row) >= 0).all()
        assert not (dense(found) * dense(without)).any()


@pytest.mark.parametrize("counts", [[0, 5, 5, 1990, 0], [0, 5, 5, 1995, 2000]])
def test_a_row_with_few_columns_left_gets_them_all(counts):
    draw, without = LowestKeys(NOISE, 2000, 9), rated(2000, counts)
    found = draw(USERS, 0, without)
    assert torch.diff(found.row_start).tolist() == [min(9, 2000 - count) for count in counts]
    assert torch.equal(dense(found), dense(draw._of_all(USERS, 0, without)))


def test_a_draw_belongs_to_the_row_and_the_stream_and_is_uniform():
    draw, nothing = LowestKeys(NOISE, 400, 5), rated(400, [0] * 5)
    drawn = dense(draw(USERS, 0, nothing))
    assert torch.equal(drawn[1], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(dense(draw(USERS[:1], 0, rated(400, [0])))[0], drawn[0])
    assert not torch.equal(dense(draw(USERS, 1, nothing)), drawn)
    users = torch.arange(20_000)
    often = dense(draw(users, 0, Places(len(users), 400, *torch.empty(2, 0, dtype=torch.long)))).sum(dim=0)
    assert often.std() / often.mean() < 0.1  # about 250 a column, so .063 for independent ones
