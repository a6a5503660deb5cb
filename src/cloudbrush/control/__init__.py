"""What people can ask for: each use case a function named as a verb, over stores and providers."""
