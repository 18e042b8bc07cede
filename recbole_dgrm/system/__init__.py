"""Files, child processes, distributed training, random generators, YAML and versions."""
