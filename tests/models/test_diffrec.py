import torch
from recbole.model.general_recommender.diffrec import DiffRec as RecBoleDiffRec

from recbole_dgrm.testing import ModelContract, interaction


class TestDiffRec(ModelContract):
    model = "DiffRec"
    whole_profiles = True


def test_with_implicit_feedback_it_equals_recboles_on_the_same_weights(make_model):
    config, splits, ours = make_model("DiffRec", protocol="full")
    theirs = RecBoleDiffRec(config, splits.train)
    theirs.mlp.load_state_dict(ours.mlp.state_dict())
    users = interaction(config, [1, 2, 3, 4])
    scores = theirs.eval().full_sort_predict(users)
    torch.testing.assert_close(ours.eval().full_sort_predict(users)[:, 1:], scores[:, 1:])
    losses = []
    for model, rows in ((ours.train(), 4), (theirs.train(), 1)):
        torch.manual_seed(0)
        losses.append(model.calculate_loss(users) / rows)
    torch.testing.assert_close(losses[0], losses[1], check_dtype=False)


def test_the_loss_over_rated_items_ignores_the_others(make_model):
    _, splits, model = make_model("DiffRec", noise_scale=0.0)
    users = torch.arange(1, splits.train.user_num)
    x_0 = model.get_rating_matrix(users)
    unrated = x_0 == 0
    output = torch.where(unrated, 99.0, x_0)
    steps = torch.zeros(len(users), dtype=torch.long)
    arguments = (x_0, x_0, None, steps, x_0, output, model.device)
    assert (model.reweight_loss(*arguments) == 0).all()


def test_forward_steps_at_prediction_take_the_noise_of_the_user(make_model):
    config, _, model = make_model("DiffRec", sampling_steps=4)
    model.eval()
    batch = model.full_sort_predict(interaction(config, [4, 2]))
    alone = model.full_sort_predict(interaction(config, [2]))
    torch.testing.assert_close(batch[1:], alone)


def test_prediction_reads_rated_items_only_on_every_step(make_model):
    """Else the steps would read their own predictions of unrated items, and all users would end alike."""
    _, splits, model = make_model("DiffRec", steps=4)
    users = torch.arange(1, splits.train.user_num)
    rated = torch.nn.functional.pad(model.profiles(users)[1], (1, 0)).bool()
    read = []
    model.eval().mlp.register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    model.score_profiles(users)
    assert len(read) == 4
    assert all((x[~rated] == 0).all() and x[rated].all() for x in read)
