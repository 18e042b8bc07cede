"""The command line: a function for each command, which prints its result and returns the exit status."""
