"""RecBole's own code on today's libraries."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import recbole.config
import torch
from recbole.data.dataset import Dataset
from sklearn import metrics

from recbole_dgrm import plugin
from recbole_dgrm.compat import repairs
from recbole_dgrm.compat.repairs import prepare
from recbole_dgrm.data.dataset import RatingDataset


@pytest.fixture
def features(tmp_path, monkeypatch):
    """A data set whose users and items lack some of their features."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    monkeypatch.setattr(recbole.config.Config, "__init__", recbole.config.Config.__init__)
    plugin.register()
    folder = tmp_path / "few"
    folder.mkdir()
    pairs = "".join(f"u{n % 4}\ti{n * n % 5}\t{n % 5 + 1}\n" for n in range(40))
    (folder / "few.inter").write_text(f"user_id:token\titem_id:token\trating:float\n{pairs}")
    head = "user_id:token\tage:float\tjob:token\ttags:token_seq\tplace:float_seq\n"
    (folder / "few.user").write_text(f"{head}u0\t3\ta\tx y\t1 2\nu1\t\t\t\t\nu2\t5\tb\ty\t3\nu3\t1\ta\tz\t\n")
    return {"data_path": str(tmp_path), "dataset": "few", "load_col": None}


@pytest.mark.parametrize("model", ["BPR", "MF"])
def test_missing_features_are_filled(features, model):
    config = recbole.config.Config(model=model, config_dict=features)
    dataset = (Dataset if model == "BPR" else RatingDataset)(config)
    users = dataset.build()[0].user_feat
    assert [list(dataset.field2id_token[name]) for name in ("user_id", "job", "tags")] == [
        ["[PAD]", "u0", "u1", "u2", "u3"],
        ["[PAD]", "a", "b"],
        ["[PAD]", "x", "y", "z"],
    ]
    assert users["age"].tolist() == [3, 3, 3, 5, 1]  # the padding and u1 get the mean
    assert users["job"].tolist() == [0, 1, 0, 2, 1]
    assert users["tags"].tolist() == [[0, 0], [1, 2], [0, 0], [2, 0], [3, 0]]
    assert users["place"].tolist() == [[0, 0], [1, 2], [0, 0], [3, 0], [0, 0]]
    assert users["age"].dtype == torch.float32


def test_features_in_sequences_can_be_normalised(features):
    config = recbole.config.Config(model="BPR", config_dict=features | {"normalize_field": ["place"]})
    assert Dataset(config).build()[0].user_feat["place"].tolist() == [[0, 0], [0, 0.5], [0, 0], [1, 0], [0, 0]]


def test_a_column_outside_of_recbole_has_pandas_own_agg():
    prepare()
    assert pd.Series([1.0, 2.0]).agg("sum") == 3


def test_the_removed_numpy_and_scipy_names_are_back():
    from scipy.sparse import dok_matrix

    prepare()
    assert np.float is np.float64
    matrix = dok_matrix((2, 2))
    matrix._update({(0, 1): 3.0})
    assert matrix.tocsr()[0, 1] == 3.0


@pytest.mark.slow
def test_no_warning_of_another_library_ends_a_command(ratings_path, tmp_path):
    where = [f"--data_path={ratings_path}", f"--output_dir={tmp_path}", "--epochs=1", "--device=cpu"]
    commands = [["--model=MF", "--dataset=noise", *where], ["report", str(tmp_path)]]
    code = f"from recbole_dgrm.cli.main import main\nfor command in {commands}:\n    assert main(command) == 0"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["mean_squared_error", "mean_absolute_error"])
def test_errors_are_those_of_scikit_learn_in_every_digit(name, kind):
    rng = np.random.default_rng(0)
    for size in (1, 7, 20_381):
        given, predicted = rng.integers(1, 6, size).astype(kind), rng.normal(3, 1, size).astype(np.float32)
        assert getattr(repairs, name)(given, predicted) == getattr(metrics, name)(given, predicted)


@pytest.mark.parametrize("name", repairs.OPTIMIZERS)
def test_an_optimizer_without_the_compiler_is_torchs_in_every_digit(name):
    ends = []
    for optimizer in (getattr(torch.optim, name), repairs.without_compiler(getattr(torch.optim, name))):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(4))]
        made = optimizer(weights, lr=0.1, weight_decay=0.01)
        for _ in range(4):
            made.zero_grad()
            (weights[0].square().sum() + weights[1].sin().sum()).backward()
            made.step()
            made.load_state_dict(made.state_dict())
        ends.append(torch.cat([weight.detach().flatten() for weight in weights]))
    assert torch.equal(*ends)
