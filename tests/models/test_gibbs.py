import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_dgrm.models.bmf.conditionals import Design, Prior
from recbole_dgrm.models.bmf.features import Features, shares
from recbole_dgrm.models.bmf.gibbs import Chain

D = 3  # two factors and a bias


def few_ratings(n_users=7, n_items=5, share=0.6, seed=0):
    rng = np.random.default_rng(seed)
    given = rng.random((n_users, n_items)) < share
    given[0], given[:, 0] = True, True
    return sp.csr_matrix(np.where(given, rng.standard_normal((n_users, n_items)), 0.0))


def made_up_prior(rng, n_components=0):
    root = rng.standard_normal((D, D))
    return Prior(rng.standard_normal(D), root @ root.T + np.eye(D), rng.standard_normal((n_components, D)), 1.5)


@pytest.mark.parametrize("rows", [2, 100])
def test_rows_have_the_moments_of_a_bayesian_regression(monkeypatch, rows):
    monkeypatch.setattr("recbole_dgrm.models.bmf.conditionals.ROWS", rows)
    rng, ratings = np.random.default_rng(1), few_ratings()
    features = Features.of(shares(ratings), np.ones(7, bool), 4)
    prior, table, alpha = made_up_prior(rng, len(features.size)), rng.standard_normal((5, D)), 0.7
    design, given = Design(ratings), torch.as_tensor(table).float()
    mean, _ = design.posterior(given, design.rating, prior, features, alpha, torch.zeros(7, D))
    roots = [
        design.posterior(given, design.rating, prior, features, alpha, unit.expand(7, D))[1] - mean
        for unit in torch.eye(D)
    ]
    centre = prior.mean + features.left @ (features.size[:, None] * prior.coefficients)
    for user in range(7):
        seen = table[ratings[user].indices]
        covariance = np.linalg.inv(prior.precision + alpha * seen.T @ seen)
        exact = covariance @ (prior.precision @ centre[user] + alpha * seen.T @ ratings[user].data)
        np.testing.assert_allclose(mean[user], exact, atol=1e-4)
        root = np.stack([each[user].numpy() for each in roots], axis=1)
        np.testing.assert_allclose(root @ root.T, covariance, atol=1e-4)


def test_components_of_all_features_are_the_features():
    matrix = shares(few_ratings())
    features = Features.of(matrix, np.ones(7, bool), 100)
    np.testing.assert_allclose(features.left * features.size @ features.right.T, matrix.toarray(), atol=1e-10)
    np.testing.assert_allclose(features.of_rows(matrix).left, features.left, atol=1e-10)
    padded = Features.of(sp.vstack([sp.csr_matrix((1, 5)), matrix]).tocsr(), np.arange(8) > 0, 100)
    np.testing.assert_allclose(padded.size, features.size)  # rows without ratings do not shape the components
    assert (padded.left[0] == 0).all()


def test_few_components_of_many_are_the_largest():
    matrix = sp.csr_matrix(np.random.default_rng(0).standard_normal((40, 30)))
    few, whole = (Features.of(matrix, np.ones(40, bool), most) for most in (3, 30))
    np.testing.assert_allclose(few.size, whole.size[:3])
    np.testing.assert_allclose(np.abs(few.right.T @ whole.right[:, :3]), np.eye(3), atol=1e-8)


def statistics(chain):
    """Bounded functions of all that a chain keeps; the priors' tails are too heavy for moments."""
    sides = chain.user, chain.item
    squares = [np.tanh(side.eta.double().square().mean(0).numpy()) for side in sides]
    products = [np.tanh((side.eta[:, 0] * side.eta[:, 1]).double().mean().item()) for side in sides]
    ours = [np.tanh(side.coefficients.square().mean().item()) for side in sides]
    numbers = [np.tanh(side.strength.item()) for side in sides] + [np.tanh(side.scale.item() ** 2) for side in sides]
    level, alpha = chain.level.item(), chain.alpha.item()
    means = [np.tanh(side.eta[:, -1].mean().item() * side.scale.item()) for side in sides]
    return np.concatenate(
        [*squares, products, ours, numbers, means, [np.tanh(level), np.tanh(level**2), np.tanh(alpha)]]
    )


def drawn_from_the_prior(chain, rng):
    """Give a chain a state from its prior."""
    for side in (chain.user, chain.item):
        d = side.eta.shape[1]
        side.strength.fill_(rng.gamma(1))
        root = np.linalg.cholesky(np.linalg.inv(wishart(rng, d)))
        strength = np.sqrt(side.strength.item())
        coefficients = rng.standard_normal(tuple(side.coefficients.shape)) @ root.T / strength
        side.coefficients.copy_(torch.from_numpy(coefficients))
        centre = root @ rng.standard_normal(d) + side.features.times(coefficients)
        side.eta.copy_(torch.from_numpy(centre + rng.standard_normal(tuple(side.eta.shape)) @ root.T))
        side.scale.fill_(rng.standard_normal())
    chain.level.fill_(rng.standard_normal())
    chain.alpha.fill_(rng.gamma(1))


def wishart(rng, d):
    root = rng.standard_normal((d, d))
    return root.T @ root  # of d degrees of freedom


def rate(chain, rng):
    """Draw the ratings anew from the state of the chain."""
    user, item = chain.user.rows, chain.item.rows
    mean = chain.level.item() + user[:, :-1] @ item[:, :-1].T + user[:, -1:] + item[:, -1]
    rating = mean + torch.from_numpy(rng.standard_normal(tuple(mean.shape))).float() / chain.alpha.item() ** 0.5
    for design, table in ((chain.user.design, rating), (chain.item.design, rating.T)):
        design.rating = table[design.places.row, design.places.column]


@pytest.mark.slow
def test_sweeps_and_new_ratings_together_leave_the_prior_as_it_is():
    """Geweke's joint distribution test (2004): an error in any conditional moves the state away from its prior."""
    ratings = few_ratings(4, 3, 0.7)
    sides = (shares(ratings), np.ones(4, bool)), (shares(ratings.T.tocsr()), np.ones(3, bool))
    chain = Chain(ratings, tuple(Features.of(*side, 10) for side in sides), 2, (0,))
    rng = np.random.default_rng(0)
    prior = []
    for _ in range(1500):
        drawn_from_the_prior(chain, rng)
        prior.append(statistics(chain))
    joint = []
    for _ in range(3000):
        chain.sweep()
        rate(chain, rng)
        joint.append(statistics(chain))
    prior, batches = np.array(prior), np.array(joint).reshape(30, 100, -1).mean(1)  # means of long batches
    error = np.sqrt(prior.var(0) / len(prior) + batches.var(0, ddof=1) / len(batches))
    np.testing.assert_array_less(np.abs(prior.mean(0) - batches.mean(0)) / error, 4.0)
