"""What the gates of a model look at, how that scores beside null maps, and what happens without the gates."""
