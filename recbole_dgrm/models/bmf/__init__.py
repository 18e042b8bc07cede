"""BMF: Bayesian matrix factorization by Gibbs sampling; ``model.py`` is the model, ``gibbs.py`` its equations."""
