"""The config of a run: YAML layers that are merged and checked key by key."""
