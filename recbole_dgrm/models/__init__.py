"""One file per paper; ``base.py`` is what they share, ``registry.py`` the table of their names."""
