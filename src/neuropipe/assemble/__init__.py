"""Preprocessed stores to the input dataset of an analysis."""
