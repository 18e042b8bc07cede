"""DGRM as in the paper: the chain, the networks, the training equations and the sampler."""
