"""Extra networks: what is added to a checkpoint for one generation and taken away again without trace."""
