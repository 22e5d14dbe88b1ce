"""Trained networks in the formats of other runtimes, and the conversion of other projects' weights."""
