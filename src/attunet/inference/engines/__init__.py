"""The engines that run a network, and their comparison."""
