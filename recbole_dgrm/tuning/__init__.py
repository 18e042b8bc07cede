"""Hyper-parameter search: the space, the plan, the study and its report."""
