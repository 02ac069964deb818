"""From the command line and its settings to objects."""
