"""Volumes, file formats, data set layouts, checks and preprocessing."""
