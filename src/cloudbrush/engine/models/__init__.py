"""Model files as modules in memory: detect, load, keep."""
