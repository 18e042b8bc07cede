"""BMF: Bayesian matrix factorization by Gibbs sampling; ``model.py`` has the model, ``gibbs.py`` its equations."""
