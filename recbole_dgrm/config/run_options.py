"""Keys that every run has, whatever the model, with their types and ranges."""

from dataclasses import dataclass
from typing import Annotated

from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import RATINGS, SEEDS, Choice, Filled, Range, check_name


@dataclass(frozen=True)
class RunOptions:
    """Keys that every run has, whatever the model; each is explained in ``properties/``."""

    protocol: str
    seed: Annotated[int, SEEDS]
    device: Annotated[str, Choice("auto", "cpu", "cuda")]
    data_path: Annotated[str | None, Filled()]
    output_dir: Annotated[str, Filled()]
    checkpoint_interval: Annotated[float, Range(0)]
    diagnose_every: Annotated[int, Range(0)]
    benchmark_filename: list[str] | None
    encoding: Annotated[str, Filled()]
    rating_scale: Annotated[list[float] | None, RATINGS]
    rating_step: Annotated[float | None, Range(0, above=True)]
    rating_threshold: Annotated[float | None, RATINGS]
    bias_shrinkage: Annotated[float, Range(0)]
    epochs: Annotated[int, Range(1)]
    eval_step: Annotated[int, Range(1)]
    stopping_step: Annotated[int, Range(0)]
    precision: Annotated[str, Choice("float32", "bfloat16")]
    compile: bool
    refit: bool
    train_batch_size: Annotated[int, Range(1)]
    eval_batch_size: Annotated[int, Range(1)]
    learner: Annotated[
        str, Choice("adam", "adamw", "sgd", "adagrad", "rmsprop")
    ]  # not sparse_adam: no gradient is sparse
    weight_decay: Annotated[float, Range(0)]
    topk: Annotated[list[int], Range(1)]
    metrics: list[str]
    valid_metric: str
    feedback: Annotated[str, Choice("rating", "implicit")]
    split_rounding: Annotated[str, Choice("up", "down")]
    rated_ties: Annotated[str, Choice("expected", "item_order")]
    rated_filter: Annotated[str, Choice("none", "threshold")]
    rated_denominator: Annotated[str, Choice("n", "relevant")]

    def __post_init__(self) -> None:
        parts = self.benchmark_filename
        for part in parts or []:
            check_name("benchmark_filename", part)
        if parts is not None and not 2 <= len(set(parts)) == len(parts) <= 3:
            raise OptionError(f"benchmark_filename={parts} must name [train, test] or three parts, each once")
        scale = self.rating_scale
        if scale is not None and not (len(scale) == 2 and scale[0] < scale[1]):
            raise OptionError(f"rating_scale={scale} must be [lowest, highest] with lowest < highest")
