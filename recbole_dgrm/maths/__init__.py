"""Losses, layers, biases and sparse products that several models share."""
