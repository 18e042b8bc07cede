"""Models of other libraries: how each is trained and where its settings are searched; for ``peers.py``, ``speed.py``.

    python measurements/peers_models.py MODEL --train=CSV [--train=CSV] --predict=CSV --output=CSV [--trials=15]

runs in the environment of a library, with numpy, pandas and scipy and without RecBole. With ``--trials`` it searches:
random settings from a seed, each trained once and scored on ``--predict`` (the validation part) by RMSE, which is what
these models minimise (implicit's does not, and is only timed); without, it trains once with ``--settings``, predicts,
and writes the seconds beside the predictions. A prediction is clipped to the scale, as these libraries do themselves.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

THREADS = int(os.environ.get("OMP_NUM_THREADS", 1))  # for libraries that do not read the variable themselves
Settings = dict[str, Any]
Predict = Callable[[], np.ndarray]
Fit = Callable[[pd.DataFrame, pd.DataFrame, Settings, int], Predict]  # trains, and returns what predicts the pairs


def surprise(name: str) -> Fit:
    """A model of Surprise: SVD is biased factorization by stochastic gradient descent; SVD++ adds who rated what."""

    def fit(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> Predict:
        import surprise as library

        if "shrinkage" in settings:  # KNNBaseline: the neighbours' deviations from biases
            similar = {key: settings[key] for key in ("user_based", "shrinkage")} | {"name": "pearson_baseline"}
            own = {"k": settings["k"], "min_k": settings["min_k"], "sim_options": similar, "verbose": False}
        else:
            own = settings | {"random_state": seed} | ({"cache_ratings": True} if name == "SVDpp" else {})
        scale = library.Reader(rating_scale=(train["rating"].min(), train["rating"].max()))
        data = library.Dataset.load_from_df(train[["user", "item", "rating"]], scale).build_full_trainset()
        model, named = getattr(library, name)(**own).fit(data), pairs[["user", "item"]]
        return lambda: np.array([model.predict(user, item).est for user, item in named.itertuples(index=False)])

    return fit


def cornac_mf(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> Predict:
    """Cornac's MF: biased matrix factorization by stochastic gradient descent.

    Pairs with a user or an item that the training does not know get the mean, as in Cornac's own evaluation.
    """
    from cornac.data import Dataset
    from cornac.models import MF

    model = MF(seed=seed, num_threads=THREADS, **settings)
    data = Dataset.from_uir(train[["user", "item", "rating"]].itertuples(index=False, name=None), seed=0)
    model.fit(data)

    def rate(user: str, item: str) -> float:
        known = user in data.uid_map and item in data.iid_map
        return model.rate(data.uid_map[user], data.iid_map[item]) if known else data.global_mean

    return lambda: np.array([rate(*pair) for pair in pairs[["user", "item"]].itertuples(index=False)])


def implicit_als(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> Predict:
    """implicit's ALS, on ratings as confidences: its scores are not ratings."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy import sparse

    (user, item), (users, items), shape = _codes(train, pairs)
    ratings = sparse.csr_matrix((train["rating"].to_numpy(np.float32), (user, item)), shape)
    model = AlternatingLeastSquares(random_state=seed, num_threads=THREADS, **settings)
    model.fit(ratings, show_progress=False)
    return lambda: np.einsum("nk,nk->n", model.user_factors[users], model.item_factors[items])


