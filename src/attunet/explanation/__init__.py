"""Where the gates of a model look, how their maps score against null maps, and what happens without the gates."""
