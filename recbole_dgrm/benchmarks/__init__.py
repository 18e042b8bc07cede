"""Many runs of one plan, each in a process of its own."""
