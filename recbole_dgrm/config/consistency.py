"""Checks of keys that must fit the model and each other."""

from collections.abc import Mapping
from typing import Any

from recbole.data.dataloader import UserDataLoader
from recbole.data.utils import get_dataloader
from recbole.utils import InputType

from recbole_dgrm.compat.config import Config
from recbole_dgrm.config.recbole_keys import idle, say_once
from recbole_dgrm.errors import OptionError
from recbole_dgrm.evaluation.metric_names import OVER_RATINGS
from recbole_dgrm.models import registry
from recbole_dgrm.options import RunOptions


def needed_columns(merged: Mapping[str, Any], run: RunOptions) -> list[str]:
    """The columns of the ratings that a run needs.

    Raises:
        OptionError: one of them has no name.
    """
    labeled = merged["eval_args"]["mode"] == "labeled"
    roles = ["USER_ID_FIELD", "ITEM_ID_FIELD"] + (["RATING_FIELD"] if labeled or run.feedback == "rating" else [])
    if merged["eval_args"]["order"] == "TO":
        roles.append("TIME_FIELD")
    if lacking := next((role for role in roles if merged[role] is None), None):
        raise OptionError(f"{lacking} is empty, but that column is needed; name it")
    return [merged[role] for role in roles]


def check_scores(model: str, keys: Mapping[str, Any]) -> None:
    """Refuse ``keys`` that hold the scores of a model for ratings, where they are none.

    Those of RecBole's models are none, and of ours with ``feedback: implicit``.

    Raises:
        OptionError: which key, and the remedy.
    """
    implicit = keys.get("feedback") == "implicit"
    if registry.declares_options(model) and not implicit:
        return
    scores = f"the scores of {model}{' with feedback=implicit' if implicit else ''} are no ratings"
    if keys.get("rated_filter") == "threshold":
        remedy = "say --rated_filter=none, or --protocol=rated instead of eq23"
        raise OptionError(f"rated_filter=threshold drops what is predicted below a rating, and {scores}; {remedy}")
    for metric in keys.get("metrics", []):
        if metric.lower() in OVER_RATINGS:
            raise OptionError(f"metrics: {metric} compares scores with ratings, and {scores}; leave it out")


def check_changed(config: Config) -> None:
    """Refuse keys that somebody has set to what is impossible, and note those that have no effect.

    RecBole would take an ``eval_step`` above ``epochs`` for ``epochs``, as with one that a model has by default.

    Raises:
        OptionError: what is wrong, the value, and the remedy.
    """
    given, changed, model = config.given, config.changed, config["model"]
    if "eval_step" in changed and given["eval_step"] > given["epochs"]:
        steps = f"eval_step={given['eval_step']} is above epochs={given['epochs']}"
        raise OptionError(f"{steps}, so no epoch would be validated; lower it")
    if "valid_metric_bigger" in changed and given["valid_metric_bigger"] != config["valid_metric_bigger"]:
        wrong = f"valid_metric_bigger={given['valid_metric_bigger']} is wrong for valid_metric={given['valid_metric']}"
        raise OptionError(f"{wrong}; leave it out, it follows from the metric")
    by_users = config["MODEL_INPUT_TYPE"] == InputType.LISTWISE or get_dataloader(config, "train") is UserDataLoader
    if given["train_batch_size"] == "auto" and not by_users:
        raise OptionError(f"train_batch_size=auto counts users, and {model} does not learn from users; give a number")
    if not given["shuffle"] and by_users:
        raise OptionError(f"shuffle=False: {model} learns from users in a random order; leave it out")
    if "train_neg_sample_args" in changed and config["train_neg_sample_args"]["distribution"] == "none":
        asked = given["train_neg_sample_args"]
        if registry.declares_options(model):
            say_once(idle("train_neg_sample_args", asked, f"{model} samples no negatives"))
        elif config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE:
            remedy = "say {distribution: uniform}"
            raise OptionError(f"train_neg_sample_args={asked}: {model} learns from items that are drawn; {remedy}")
