"""Planning: fingerprint of a data set, and planner."""
