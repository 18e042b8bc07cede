"""RecBole's Config without ``eval``, the command line and guessing."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import recbole.config
import torch

from recbole_dgrm.options import RunOptions
from recbole_dgrm.system.yaml_files import load_yaml


class Config(recbole.config.Config):
    """RecBole's Config, built from checked keys and immutable: ``replaced`` makes another.

    It does not evaluate texts as code, does not read ``sys.argv``, reads YAML safely, and has one key for the device.

    Attributes:
        run: the typed keys that every run has.
        given: all keys as they were given, which can be written as YAML and read again.
        changed: the names of the keys that the user has changed.
    """

    def __init__(
        self,
        model: str,
        model_class: type,
        keys: dict[str, Any],
        run: RunOptions,
        given: dict[str, Any],
        changed: Iterable[str],
    ):
        self.run, self.given, self.changed = run, given, frozenset(changed)
        self._named = model, model_class, keys["dataset"]
        super().__init__(config_dict=keys)

    @property
    def predicts_ratings(self) -> bool:
        """Whether the model predicts ratings; RecBole's models do not."""
        return self.run.feedback == "rating" and hasattr(self.model_class, "Options")

    def replaced(self, **keys: Any) -> Self:
        """This config with other values of some keys, which are not checked."""
        other = copy.copy(self)
        other.final_config_dict = {**self.final_config_dict, **keys}
        other.run = copy.copy(self.run)  # not built again, because rules between keys are for the given keys
        vars(other.run).update({key: value for key, value in keys.items() if key in vars(self.run)})
        return other

    def writing_to(self, run_dir: Path) -> Self:
        """This config for a run that writes into ``run_dir``."""
        return self.replaced(checkpoint_dir=str(run_dir))

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError(f"a config cannot be changed; config.replaced({key}=...) makes another")

    def _get_model_and_dataset(self, model: None, dataset: None) -> tuple[str, type, str]:
        return self._named

    def _update_internal_config_dict(self, file: str) -> dict:
        content = load_yaml(Path(file).read_text(encoding="utf-8")) or {}
        self.internal_config_dict.update(content)
        return content

    def _set_default_parameters(self) -> None:
        # RecBole always uses its own copy of ml-100k; we use it only if the named folder has none.
        folder = self.final_config_dict["data_path"]
        self.final_config_dict["data_path"] = folder or "dataset"
        super()._set_default_parameters()
        theirs, own = Path(self.final_config_dict["data_path"]), Path(folder or "dataset") / self.dataset
        if folder and (own.is_dir() or not theirs.is_dir()):
            self.final_config_dict["data_path"] = str(own)

    def _load_cmd_line(self) -> dict:
        return {}  # the command line is parsed in cli/; RecBole would evaluate the arguments of any program

    def _convert_config_dict(self, config_dict: dict) -> dict:
        return config_dict  # our values are typed already

    def _init_device(self) -> None:
        # RecBole can only hide the GPU by an empty gpu_id, and changes the environment of the process.
        final = self.final_config_dict
        final.update(single_spec=True, local_rank=0, device=torch.device(final["device"]))
        final.update(use_gpu=final["device"].type == "cuda", enable_scaler=False, enable_amp=False)
