"""Analyses: pure functions from one input dataset and settings to one result dataset."""
