"""A model as ONNX gives the scores that it gives here to users who were not there in training."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from helpers import random_ratings
from scipy.sparse import csr_matrix

import recbole_dgrm as rd
from recbole_dgrm.cli import main
from recbole_dgrm.errors import OptionError, UnknownModel
from recbole_dgrm.runs import export_onnx

CASES = [("ICDAE", {}), ("ICDAE", {"center": "none", "activity_exponent": 0.5}), ("CFGAN", {})]


def new_users(n_items: int) -> csr_matrix:
    """Five users, of whom the first has no ratings, behind the padding."""
    rng = np.random.default_rng(3)
    ratings = rng.integers(1, 6, (6, n_items)) * (rng.random((6, n_items)) < 0.4)
    ratings[:2], ratings[:, 0] = 0, 0
    return csr_matrix(ratings.astype(float))


@pytest.mark.parametrize(("model", "keys"), [*CASES, ("ICDAE", {"protocol": "full"})])
def test_scores_of_ratings_are_those_of_profiles(make_model, model, keys):
    _, _, trained = make_model(model, "noise", **keys)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    matrix = new_users(trained.n_items)
    other = trained.with_profiles(matrix).eval()
    ratings = torch.as_tensor(matrix.toarray()[1:, 1:], dtype=torch.float32)
    rated = (ratings > 0).float()
    scores = export_onnx._Scores(other)(ratings, rated).detach()
    torch.testing.assert_close(scores, other.score_profiles(torch.arange(1, 6)), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not all(map(find_spec, (*export_onnx.NEEDED, "onnxruntime"))), reason="an extra")
@pytest.mark.parametrize(("model", "keys"), CASES)
def test_the_graph_gives_the_scores_of_recommend(ratings_path, tmp_path, model, keys):
    import onnxruntime

    places = {"data_path": str(ratings_path), "output_dir": str(tmp_path / "runs"), "device": "cpu"}
    run = rd.train(model, "noise", epochs=2, **places, **keys)
    (path,) = (tmp_path / "runs").iterdir()
    assert main.main(["export", f"--run={path}", f"--output={tmp_path / 'graph'}", "--format=onnx"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "graph" / "model.onnx")
    items = json.loads((tmp_path / "graph" / "config.json").read_text())["items"][1:]
    given = random_ratings(n_users=3, seed=5).astype({"user_id": str, "item_id": str})
    table = given.pivot(index="user_id", columns="item_id", values="rating").reindex(columns=items)
    inputs = {"ratings": table.fillna(0).to_numpy(np.float32), "rated": table.notna().to_numpy(np.float32)}
    (scores,) = session.run(["scores"], inputs)
    lists = run.with_ratings(given).recommend(table.index, topk=len(items), exclude="none")
    ours = lists.pivot(index="user", columns="item", values="score").loc[table.index, items]
    np.testing.assert_allclose(scores, ours, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_written_is_said(ratings_path, tmp_path, monkeypatch):
    places = {"data_path": str(ratings_path), "output_dir": str(tmp_path / "runs"), "device": "cpu"}
    run = rd.train("MF", "noise", epochs=1, **places)
    monkeypatch.setattr(export_onnx, "NEEDED", ())
    with pytest.raises(UnknownModel, match=r"MF cannot be written as ONNX: .* ICDAE, CFGAN can"):
        export_onnx.export_onnx(run, tmp_path / "graph")
    monkeypatch.setattr(export_onnx, "NEEDED", ("no_such_library",))
    with pytest.raises(OptionError, match="needs no_such_library, which is not installed"):
        export_onnx.export_onnx(run, tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
