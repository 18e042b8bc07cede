"""One file per paper; ``profile.py`` is what they share."""
