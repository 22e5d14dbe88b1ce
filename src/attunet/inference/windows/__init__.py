"""A network over a volume larger than its patch."""
