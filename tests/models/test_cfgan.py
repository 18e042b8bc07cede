from typing import ClassVar

import pytest
import torch
from helpers import random_ratings, write_ratings
from recbole.data.interaction import Interaction

from recbole_dgrm.errors import DataError
from recbole_dgrm.maths import losses
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.cfgan import LowestKeys
from recbole_dgrm.testing import ModelContract
from recbole_dgrm.testing.contract import interaction

AUTHORS = {"orientation": "item", "output": "linear", "first_phase": "discriminator", "n_negatives": 0.7}


def test_ratings_below_0_are_refused(make_model, tmp_path):
    table = random_ratings()
    write_ratings(tmp_path, "below", table.assign(rating=table["rating"] - 3))
    with pytest.raises(DataError, match=r"rating_scale=\[-2.0, 2.0\] begins below 0: add a constant"):
        make_model("CFGAN", "below", data_path=str(tmp_path))


class TestCFGAN(ModelContract):
    model = "CFGAN"
    learns = 0.5  # the adversarial loss alone learns slowly
    epochs = 60
    settings: ClassVar = {"learning_rate": 0.01, "discriminator_learning_rate": 0.01, "stopping_step": 60}


def mask(places: Places | None, rated: Places) -> torch.Tensor:
    """1 at ``places`` and 0 elsewhere, with the size of ``rated``."""
    if places is None:
        return torch.zeros(rated.n_rows, rated.n_columns)
    found = places.dense(torch.ones(len(places.row)))
    assert found.sum() == len(places.row)  # no place is there twice
    return found


def masks(model, users):
    """What is rated, what ZR draws and what PM draws for users, ``(B, I)`` each."""
    rated, _ = model.condition(users)
    known = mask(rated, rated)
    return known, mask(model.zero_reconstructed(users, rated), rated), mask(model.visible(users, rated), rated) - known


@pytest.fixture
def everyone(make_model):
    """A CFGAN and all users."""
    _, splits, model = make_model("CFGAN", n_negatives=3)
    return model, torch.arange(1, splits.train.user_num)


def test_zero_reconstruction_and_partial_masking_are_drawn_independently(everyone):
    rated, zero, visible = masks(*everyone)
    assert not torch.equal(zero, visible)
    overlap = float((zero * visible).sum() / zero.sum())
    expected = float((3 / (1 - rated).sum(-1)).mean())
    assert overlap == pytest.approx(expected, abs=0.15)


def test_masks_are_redrawn_each_epoch_and_shared_within_one(everyone):
    model, users = everyone
    model.begin_epoch(0)
    (_, first, _), (_, again, _) = masks(model, users), masks(model, users)
    model.begin_epoch(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, masks(model, users)[1])


@pytest.mark.parametrize(("negatives", "zero", "visible"), [("ZR", 1, 0), ("PM", 0, 1), ("ZP", 1, 1), ("none", 0, 0)])
def test_each_kind_of_negatives_does_its_part(make_model, negatives, zero, visible):
    _, _, model = make_model("CFGAN", negatives=negatives)
    _, zeros, seen = masks(model, torch.tensor([1, 2, 3]))
    assert bool(zeros.any()) == zero
    assert bool(seen.any()) == visible


class Dense:
    """The losses of CFGAN over whole profiles, by plain products."""

    def __init__(self, model, users):
        self.model = model
        rated, value = model.condition(users)
        self.condition = rated.dense(value)
        known, self.zero, drawn = masks(model, users)
        self.visible = known + drawn

    def generate(self):
        net = self.model.generator
        output = net.output(net.hidden(self.condition @ net.first.weight + net.first.bias))
        return torch.sigmoid(output) if self.model.options.output == "sigmoid" else output

    def discriminate(self, profile):
        net = self.model.discriminator
        first = torch.cat([self.condition, profile], dim=-1) @ torch.cat([net.condition, net.profile]) + net.bias
        return net.rest(first).squeeze(-1)

    def discriminator(self):
        fake = self.generate().detach() * self.visible
        return losses.discriminator_loss(self.discriminate(self.condition), self.discriminate(fake))

    def generator(self):
        predicted = self.generate()
        zero = (predicted.square() * self.zero).sum()
        adversarial = losses.non_saturating_loss(self.discriminate(predicted * self.visible))
        return adversarial + self.model.options.zero_weight * zero


