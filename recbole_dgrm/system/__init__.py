"""The machine beneath: files, processes, several processes that train one model, YAML, versions."""
