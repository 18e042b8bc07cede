"""How good predictions are: exact ranking metrics, distributions, reference rows, mode collapse."""
