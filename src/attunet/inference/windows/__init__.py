"""Sliding windows: a network applied to a volume larger than its patch."""