@pytest.mark.parametrize("protocol", ["rated", "full"])
@pytest.mark.parametrize("negatives", ["ZR", "PM", "ZP", "none"])
@pytest.mark.parametrize(
    ("generator", "discriminator", "keys"),
    [([6, 5], [], {}), ([6], [7, 4], {}), ([6], [7, 4], AUTHORS)],
)
def test_losses_and_gradients_are_those_of_whole_profiles(
    make_model, protocol, negatives, generator, discriminator, keys
):
    keys = {"generator_hidden": generator, "discriminator_hidden": discriminator, "zero_weight": 0.3, **keys}
    _, _, model = make_model("CFGAN", protocol=protocol, negatives=negatives, **keys)
    model.begin_epoch(2)
    ids = torch.tensor([4, 1, 7, 2])
    dense = Dense(model, ids)
    for phase in model.phases():
        loss, expected = phase.loss(Interaction({model.row_field: ids})), getattr(dense, phase.name)()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        for found, wanted in zip(
            *(torch.autograd.grad(each, phase.parameters) for each in (loss, expected)), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("output", "expected"), [("sigmoid", [5.0, 0.0]), ("linear", [500.0, -500.0])])
def test_only_a_linear_output_leaves_the_scale(make_model, output, expected):
    _, _, model = make_model("CFGAN", output=output)
    model.generator.output.weight.data.zero_()
    model.generator.output.bias.data[:2] = torch.tensor([100.0, -100.0])
    torch.testing.assert_close(model.score_profiles(torch.tensor([3]))[0, :2], torch.tensor(expected))


@pytest.mark.parametrize("first", ["generator", "discriminator"])
def test_a_key_says_which_network_trains_first(make_model, first):
    _, _, model = make_model("CFGAN", first_phase=first)
    assert [phase.name for phase in model.phases()].index(first) == 0


def test_a_user_s_scores_are_entries_of_the_profiles_of_items_as_they_are_now(make_model):
    config, splits, model = make_model("CFGAN", **AUTHORS)
    users, items = torch.arange(1, splits.train.user_num), torch.arange(1, splits.train.item_num)
    for _ in range(2):
        expected = 5 * model.generator(*model.condition(items)).dense().T
        torch.testing.assert_close(model.full_sort_predict(interaction(config, users))[:, 1:], expected)
        pairs = [3, 3, 1, 7, 1], [1, 5, 2, 9, 24]
        found = model.predict(interaction(config, *pairs))
        torch.testing.assert_close(found, expected[[user - 1 for user in pairs[0]], [item - 1 for item in pairs[1]]])
        model.generator.output.bias.data.add_(torch.arange(model.width))
    assert not model.takes_new_users


NOISE = RowNoise(1, 50_000, torch.device("cpu"))
ROWS = torch.tensor([7, 3, 3, 900, 12])


def excluded(width: int, counts: list[int]) -> Places:
    """As many random columns of each row as ``counts`` says."""
    draw = torch.Generator().manual_seed(0)
    column = torch.cat([torch.randperm(width, generator=draw)[:count] for count in counts])
    return Places(len(counts), width, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)), column)


@pytest.mark.parametrize("counts", [[0, 5, 5, 30, 400], [0] * 5, [0, 5, 5, 1990, 0], [0, 5, 5, 1995, 2000]])
@pytest.mark.parametrize(("width", "count"), [(2000, 9), (50_000, 9), (2000, 300), (2000, 0.7)])
def test_the_lowest_keys_are_drawn_of_those_that_are_not_excluded(width, count, counts):
    draw, without = LowestKeys(NOISE, width, count), excluded(width, counts)
    assert bool(len(draw.low)) == (count == 9)  # else all keys are read
    key = NOISE(ROWS, width, 2)
    key[without.row, without.column] = torch.inf
    column = key.argsort(dim=1)
    drawn = draw(ROWS, 2, without)
    for row, left in enumerate(width - torch.tensor(counts)):
        wanted = min(count, left) if count >= 1 else round(count * int(left))
        assert torch.equal(drawn.column[drawn.row == row], column[row, :wanted])


def test_a_draw_belongs_to_the_row_and_the_stream_and_is_uniform():
    draw, none = LowestKeys(NOISE, 400, 5), excluded(400, [0] * 5)
    column = draw(ROWS, 0, none).column.view(5, 5)
    assert torch.equal(column[1], column[2])
    assert not torch.equal(column[0], column[1])
    assert not torch.equal(draw(ROWS, 1, none).column.view(5, 5), column)
    rows = torch.arange(20_000)
    nothing = Places(len(rows), 400, *torch.empty(2, 0, dtype=torch.long))
    often = torch.bincount(draw(rows, 0, nothing).column).double()
    assert often.std() / often.mean() < 0.1  # about 250 a column, so .063 for independent ones
