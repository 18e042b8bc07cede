"""Models of other libraries: how each is trained, and where its hyper-parameters are searched. ``peers.py`` calls it.

    python measurements/peers_models.py MODEL --train=CSV [--train=CSV] --predict=CSV --output=CSV [--trials=15]

runs in the environment of a library, with numpy, pandas and scipy beside it and without RecBole, on one thread. With
``--trials`` it searches: random settings from a seed, each trained once and scored on ``--predict`` (the validation
part) by RMSE, which is what all of these models minimise; without, it trains once with ``--settings`` and predicts. A
prediction is clipped to the scale, as these libraries do by themselves. Both write the seconds of the processor.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

Settings = dict[str, Any]
Fit = Callable[[pd.DataFrame, pd.DataFrame, Settings, int], np.ndarray]


def surprise_svd(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> np.ndarray:
    """Surprise's SVD: biased matrix factorization by stochastic gradient descent."""
    from surprise import SVD

    return _surprise(SVD(random_state=seed, **settings), train, pairs)


def surprise_svdpp(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> np.ndarray:
    """Surprise's SVD++, which adds to a user's factors those of the items that were rated."""
    from surprise import SVDpp

    return _surprise(SVDpp(random_state=seed, cache_ratings=True, **settings), train, pairs)


def surprise_knn(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> np.ndarray:
    """Surprise's KNNBaseline: the neighbours' deviations from biases, by shrunk Pearson correlation."""
    from surprise import KNNBaseline

    similar = {"name": "pearson_baseline", "user_based": settings["user_based"], "shrinkage": settings["shrinkage"]}
    model = KNNBaseline(k=settings["k"], min_k=settings["min_k"], sim_options=similar, verbose=False)
    return _surprise(model, train, pairs)


def _surprise(model: Any, train: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    from surprise import Dataset, Reader

    scale = Reader(rating_scale=(train["rating"].min(), train["rating"].max()))
    model.fit(Dataset.load_from_df(train[["user", "item", "rating"]], scale).build_full_trainset())
    return np.array([model.predict(user, item).est for user, item in pairs[["user", "item"]].itertuples(index=False)])


def cornac_mf(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> np.ndarray:
    """Cornac's MF: biased matrix factorization by stochastic gradient descent."""
    from cornac.models import MF

    return _cornac(MF(seed=seed, num_threads=1, **settings), train, pairs)


def _cornac(model: Any, train: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Pairs with a user or an item that the training does not know get the mean, as Cornac's own evaluation has it."""
    from cornac.data import Dataset

    data = Dataset.from_uir(train[["user", "item", "rating"]].itertuples(index=False, name=None), seed=0)
    model.fit(data)
    predicted = np.full(len(pairs), data.global_mean)
    for row, (user, item) in enumerate(pairs[["user", "item"]].itertuples(index=False)):
        if user in data.uid_map and item in data.iid_map:
            predicted[row] = model.rate(data.uid_map[user], data.iid_map[item])
    return predicted


def lenskit_als(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> np.ndarray:
    """LensKit's BiasedMFScorer: alternating least squares on what damped biases leave."""
    from lenskit.als import BiasedMFScorer

    own = {key: settings[key] for key in ("embedding_size", "epochs", "regularization")}
    return _lenskit(BiasedMFScorer(damping=_damping(settings), **own), train, pairs, seed)


def _damping(settings: Settings) -> dict[str, float]:
    return {side: settings[f"{side}_damping"] for side in ("user", "item")}


def _lenskit(scorer: Any, train: pd.DataFrame, pairs: pd.DataFrame, seed: int) -> np.ndarray:
    """What the model cannot predict is a bias, as in LensKit's own pipeline for predictions."""
    from lenskit.batch import predict
    from lenskit.data import from_interactions_df
    from lenskit.pipeline import predict_pipeline
    from lenskit.training import TrainingOptions

    names = {"user": "user_id", "item": "item_id"}
    whole = predict_pipeline(scorer)
    data = from_interactions_df(train[["user", "item", "rating"]].rename(columns=names))
    whole.train(data, TrainingOptions(rng=seed, device="cpu"))
    found = predict(whole, pairs[["user", "item"]].rename(columns=names), n_jobs=1).to_df()
    score = found.set_index(["user_id", "item_id"])["score"]
    return score.loc[pd.MultiIndex.from_frame(pairs[["user", "item"]])].to_numpy()


def myfm_svdpp(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> np.ndarray:
    """myFM's "SVD++ flipped": who rated what, too, as sets of a user's items and of an item's users, each normed."""
    from myfm import RelationBlock
    from scipy import sparse

    (users, items), codes = _codes(train, pairs)
    n_users, n_items = len(users), len(items)
    (user, item), rest = codes
    rated = sparse.csr_matrix((np.ones(len(user)), (user, item)), (n_users, n_items))
    blocks = []
    for size, sets in ((n_users, rated), (n_items, rated.T.tocsr())):
        norm = sparse.diags(1 / np.sqrt(np.maximum(np.diff(sets.indptr), 1)))
        blocks.append(sparse.hstack([sparse.identity(size), norm @ sets], format="csr"))
    relations = [
        [RelationBlock(codes.tolist(), block) for codes, block in zip(sides, blocks, strict=True)]
        for sides in ((user, item), rest)
    ]
    empty = tuple(sparse.csr_matrix((len(part), 0)) for part in (train, pairs))
    return _myfm(train, settings, seed, empty, relations, [n_users, n_items, n_items, n_users])


def _codes(train: pd.DataFrame, pairs: pd.DataFrame) -> tuple[tuple[Any, Any], tuple[tuple[Any, Any], ...]]:
    """The names of users and items, and the codes of both in ``train`` and in ``pairs``."""
    names = [pd.Index(pd.concat([train[side], pairs[side]]).unique()) for side in ("user", "item")]
    codes = [
        tuple(name.get_indexer(part[side]) for name, side in zip(names, ("user", "item"), strict=True))
        for part in (train, pairs)
    ]
    return tuple(names), tuple(codes)


def _myfm(
    train: pd.DataFrame, settings: Settings, seed: int, features: Any, relations: Any, groups: list[int]
) -> np.ndarray:
    from myfm import MyFMRegressor

    rating, n = train["rating"].to_numpy(float), settings["n_iter"]
    model = MyFMRegressor(rank=settings["rank"], random_seed=seed)
    model.fit(features[0], rating, X_rel=relations[0], n_iter=n, n_kept_samples=n - 20, group_shapes=groups)
    return model.predict(features[1], X_rel=relations[1])


def log_range(low: float, high: float) -> Callable[[np.random.Generator], float]:
    """Numbers that are even on a logarithmic scale, with three digits."""
    return lambda rng: float(f"{exp(rng.uniform(log(low), log(high))):.3g}")


def whole(low: int, high: int) -> Callable[[np.random.Generator], int]:
    """Whole numbers that are even on a logarithmic scale."""
    return lambda rng: round(exp(rng.uniform(log(low), log(high))))


SGD = {"rate": log_range(0.002, 0.02), "regularization": log_range(0.01, 0.3)}
MODELS: dict[str, tuple[Fit, dict[str, Any]]] = {
    "Surprise-SVD": (
        surprise_svd,
        {
            "n_factors": whole(5, 200),
            "n_epochs": whole(10, 80),
            "lr_all": SGD["rate"],
            "reg_all": SGD["regularization"],
        },
    ),
    "Surprise-SVD++": (
        surprise_svdpp,
        {"n_factors": whole(5, 20), "n_epochs": whole(10, 30), "lr_all": SGD["rate"], "reg_all": SGD["regularization"]},
    ),
    "Surprise-KNNBaseline": (
        surprise_knn,
        {"k": whole(10, 100), "min_k": whole(1, 10), "shrinkage": whole(10, 300), "user_based": [True, False]},
    ),
    "Cornac-MF": (
        cornac_mf,
        {
            "k": whole(5, 200),
            "max_iter": whole(10, 200),
            "learning_rate": SGD["rate"],
            "lambda_reg": SGD["regularization"],
        },
    ),
    "LensKit-ALS": (
        lenskit_als,
        {
            "embedding_size": whole(5, 100),
            "epochs": whole(5, 40),
            "regularization": log_range(0.01, 1),
            "user_damping": log_range(0.5, 50),
            "item_damping": log_range(0.5, 50),
        },
    ),
    "myFM-SVD++": (myfm_svdpp, {"rank": [8], "n_iter": [200]}),
}  # label: how it is trained, and its space, in which a list is all that there is to choose from


def settings_of(space: dict[str, Any], trials: int, seed: int) -> Iterator[Settings]:
    """Random settings from a space; of one with fewer settings than trials each of them once."""
    choices = [values if isinstance(values, list) else None for values in space.values()]
    if None not in choices and (size := int(np.prod([len(values) for values in choices]))) <= trials:
        for place in range(size):
            index = np.unravel_index(place, [len(values) for values in choices])
            yield {key: values[i] for (key, values), i in zip(space.items(), index, strict=True)}
        return
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        yield {key: rng.choice(value).item() if isinstance(value, list) else value(rng) for key, value in space.items()}


def search(fit: Fit, space: dict[str, Any], train: pd.DataFrame, valid: pd.DataFrame, given: Any) -> dict[str, Any]:
    """The best settings on the validation part, and all that were tried."""
    trials, low, high = [], train["rating"].min(), train["rating"].max()
    for settings in settings_of(space, given.trials, given.seed):
        start = time.process_time()
        error = np.clip(fit(train, valid, settings, given.seed), low, high) - valid["rating"].to_numpy()
        rmse = float(np.sqrt(np.mean(error**2)))
        trials.append({"settings": settings, "rmse": rmse, "seconds": round(time.process_time() - start, 2)})
        print(json.dumps(trials[-1]), flush=True)
    finite = [trial for trial in trials if np.isfinite(trial["rmse"])]
    best = min(finite, key=lambda trial: trial["rmse"])
    seconds = sum(trial["seconds"] for trial in trials)
    return {"settings": best["settings"], "valid_rmse": best["rmse"], "tuning_s": round(seconds, 1), "trials": trials}


def main() -> None:
    """Search or predict, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--train", type=Path, action="append", required=True)
    parser.add_argument("--predict", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="predictions, or with --trials what was found")
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    fit, space = MODELS[given.model]
    ids = {"user": str, "item": str}
    train = pd.concat([pd.read_csv(path, dtype=ids) for path in given.train], ignore_index=True)
    pairs = pd.read_csv(given.predict, dtype=ids)
    if given.trials:
        given.output.write_text(json.dumps(search(fit, space, train, pairs, given), indent=2) + "\n")
        return
    start = time.process_time()
    predicted = fit(train, pairs[["user", "item"]], given.settings, given.seed)
    seconds = time.process_time() - start
    scale = train["rating"].min(), train["rating"].max()
    pairs[["user", "item"]].assign(prediction=np.clip(predicted, *scale)).to_csv(given.output, index=False)
    given.output.with_suffix(".seconds").write_text(f"{seconds:.2f}\n")


if __name__ == "__main__":
    main()
