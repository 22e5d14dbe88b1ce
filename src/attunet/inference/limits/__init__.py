"""What a case may take: memory and time."""
