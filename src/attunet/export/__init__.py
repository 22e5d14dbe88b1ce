"""Trained networks in the formats of other runtimes, and the weights of other projects as models of ours."""
