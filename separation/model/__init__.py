"""Features, networks, losses and separators."""
