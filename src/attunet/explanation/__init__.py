"""What the gates of a model look at, what that is worth, and what happens without it."""
