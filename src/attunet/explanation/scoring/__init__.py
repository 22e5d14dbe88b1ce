"""How maps of attention relate to organs, and what may be said of it."""
