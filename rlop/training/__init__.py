"""Training: the loop, a training from a configuration, evaluation, checkpoints."""
