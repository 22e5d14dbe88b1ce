"""What a cross-validation teaches: post-processing, calibration, which model or ensemble to take."""
