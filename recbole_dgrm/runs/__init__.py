"""One run and what is done with a finished one: recommend, predict, evaluate, export."""
