"""YAML layers, checked key by key, and the one config of a run that they make."""
