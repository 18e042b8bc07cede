"""What every model must do, as a class of tests that names no model."""

import json
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import loaders
from recbole_dgrm.errors import OptionError
from recbole_dgrm.models import registry
from recbole_dgrm.models.base import Phase
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.testing.small import small_config, untrained_model, write_small_sets
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.training.optimizers import only_learning
from recbole_dgrm.training.trainers import trainer_class


def interaction(config, users, items=None) -> Interaction:
    """A batch of users, or of pairs of users and items, by their ids in the model."""
    columns = {config["USER_ID_FIELD"]: torch.as_tensor(users)}
    if items is not None:
        columns[config["ITEM_ID_FIELD"]] = torch.as_tensor(items)
    return Interaction(columns)


class Sizes(TorchDispatchMode):
    """Collects the sizes of all dense tensors that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Call ``func``, and note the sizes of what it returns."""
        result = func(*args, **(kwargs or {}))
        self.seen |= {tuple(each.shape) for each in filter(_is_dense, tree_leaves(result))}
        return result


def _is_dense(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


class ModelContract:
    """A subclass whose name begins with ``Test`` names a model, and pytest runs these tests on it.

    Attributes:
        model: the name, as in ``--model``.
        keys: keys of all trainings.
        learns: skill in RatedNDCG@5 that the model must reach on ratings in the pattern of a checkerboard.
        epochs: of the training there.
        settings: keys of the training there.
        implicit: keys with which the model runs under full ranking; None for a model of ratings, which says so.
        whole_profiles: whether the model scores a single pair by scoring all items of its user.
    """

    model: str
    keys: ClassVar[dict[str, Any]] = {}
    learns = 0.8
    epochs = 15
    settings: ClassVar[dict[str, Any]] = {"learning_rate": 0.02}
    implicit: ClassVar[dict[str, Any] | None] = {}
    whole_profiles = False

    def phases(self, model) -> list[Phase]:
        """The turns in which the model is trained; for a model that declares none, what stands for them."""
        return model.phases()

    @pytest.fixture(scope="class")
    def make_config(self, tmp_path_factory):
        """``make_config(model, dataset, **overrides)``: a small config that reads and writes in a folder of its own."""
        folder = tmp_path_factory.mktemp("contract")
        small = partial(small_config, write_small_sets(folder / "data"), folder)
        return lambda *names, **overrides: small(*names, **{**self.keys, **overrides})

    @pytest.fixture(scope="class")
    def trained(self, make_config):
        """The record and the directory of a finished run, which several tests read."""
        return run_one(make_config(self.model, epochs=2))

    @pytest.fixture(scope="class")
    def built(self, make_config):
        """The config, the splits and the untrained model."""
        return untrained_model(make_config(self.model))

    def test_options_and_yaml_keys_agree(self):
        keys = {field.name for field in fields(registry.model_class(self.model).Options)}
        shared = {"learning_rate", "weight_decay", "train_batch_size", "epochs", "eval_step", "stopping_step"}
        defaults = set(read_yaml(registry.defaults_file(self.model)))
        assert keys <= defaults <= keys | shared

    def test_every_yaml_line_is_explained(self):
        lines = registry.defaults_file(self.model).read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line and not line.startswith("#") and " # (" not in line]

    def test_each_phase_gives_gradients_to_its_parameters_and_to_no_others(self, built):
        config, splits, model = built
        batch = next(iter(loaders.train_loader(config, splits, "train")))
        model.train()
        for phase in self.phases(model):
            model.zero_grad()
            with only_learning(model, phase.parameters):
                loss = phase.loss(batch)
                loss.backward()
            assert torch.isfinite(loss)
            own = {id(parameter) for parameter in phase.parameters}
            for parameter in model.parameters():
                assert (parameter.grad is not None) == (id(parameter) in own)
            assert any(parameter.grad.any() for parameter in phase.parameters)

    def test_a_score_depends_on_user_and_item_alone_and_the_padding_item_has_the_lowest(self, built):
        config, splits, model = built
        model.eval()
        scores = model.full_sort_predict(interaction(config, range(splits.train.user_num)))
        assert (scores[1:, 0] == -torch.inf).all()
        assert torch.isfinite(scores[1:, 1:]).all()
        for user in (4, 2, 9):
            torch.testing.assert_close(model.full_sort_predict(interaction(config, [user]))[0], scores[user])
        users, items = [3, 3, 1, 7, 1], [1, 5, 2, 9, 24]
        torch.testing.assert_close(model.predict(interaction(config, users, items)), scores[users, items])
        assert torch.equal(scores, model.full_sort_predict(interaction(config, range(splits.train.user_num))))

    def test_pairs_are_scored_without_a_table_of_users_and_items_if_the_model_can(self, built):
        config, splits, model = built
        users, sizes = [2, 3, 5, 7, 11, 13, 17], Sizes()
        with sizes:
            model.eval().predict(interaction(config, users, range(1, 8)))
        tables = {(len(users), splits.train.item_num - padding) for padding in (0, 1)}
        assert bool(sizes.seen & tables) == self.whole_profiles

    def test_another_seed_gives_another_split_and_another_model(self, make_config, built):
        found = []
        for config, splits, model in (built, untrained_model(make_config(self.model, seed=7))):
            found.append((splits.fingerprint(), model.eval().full_sort_predict(interaction(config, [1]))[:, 1:]))
        assert found[0][0] != found[1][0]
        assert not torch.equal(found[0][1], found[1][1])

    def test_it_runs_under_full_ranking_or_says_why_not(self, make_config):
        if self.implicit is None:
            with pytest.raises(OptionError, match="feedback"):
                run_one(make_config(self.model, protocol="full"))
            return
        record, _ = run_one(make_config(self.model, protocol="full", **{"epochs": 1, "refit": False, **self.implicit}))
        assert 0 < record.test["recall@10"] <= record.reference["oracle"]["recall@10"]
        assert record.diagnosis  # and no error

    def test_a_loaded_run_gives_the_numbers_of_its_record_user_by_user(self, trained):
        record, path = trained
        run = load_run(path)
        trainer = trainer_class(type(run.model))(run.config, run.model)
        assert trainer.evaluate(loaders.eval_loader(run.config, run.splits, "test")) == record.test
        saved = np.load(path / "per_user.npz", allow_pickle=False)
        np.testing.assert_array_equal(trainer.evaluator.per_user["ratedndcg@5"], saved["ratedndcg@5"])

    def test_a_killed_run_resumes_to_the_parameters_of_an_unbroken_one(self, make_config, trained, monkeypatch):
        class Killed(BaseException):
            pass

        record, unbroken = trained
        trainer = trainer_class(registry.model_class(self.model))
        after_epoch = trainer._after_epoch

        def dies(self, epoch, valid):
            after_epoch(self, epoch, valid)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "_after_epoch", dies)
            config = make_config(self.model, epochs=2, output_dir=str(unbroken.parent / "killed"))
            with pytest.raises(Killed):
                run_one(config)
        (broken,) = (unbroken.parent / "killed").iterdir()
        resume(broken)
        states = [read_checkpoint(path / "checkpoint.pt", torch.device("cpu")) for path in (unbroken, broken)]
        for key, value in states[0]["state_dict"].items():
            assert torch.equal(value, states[1]["state_dict"][key]), key
        resumed = json.loads((broken / "record.json").read_text(encoding="utf-8"))
        assert (resumed["status"], resumed["test"], resumed["valid"]) == ("finished", record.test, record.valid)

    def test_it_learns_the_checkerboard(self, make_config):
        keys = {"epochs": self.epochs, "eval_step": 5, "refit": False, **self.settings}
        config = make_config(self.model, "board", **keys)
        record, _ = run_one(config)
        assert record.skill["ratedndcg@5"] >= self.learns
