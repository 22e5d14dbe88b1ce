"""What a step is to make smaller."""
