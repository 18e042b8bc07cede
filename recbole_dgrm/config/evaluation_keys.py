"""The keys that say how models are evaluated: ``eval_args``, ``metrics``, ``topk`` and ``valid_metric``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import NonNegativeFloat
from recbole.utils import EvaluatorType

from recbole_dgrm.config.recbole_keys import say_once
from recbole_dgrm.data.timeline import cuts_timeline
from recbole_dgrm.errors import OptionError
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.evaluation.selection import AUTO, candidates
from recbole_dgrm.options import check, check_known, read_part

PARTS = ("valid", "test")
RECBOLE_SPLIT = {"RS": [0.8, 0.1, 0.1]}  # where eval_args says none
EXAMPLE = "split: {RS: [0.8, 0.1, 0.1]} (train, valid, test) or split: {LS: valid_and_test}"


@dataclass(frozen=True)
class EvalArgs:
    """The keys of ``eval_args``; its ``mode`` ranks all items (``full``) or the rated ones (``labeled``)."""

    split: dict
    group_by: Literal["user", "none", "None"] | None
    order: Literal["RO", "TO"]
    mode: Literal["labeled", "full"]

    def __post_init__(self) -> None:
        if len(self.split) != 1:
            raise OptionError(f"split={self.split} must say one way: {EXAMPLE}")
        ((way, value),) = self.split.items()
        check_known("split: there is no", [way], ["RS", "LS", "TS"])
        if way == "LS":
            check("LS", value, Literal["valid_and_test"])
        elif not 2 <= len(check(way, value, list[NonNegativeFloat])) <= 3 or not sum(value):
            raise OptionError(f"{way}={value} must be three numbers: {EXAMPLE}")
        if way == "TS" and (self.order != "TO" or len(value) != 3):
            raise OptionError(f"TS={value} must be three numbers, and needs order: TO")


def eval_args(given: Any, names: list[str], parts: int | None) -> dict[str, Any]:
    """Complete ``eval_args``, with one ``mode`` for validation and test.

    Missing keys are as in RecBole, but the mode follows from the metrics.

    Args:
        given: the value of ``eval_args``.
        names: names of known metrics.
        parts: the number of files, if the split is given as files; of two, validation is cut from the first.

    Raises:
        OptionError: what is wrong, the value, and the remedy.
    """
    full = _rank_all(names)
    args = dict(check("eval_args", given, dict))
    if "split" not in args:
        say_once(f"eval_args={args} names no split: RecBole's {RECBOLE_SPLIT} is taken, not that of the protocol")
    if isinstance(mode := args.get("mode"), dict):
        check_known("eval_args: mode: there is no part", mode, PARTS)
        modes = list({str(part): part for part in mode.values()}.values())
        if len(modes) != 1:
            raise OptionError(f"eval_args: mode={mode} must be one for validation and test: labeled or full")
        args["mode"] = modes[0]
    rest = {"split": RECBOLE_SPLIT, "group_by": "user", "order": "RO", "mode": "full" if full else "labeled"}
    read = read_part("eval_args", EvalArgs, args, rest)
    if (read.mode == "full") != full:
        kind = "rank all items, which is mode: full" if full else "judge the rated items, which is mode: labeled"
        raise OptionError(f"eval_args: mode={read.mode} does not fit metrics={names}; they {kind}")
    _check_shares(read.split, parts)
    if parts and cuts_timeline(asdict(read)):
        raise OptionError(
            "eval_args: order=TO with group_by=none cuts the timeline, and benchmark_filename gives another split; say "
            "group_by: user, or --protocol=rated"
        )
    return {**args, **{key: value for key, value in asdict(read).items() if key not in args}}


def _check_shares(split: dict, parts: int | None) -> None:
    """Check that no part is empty; of a split that is given as files, only validation may have to be cut."""
    shares = split.get("RS") or split.get("TS") or [1, 1, 1]
    if parts == 2 and "RS" not in split:
        raise OptionError(
            f"eval_args: split={split} cannot cut validation from the first of two files (benchmark_filename); say RS"
        )
    cut = [] if parts == len(PARTS) + 1 else shares[:parts]
    if not all(cut) or (parts is None and len(shares) <= len(PARTS)):
        raise OptionError(f"eval_args: split={split} leaves a part of train, valid and test empty; say {EXAMPLE}")


def _rank_all(names: list[str]) -> bool:
    """Whether the metrics rank all items and not only the rated ones.

    Raises:
        OptionError: some do and some do not, or there is no such metric.
    """
    if not names:
        raise OptionError("metrics=[] is empty; name some, like [RatedNDCG, RMSE] or [NDCG, Recall]")
    known = recbole_metrics.names()
    check_known(
        "metrics: there is no", [name for name in names if name.lower() not in known], map(recbole_metrics.title, known)
    )
    ranking = [name for name in names if recbole_metrics.kind(name) == EvaluatorType.RANKING]
    if ranking and len(ranking) < len(names):
        others = [name for name in names if name not in ranking]
        raise OptionError(
            f"metrics that rank all items ({', '.join(ranking)}) and that judge the rated ones ({', '.join(others)}) "
            "cannot be mixed; keep one kind"
        )
    return bool(ranking)


def check_selection(merged: Mapping[str, Any]) -> None:
    """Check that ``valid_metric`` is computed, and that the metrics suit the ratings.

    Raises:
        OptionError: what is wrong, the value, and the remedy.
    """
    names, topk, chosen = merged["metrics"], merged["topk"], merged["valid_metric"]
    if merged["rm_dup_inter"] == "last" and cuts_timeline(merged["eval_args"]):
        raise OptionError("rm_dup_inter=last would let later ratings remove earlier ones, of training; say first")
    if not topk:
        raise OptionError("topk=[] is empty; name lengths of lists, like [5, 10]")
    computed = recbole_metrics.keys(names, topk) | ({AUTO} if candidates(names, topk) else set())
    if chosen.lower() not in computed:
        raise OptionError(
            f"valid_metric={chosen} is not computed; allowed: one of {', '.join(sorted(computed))} "
            f"from metrics={names} and topk={topk}"
        )
    judged = merged["eval_args"]["mode"] == "labeled" and merged["feedback"] == "implicit"
    if judged and merged["rating_threshold"] is None:
        raise OptionError(
            "rating_threshold must be set: with feedback=implicit nothing is taken from the ratings, "
            f"and metrics={names} need it; or say protocol=full"
        )
    binary = [name for name in names if name.lower() in ("auc", "logloss")]
    if binary and merged["rating_scale"] != [0, 1]:
        raise OptionError(
            f"metrics: {', '.join(binary)} is for labels of 0 and 1 and would take ratings for such; "
            "leave it out, or say rating_scale=[0, 1]"
        )
