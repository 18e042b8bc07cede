"""A file per command: ``run(arguments, console)`` parses the options, prints the result and returns the exit status."""
