"""Connectome tables: reading them, and one matrix of weights over canonical neurons."""
