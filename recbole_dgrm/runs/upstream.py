"""Errors of RecBole's models as sentences for the user; these models check few of their keys themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole_dgrm import errors
from recbole_dgrm.errors import OptionError, TrainingDiverged, UnknownModel, UserError
from recbole_dgrm.models import registry
from recbole_dgrm.records import WHERE

NAN_LOSS = "Training loss is nan"  # what RecBole says
NOT_TO_BLAME = (*WHERE, "model", "dataset", "protocol", "seed", "epochs", "device", "refit", "load_col", "metrics")


@contextmanager
def explained(config: Any) -> Iterator[None]:
    """Within the block, an error of a model of RecBole becomes a sentence; errors of our own models stay as they are.

    Raises:
        UnknownModel: a library is missing; some of RecBole's models import theirs in the middle of the training.
        TrainingDiverged: the loss became NaN.
        OptionError: any other error, with the keys that the user has set.
    """
    model = config["model"]
    try:
        with errors.explained():
            yield
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UnknownModel(f"{model} needs the library {error.name}, which is not installed") from error
    except Exception as error:
        if model in registry.MODELS or registry.is_external(model):
            raise
        if NAN_LOSS in str(error):
            rate = config["learning_rate"]
            raise TrainingDiverged(f"{model}: the training loss became nan; lower learning_rate={rate}") from error
        reason = next(iter(str(error).strip().splitlines()), "no reason given")
        changed = [f"{key}={config.given[key]}" for key in sorted(config.changed) if key not in NOT_TO_BLAME]
        remedy = f"look at {', '.join(changed)}" if changed else "no key was changed; another model may take these data"
        raise OptionError(f"{model} of RecBole stops with {type(error).__name__}: {reason}; {remedy}") from error
