"""Decisions on held-out cases: post-processing, calibration, and the choice between models and ensembles."""
