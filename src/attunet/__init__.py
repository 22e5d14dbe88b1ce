"""Attention U-Net for medical images: train, predict, evaluate, and see where the network looks."""
