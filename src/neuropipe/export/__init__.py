"""Stores handed to other tools: temporaldata, NeuralSet, BIDS, CSV, pynapple."""
