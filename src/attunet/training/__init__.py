"""Training with lightning."""
