"""Generative recommenders on rating data, as a RecBole plugin."""

__version__ = "0.1.0"
