"""Many cases or folds on many machines that may fail: a scheduler, its engines, and what they run."""
