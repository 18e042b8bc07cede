"""The network of a finished run as ONNX, for programs without Python: ratings in, scores out.

Only where a score is a function of the profile: the model has ``score_ratings``. Where it depends on noise that belongs
to a user, or is solved from the ratings, no graph says what ``recommend`` says, and none is written.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recbole_dgrm.errors import OptionError, UnknownModel
from recbole_dgrm.models import registry
from recbole_dgrm.runs.export import CONTENTS, check_new, contents
from recbole_dgrm.runs.recommender import Recommender
from recbole_dgrm.system.files import write_folder, write_json
from recbole_dgrm.system.turns import turn

GRAPH = "model.onnx"
NEEDED = ("onnx", "onnxscript")  # torch writes the graph with them
OPSET = 18


class _Scores(nn.Module):
    """The model as a function of ratings alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ratings: Tensor, rated: Tensor) -> Tensor:
        """Maps ``(B, I)`` ratings, and 1 where there is one, to ``(B, I)`` scores."""
        return self.model.score_ratings(rated if self.model.implicit else ratings, rated)


@turn()
def export_onnx(run: Recommender, folder: Path) -> Path:
    """Write ``model.onnx`` and ``config.json`` of a ``TrainedRun`` into a new ``folder``, all or nothing.

    The inputs ``ratings`` and ``rated`` and the output ``scores`` are float32, ``(B, I)``; column ``j`` is the item
    ``items[j + 1]`` of ``config.json``. The scores are those of users who were not there in training, as
    ``with_ratings`` gives them; what they have rated is not left out.

    Returns:
        The file of the graph.

    Raises:
        OptionError: the folder exists, or a library is missing.
        UnknownModel: the scores of the model are no function of the ratings.
    """
    check_new(folder)
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise OptionError(f"--format=onnx needs {missing[0]}, which is not installed: pip install 'recbole-dgrm[onnx]'")
    if not hasattr(run.model, "score_ratings"):
        able = ", ".join(name for name, model in registry.MODELS.items() if hasattr(model, "score_ratings"))
        raise UnknownModel(
            f"{run.config['model']} cannot be written as ONNX: its scores are no function of the ratings alone; {able} "
            "can, and --format=safetensors has the weights of every model"
        )
    n_items = len(run.items)
    model = _Scores(run.model.with_profiles(csr_matrix((2, n_items), dtype=float)).cpu().eval()).eval()
    example = torch.zeros(2, n_items - 1), torch.zeros(2, n_items - 1)
    batch = torch.export.Dim("batch")

    def write(partial: Path) -> None:
        with torch.no_grad():
            torch.onnx.export(
                model,
                example,
                partial / GRAPH,
                input_names=["ratings", "rated"],
                output_names=["scores"],
                dynamic_shapes=({0: batch}, {0: batch}),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        write_json(partial / CONTENTS, contents(run) | {"users": []})

    write_folder(folder, write)
    return folder / GRAPH
