"""The training loop: steps, checkpoints, processes, signals."""
