"""From preprocessed cases to batches of random patches."""
