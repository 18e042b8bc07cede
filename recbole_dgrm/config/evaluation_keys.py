"""The keys of data and evaluation, and the checks that they fit the model and each other."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import NonNegativeFloat
from recbole.data.dataloader import UserDataLoader
from recbole.data.utils import get_dataloader
from recbole.utils import EvaluatorType, InputType

from recbole_dgrm.compat.config import Config
from recbole_dgrm.config.recbole_keys import log_once
from recbole_dgrm.data.timeline import cuts_timeline
from recbole_dgrm.errors import OptionError
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.evaluation.metric_names import AUTO, OVER_RATINGS, candidates
from recbole_dgrm.options import RunOptions, check, check_known, read_part

RECBOLE_SPLIT = {"RS": [0.8, 0.1, 0.1]}  # if eval_args has no split
EXAMPLE = "split: {RS: [0.8, 0.1, 0.1]} (train, valid, test) or split: {LS: valid_and_test}"


@dataclass(frozen=True)
class EvalArgs:
    """The keys of ``eval_args``; its ``mode`` ranks all items (``full``) or the rated ones (``labeled``)."""

    split: dict
    group_by: Literal["user", "none", "None"] | None
    order: Literal["RO", "TO"]
    mode: Literal["labeled", "full"]

    def __post_init__(self) -> None:
        check_known("split: there is no", self.split, ["RS", "LS", "TS"])
        if len(self.split) != 1:
            raise OptionError(f"split={self.split} must have exactly one key: {EXAMPLE}")
        ((way, value),) = self.split.items()
        if way == "LS":
            check("LS", value, Literal["valid_and_test"])
        elif len(check(way, value, list[NonNegativeFloat])) not in (2, 3):
            raise OptionError(f"{way}={value} must be three numbers: {EXAMPLE}")
        if way == "TS" and (self.order != "TO" or len(value) != 3):
            raise OptionError(f"TS={value} must be three numbers, and needs order: TO")


def eval_args(given: Any, names: list[str], parts: int | None) -> dict[str, Any]:
    """Complete ``eval_args``, with one ``mode`` for validation and test.

    Missing keys have RecBole's defaults, except that the mode follows from the metrics ``names``. ``parts`` is the
    number of files if the split is given as files, else None; with two files, validation is split from the first.
    """
    full = _rank_all(names)
    args = dict(check("eval_args", given, dict))
    if "split" not in args:
        log_once(f"eval_args={args} has no split, so RecBole's {RECBOLE_SPLIT} is used, not that of the protocol")
    if isinstance(mode := args.get("mode"), dict):
        if len(modes := set(mode.values())) != 1 or not set(mode) <= {"valid", "test"}:
            raise OptionError(f"eval_args: mode={mode} must be the same for validation and test: labeled or full")
        args["mode"] = modes.pop()
    rest = {"split": RECBOLE_SPLIT, "group_by": "user", "order": "RO", "mode": "full" if full else "labeled"}
    read = read_part("eval_args", EvalArgs, args, rest)
    if (read.mode == "full") != full:
        kind = "rank all items, which is mode: full" if full else "evaluate rated items, which is mode: labeled"
        raise OptionError(f"eval_args: mode={read.mode} does not fit metrics={names}; they {kind}")
    _check_shares(read.split, parts)
    if parts and cuts_timeline(asdict(read)):
        raise OptionError(
            "eval_args: order=TO with group_by=none is a temporal split, and benchmark_filename is another split; set "
            "group_by: user, or --protocol=rated"
        )
    return {**args, **{key: value for key, value in asdict(read).items() if key not in args}}


def _check_shares(split: dict, parts: int | None) -> None:
    """Check that no part is empty; if the split is given as files, at most validation is split off."""
    shares = split.get("RS") or split.get("TS") or [1, 1, 1]
    if parts == 2 and "RS" not in split:
        raise OptionError(
            f"eval_args: split={split} cannot split validation from the first of two files (benchmark_filename); use RS"
        )
    wanted = {None: 3, 2: 2, 3: 0}[parts]  # the number of parts that need a share
    if len(shares) < wanted or not all(shares[:wanted]):
        raise OptionError(f"eval_args: split={split} leaves a part of train, valid and test empty; use {EXAMPLE}")


def _rank_all(names: list[str]) -> bool:
    """Whether the metrics rank all items and not only the rated ones."""
    if not names:
        raise OptionError("metrics=[] is empty; name some, like [RatedNDCG, RMSE] or [NDCG, Recall]")
    known = recbole_metrics.names()
    unknown = [name for name in names if name.lower() not in known]
    check_known("metrics: there is no", unknown, map(recbole_metrics.title, known))
    ranking = [name for name in names if recbole_metrics.kind(name) == EvaluatorType.RANKING]
    if ranking and len(ranking) < len(names):
        others = [name for name in names if name not in ranking]
        raise OptionError(
            f"metrics that rank all items ({', '.join(ranking)}) and metrics of rated items ({', '.join(others)}) "
            "cannot be mixed; keep one kind"
        )
    return bool(ranking)


def needed_columns(merged: Mapping[str, Any], run: RunOptions) -> list[str]:
    """The columns of the ratings that a run needs."""
    labeled = merged["eval_args"]["mode"] == "labeled"
    roles = ["USER_ID_FIELD", "ITEM_ID_FIELD"] + (["RATING_FIELD"] if labeled or run.feedback == "rating" else [])
    roles += ["TIME_FIELD"] if merged["eval_args"]["order"] == "TO" else []
    if lacking := next((role for role in roles if merged[role] is None), None):
        raise OptionError(f"{lacking} is empty, but the column is needed; name it")
    return [merged[role] for role in roles]


def check_selection(merged: Mapping[str, Any]) -> None:
    """Check that ``valid_metric`` is computed, and that the metrics fit the ratings."""
    names, topk, chosen = merged["metrics"], merged["topk"], merged["valid_metric"]
    if merged["rm_dup_inter"] == "last" and cuts_timeline(merged["eval_args"]):
        raise OptionError("rm_dup_inter=last would let later ratings remove earlier ones of training; use first")
    if not topk:
        raise OptionError("topk=[] is empty; name lengths of lists, like [5, 10]")
    computed = recbole_metrics.keys(names, topk) | ({AUTO} if candidates(names, topk) else set())
    if chosen.lower() not in computed:
        raise OptionError(
            f"valid_metric={chosen} is not computed; allowed: one of {', '.join(sorted(computed))} "
            f"from metrics={names} and topk={topk}"
        )
    without_scale = merged["eval_args"]["mode"] == "labeled" and merged["feedback"] == "implicit"
    if without_scale and merged["rating_threshold"] is None:
        raise OptionError(
            "rating_threshold must be set: with feedback=implicit it is not taken from the ratings, "
            f"and metrics={names} need it; or use protocol=full"
        )
    binary = [name for name in names if name.lower() in ("auc", "logloss")]
    if binary and merged["rating_scale"] != [0, 1]:
        raise OptionError(
            f"metrics: {', '.join(binary)} is for labels of 0 and 1, not for ratings; "
            "leave it out, or set rating_scale=[0, 1]"
        )


def check_scores(model: type, keys: Mapping[str, Any]) -> None:
    """Check that no key treats the scores of a model as ratings if they are not.

    The scores of RecBole's models are not ratings, nor are those of our models with ``feedback: implicit``.
    """
    implicit = keys.get("feedback") == "implicit"
    if hasattr(model, "Options") and not implicit:
        return
    scores = f"the scores of {model.__name__}{' with feedback=implicit' if implicit else ''} are not ratings"
    if keys.get("rated_filter") == "threshold":
        remedy = "use --rated_filter=none, or --protocol=rated instead of eq23"
        raise OptionError(f"rated_filter=threshold drops predictions below a rating, and {scores}; {remedy}")
    for metric in keys.get("metrics", []):
        if metric.lower() in OVER_RATINGS:
            raise OptionError(f"metrics: {metric} compares scores with ratings, and {scores}; leave it out")


def check_changed(config: Config) -> None:
    """Check keys that the user has changed from their defaults and that are impossible in this run.

    An ``eval_step`` above ``epochs`` is only an error if the user has set it: RecBole treats it as ``epochs``.
    """
    given, changed, model = config.given, config.changed, config["model"]
    if "eval_step" in changed and given["eval_step"] > given["epochs"]:
        steps = f"eval_step={given['eval_step']} is above epochs={given['epochs']}"
        raise OptionError(f"{steps}, so no epoch would be validated; lower it")
    if "valid_metric_bigger" in changed and given["valid_metric_bigger"] != config["valid_metric_bigger"]:
        wrong = f"valid_metric_bigger={given['valid_metric_bigger']} is wrong for valid_metric={given['valid_metric']}"
        raise OptionError(f"{wrong}; leave it out, because it follows from the metric")
    by_users = config["MODEL_INPUT_TYPE"] == InputType.LISTWISE or get_dataloader(config, "train") is UserDataLoader
    if given["train_batch_size"] == "auto" and not by_users:
        raise OptionError(f"train_batch_size=auto is for batches of users, which {model} does not have; give a number")
    if not given["shuffle"] and by_users:
        raise OptionError(f"shuffle=False: {model} is always trained on users in random order; leave it out")
    sampling = given["train_neg_sample_args"]
    if "train_neg_sample_args" in changed and config["train_neg_sample_args"]["distribution"] == "none":
        if hasattr(config.model_class, "Options"):
            log_once(f"train_neg_sample_args={sampling} has no effect: {model} samples no negatives")
        elif config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE:
            remedy = "use {distribution: uniform}"
            raise OptionError(f"train_neg_sample_args={sampling}: {model} needs sampled negatives; {remedy}")
