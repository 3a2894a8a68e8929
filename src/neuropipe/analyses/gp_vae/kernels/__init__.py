"""Numerical core of the GP-VAE: arrays in, arrays out."""
