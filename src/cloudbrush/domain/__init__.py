"""The words everything else uses. Pure: no I/O, no torch, no web framework."""
