"""The parts of a data set, which are the same for every model with the same seed."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.data.dataset import Dataset

from recbole_dgrm.data.dataset import RatingDataset
from recbole_dgrm.data.parts import by_code
from recbole_dgrm.data.rating_scale import RatingScale
from recbole_dgrm.data.timeline import cuts_timeline
from recbole_dgrm.errors import DataError
from recbole_dgrm.maths.biases import Biases, fit_biases
from recbole_dgrm.system.turns import turn

PARTS = ("train", "valid", "test")


@dataclass
class Splits:
    """The parts of one data set; ``scale`` and ``notes`` are those of ``RatingDataset``."""

    train: Dataset
    valid: Dataset
    known: Dataset  # training + validation, for the refit
    test: Dataset | None  # None if it was not requested
    scale: RatingScale | None = None
    notes: list[str] = field(default_factory=list)

    def triples(self, part: str) -> tuple[NDArray, NDArray, NDArray]:
        """The users, items and ratings of a part, each ``(n,)``; ratings are 1 if the data has none."""
        dataset = getattr(self, part)
        inter, name = dataset.inter_feat, dataset.config["RATING_FIELD"]
        user, item = inter[dataset.uid_field].numpy(), inter[dataset.iid_field].numpy()
        return user, item, inter[name].double().numpy() if name in inter.columns else np.ones(len(user))

    def fingerprint(self) -> str:
        """Hash of the pairs and ratings of each part; the order of rows does not matter."""
        digest = hashlib.sha256()
        for part in self._parts():
            dataset = getattr(self, part)
            user, item, rating = self.triples(part)
            order = by_code(item, dataset.item_num)
            order = order[by_code(user[order], dataset.user_num)]
            for values in (user, item, rating):
                digest.update(values[order].data)
            digest.update(part.encode())
        return digest.hexdigest()[:16]

    def described(self) -> dict[str, Any]:
        """Fingerprint, sizes, notes and scale, as in a run's record."""
        scale = self.scale and asdict(self.scale)
        return {"fingerprint": self.fingerprint(), **self.sizes(), "notes": self.notes, "scale": scale}

    def sizes(self) -> dict[str, int]:
        """The numbers of users and items without the padding, and of ratings in each part."""
        return {
            "n_users": self.train.user_num - 1,
            "n_items": self.train.item_num - 1,
            **{f"n_{part}": len(getattr(self, part)) for part in self._parts()},
        }

    def _parts(self) -> list[str]:
        return [part for part in PARTS if getattr(self, part) is not None]


@turn()
def build_splits(config, with_test: bool = True, dataset: RatingDataset | None = None) -> Splits:
    """Read, check and split the data set of ``config``; the split depends only on the seed.

    Args:
        with_test: if false, the test part is dropped after splitting, and a test file is not opened.
        dataset: the data set of ``config``, if it has been read already.

    Raises:
        DataError: the input cannot be used.
    """
    if not with_test and (files := config.run.benchmark_filename):
        config = config.replaced(benchmark_filename=files[:-1])
    dataset = dataset or RatingDataset(config)
    parts = dict(zip(PARTS, dataset.build(with_test), strict=False))
    for name, part in parts.items():
        if len(part) == 0:
            why = f"too few ratings for the split {config['eval_args']['split']}"
            if cuts_timeline(config["eval_args"]):
                why = "each of its ratings has a user or an item without training ratings; use other shares"
            raise DataError(f"the {name} part of {config['dataset']} is empty: {why}")
    known = dataset.copy(dataset.inter_feat.rows(slice(len(parts["train"]) + len(parts["valid"]))))
    if test := parts.get("test"):
        _note_test(dataset, known, test)
    return Splits(parts["train"], parts["valid"], known, test, dataset.scale, dataset.notes)


def _note_test(dataset: RatingDataset, known: Dataset, test: Dataset) -> None:
    """Note the number of users without test items, and of test users and items without training ratings."""
    tested, learnt = test.inter_feat.numpy(), known.inter_feat.numpy()
    if without := int((np.bincount(tested[dataset.uid_field], minlength=dataset.user_num)[1:] == 0).sum()):
        dataset.note(f"{without} users have no test items and are not evaluated")
    for name, kind in [(dataset.uid_field, "users"), (dataset.iid_field, "items")]:
        is_new = np.ones(dataset.num(name), bool)
        is_new[learnt[name]] = False
        if (new := is_new[tested[name]]).any():
            number = f"{len(np.unique(tested[name][new])):,} {kind}"
            share = f"{int(new.sum()):,} of its {len(test):,} ratings"
            dataset.note(f"{number} of the test part, with {share}, have no rating in training")


def training_part(config) -> str:
    """The part of the splits that a tested model was trained on."""
    return "known" if config.run.refit else "train"


def user_item_means(config, splits: Splits, part: str) -> Biases:
    """The means of users and items that a part of the splits has."""
    size = splits.train.user_num, splits.train.item_num
    return fit_biases(*splits.triples(part), *size, config.run.bias_shrinkage)
