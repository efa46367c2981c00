"""Runs a plan on a clone, proves the clone, and swaps it in: what stands at the path is the old environment or the new
one, proven."""
