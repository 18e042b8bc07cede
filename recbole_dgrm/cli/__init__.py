"""A file per command: ``run(arguments, console)`` parses its options, does it and returns the exit status."""
