"""A class of tests that every model must pass."""

import json
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

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
    """A batch of users, or of user-item pairs, by the model's ids."""
    columns = {config["USER_ID_FIELD"]: torch.as_tensor(users)}
    if items is not None:
        columns[config["ITEM_ID_FIELD"]] = torch.as_tensor(items)
    return Interaction(columns)


class ModelContract:
    """Tests of a model; a subclass whose name begins with ``Test`` names the model, and pytest runs the tests.

    Attributes:
        model: the name of the model, as in ``--model``.
        keys: keys for all trainings.
        learns: the skill in RatedNDCG@5 that the model must reach on ratings in a checkerboard pattern.
        epochs, settings: the number of epochs, and further keys, for the training on the checkerboard.
        implicit: further keys for full ranking; None if the model raises an error for implicit feedback.
    """

    model: str
    keys: ClassVar[dict[str, Any]] = {}
    learns = 0.8
    epochs = 30
    settings: ClassVar[dict[str, Any]] = {"learning_rate": 0.01}
    implicit: ClassVar[dict[str, Any] | None] = {}

    def phases(self, model) -> list[Phase]:
        """The training phases of the model; override it for a model that does not declare phases."""
        return model.phases()

    @pytest.fixture(scope="class")
    def make_config(self, tmp_path_factory):
        """``make_config(model, dataset, **overrides)``: a small config that reads and writes in a temporary folder."""
        folder = tmp_path_factory.mktemp("contract")
        small = partial(small_config, write_small_sets(folder / "data"), folder)
        return lambda *names, **overrides: small(*names, **{**self.keys, **overrides})

    @pytest.fixture(scope="class")
    def trained(self, make_config):
        """The record and the directory of a finished run, which several tests use."""
        return run_one(make_config(self.model, epochs=4))

    @pytest.fixture
    def built(self, make_config):
        """The config, the splits and the untrained model."""
        config, splits, model = untrained_model(make_config(self.model))
        return config, splits, model.eval()

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
            before = [parameter.detach().clone() for parameter in model.parameters()]
            model.zero_grad()
            with only_learning(model, phase.parameters):
                loss = phase.loss(batch)
                loss.backward()
            assert torch.isfinite(loss)
            own = {id(parameter) for parameter in phase.parameters}
            for parameter in model.parameters():
                assert (parameter.grad is not None) == (id(parameter) in own)
            torch.optim.SGD(phase.parameters, lr=0.1).step()
            moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
            assert any(moved)

    def test_pair_scores_are_entries_of_the_full_ranking(self, built):
        config, _, model = built
        users = [3, 3, 1, 7, 1]
        items = [1, 5, 2, 9, 24]
        pairs = model.predict(interaction(config, users, items))
        full = model.full_sort_predict(interaction(config, users))
        torch.testing.assert_close(pairs, full[torch.arange(5), torch.as_tensor(items)])

    def test_a_batch_equals_row_by_row_and_again(self, built):
        config, _, model = built
        batch = model.full_sort_predict(interaction(config, [4, 2, 9]))
        rows = torch.cat([model.full_sort_predict(interaction(config, [user])) for user in (4, 2, 9)])
        torch.testing.assert_close(batch, rows)
        assert torch.equal(batch, model.full_sort_predict(interaction(config, [4, 2, 9])))

    def test_the_padding_item_is_never_recommended(self, built):
        config, splits, model = built
        scores = model.full_sort_predict(interaction(config, list(range(1, splits.train.user_num))))
        assert (scores[:, 0] == -torch.inf).all()
        assert torch.isfinite(scores[:, 1:]).all()

    def test_another_seed_gives_another_split_and_another_model(self, make_config):
        found = []
        for seed in (2020, 7):
            config, splits, model = untrained_model(make_config(self.model, seed=seed))
            found.append((splits.fingerprint(), model.eval().full_sort_predict(interaction(config, [1]))[:, 1:]))
        assert found[0][0] != found[1][0]
        assert not torch.equal(found[0][1], found[1][1])

    def test_it_runs_under_full_ranking_or_says_why_not(self, make_config):
        if self.implicit is None:
            with pytest.raises(OptionError, match="feedback"):
                run_one(make_config(self.model, protocol="full"))
            return
        record, _ = run_one(make_config(self.model, protocol="full", **self.implicit))
        assert 0 < record.test["recall@10"] <= record.reference["oracle"]["recall@10"]

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
            if epoch == 1:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "_after_epoch", dies)
            config = make_config(self.model, epochs=4, output_dir=str(unbroken.parent / "killed"))
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
        config = make_config(self.model, "board", epochs=self.epochs, refit=False, **self.settings)
        record, _ = run_one(config)
        assert record.skill["ratedndcg@5"] >= self.learns
