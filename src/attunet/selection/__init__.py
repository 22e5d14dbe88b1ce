"""What held-out cases decide: post-processing, calibration, and the choice between models and ensembles."""
