"""From prepared cases to batches of random patches."""
