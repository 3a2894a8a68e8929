"""A complete analysis of another package: the mean activity of each row of one recording."""
