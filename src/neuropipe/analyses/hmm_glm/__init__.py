"""Discrete brain states, each with a directed coupling network of its own."""
