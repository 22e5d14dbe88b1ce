"""Inference: from a model folder and an image to a segmentation."""
