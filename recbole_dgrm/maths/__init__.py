"""Closed forms and losses that several models share; pure functions of arrays and tensors."""
