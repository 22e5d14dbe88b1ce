"""The tables of the commands: one table builder, and the tables of data sets, plans, scores and models."""
