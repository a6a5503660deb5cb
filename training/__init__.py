"""Scripts that make the models Cloudbrush ships with."""
