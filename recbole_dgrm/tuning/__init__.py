"""Hyper-parameter search: a space, a study, the workers that share it, and its report."""
