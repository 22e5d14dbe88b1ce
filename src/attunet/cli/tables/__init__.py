"""What the commands show: one table builder, and the tables of data sets, plans, scores and models."""
