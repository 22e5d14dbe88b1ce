"""From a data set to a plan: fingerprint and planner."""
