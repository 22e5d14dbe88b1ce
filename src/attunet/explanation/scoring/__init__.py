"""Scores of attention maps against organs, and the conclusions they support."""
