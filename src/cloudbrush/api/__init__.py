"""The REST doors: routes translate between HTTP and the use cases of `control`, nothing more."""