def lenskit_als(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> Predict:
    """LensKit's BiasedMFScorer: alternating least squares on what damped biases leave.

    What the model cannot predict is a bias, as in LensKit's own pipeline for predictions.
    """
    from lenskit.als import BiasedMFScorer
    from lenskit.batch import predict
    from lenskit.data import from_interactions_df
    from lenskit.pipeline import predict_pipeline
    from lenskit.training import TrainingOptions

    own = {key: settings[key] for key in ("embedding_size", "epochs", "regularization")}
    own["damping"] = {side: settings[f"{side}_damping"] for side in ("user", "item")}
    whole, names = predict_pipeline(BiasedMFScorer(**own)), {"user": "user_id", "item": "item_id"}
    data = from_interactions_df(train[["user", "item", "rating"]].rename(columns=names))
    whole.train(data, TrainingOptions(rng=seed, device="cpu"))

    def predictions() -> np.ndarray:
        found = predict(whole, pairs[["user", "item"]].rename(columns=names), n_jobs=1).to_df()
        score = found.set_index(["user_id", "item_id"])["score"]
        return score.loc[pd.MultiIndex.from_frame(pairs[["user", "item"]])].to_numpy()

    return predictions


def myfm_svdpp(train: pd.DataFrame, pairs: pd.DataFrame, settings: Settings, seed: int) -> Predict:
    """myFM's "SVD++ flipped": who rated what, too, as sets of a user's items and of an item's users, each normed."""
    from myfm import MyFMRegressor, RelationBlock
    from scipy import sparse

    (user, item), rest, (n_users, n_items) = _codes(train, pairs)
    rated = sparse.csr_matrix((np.ones(len(user)), (user, item)), (n_users, n_items))
    blocks = []
    for size, sets in ((n_users, rated), (n_items, rated.T.tocsr())):
        norm = sparse.diags(1 / np.sqrt(np.maximum(np.diff(sets.indptr), 1)))
        blocks.append(sparse.hstack([sparse.identity(size), norm @ sets], format="csr"))
    codes = ((user, item), rest)
    relations = [[RelationBlock(of.tolist(), block) for of, block in zip(side, blocks, strict=True)] for side in codes]
    empty = tuple(sparse.csr_matrix((len(part), 0)) for part in (train, pairs))
    rating, n, groups = train["rating"].to_numpy(float), settings["n_iter"], [n_users, n_items, n_items, n_users]
    model = MyFMRegressor(rank=settings["rank"], random_seed=seed)
    chain = {"n_iter": n, "n_kept_samples": max(1, n - 20), "group_shapes": groups}
    model.fit(empty[0], rating, X_rel=relations[0], **chain)
    return lambda: model.predict(empty[1], X_rel=relations[1])


def _codes(train: pd.DataFrame, pairs: pd.DataFrame) -> tuple[list[np.ndarray], list[np.ndarray], tuple[int, int]]:
    """The codes of users and items in ``train``, those in ``pairs``, and how many users and items there are."""
    (user, users), (item, items) = (pd.factorize(pd.concat([train[key], pairs[key]])) for key in ("user", "item"))
    n = len(train)
    return [user[:n], item[:n]], [user[n:], item[n:]], (len(users), len(items))


def drawn(low: float, high: float) -> Callable[[np.random.Generator], float]:
    """Numbers that are even on a logarithmic scale: whole ones from a whole ``low`` on, others with three digits."""

    def draw(rng: np.random.Generator) -> float:
        value = exp(rng.uniform(log(low), log(high)))
        return round(value) if isinstance(low, int) else float(f"{value:.3g}")

    return draw


RATE, PENALTY = drawn(0.002, 0.02), drawn(0.01, 0.3)
SURPRISE, CORNAC = {"lr_all": RATE, "reg_all": PENALTY}, {"learning_rate": RATE, "lambda_reg": PENALTY}
LENSKIT = {"regularization": drawn(0.01, 1), "user_damping": drawn(0.5, 50), "item_damping": drawn(0.5, 50)}
KNN = {"k": drawn(10, 100), "min_k": drawn(1, 10), "shrinkage": drawn(10, 300), "user_based": [True, False]}
MODELS: dict[str, tuple[Fit, dict[str, Any]]] = {
    "Surprise-SVD": (surprise("SVD"), {"n_factors": drawn(5, 200), "n_epochs": drawn(10, 80)} | SURPRISE),
    "Surprise-SVD++": (surprise("SVDpp"), {"n_factors": drawn(5, 20), "n_epochs": drawn(10, 30)} | SURPRISE),
    "Surprise-KNNBaseline": (surprise("KNNBaseline"), KNN),
    "Cornac-MF": (cornac_mf, {"k": drawn(5, 200), "max_iter": drawn(10, 200)} | CORNAC),
    "LensKit-ALS": (lenskit_als, {"embedding_size": drawn(5, 100), "epochs": drawn(5, 40)} | LENSKIT),
    "myFM-SVD++": (myfm_svdpp, {"rank": [8], "n_iter": [200]}),
    "implicit-ALS": (implicit_als, {}),
}  # label: how it is trained, and its space, in which a list is all that there is to choose from


def settings_of(space: dict[str, Any], trials: int, seed: int) -> Iterator[Settings]:
    """Different random settings from a space, at most so many."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(trials):
        settings = {key: rng.choice(of).item() if isinstance(of, list) else of(rng) for key, of in space.items()}
        if settings not in found:
            found.append(settings)
            yield settings


def search(fit: Fit, space: dict[str, Any], train: pd.DataFrame, valid: pd.DataFrame, given: Any) -> dict[str, Any]:
    """The best settings on the validation part, and all that were tried."""
    trials, low, high = [], train["rating"].min(), train["rating"].max()
    for settings in settings_of(space, given.trials, given.seed):
        start = time.process_time()
        error = np.clip(fit(train, valid, settings, given.seed)(), low, high) - valid["rating"].to_numpy()
        rmse = float(np.sqrt(np.mean(error**2)))
        trials.append({"settings": settings, "rmse": rmse, "seconds": round(time.process_time() - start, 2)})
        print(json.dumps(trials[-1]), flush=True)
    best = min((trial for trial in trials if np.isfinite(trial["rmse"])), key=lambda trial: trial["rmse"])
    seconds = round(sum(trial["seconds"] for trial in trials), 1)
    return {"settings": best["settings"], "valid_rmse": best["rmse"], "tuning_s": seconds, "trials": trials}


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
    import_module(given.model.partition("-")[0].lower())  # before the clock starts, as our records leave imports out
    ids, start = {"user": str, "item": str}, time.monotonic()
    train = pd.concat([pd.read_csv(path, dtype=ids) for path in given.train], ignore_index=True)
    pairs = pd.read_csv(given.predict, dtype=ids)
    if given.trials:
        given.output.write_text(json.dumps(search(fit, space, train, pairs, given), indent=2) + "\n")
        return
    read = time.monotonic()
    predict = fit(train, pairs[["user", "item"]], given.settings, given.seed)
    trained = time.monotonic()
    predicted, scale = predict(), (train["rating"].min(), train["rating"].max())
    seconds = {"read_s": read - start, "train_s": trained - read, "evaluate_s": time.monotonic() - trained}
    pairs[["user", "item"]].assign(prediction=np.clip(predicted, *scale)).to_csv(given.output, index=False)
    given.output.with_suffix(".json").write_text(json.dumps(seconds) + "\n")


if __name__ == "__main__":
    main()
