"""HDF5 files of temporaldata, torch_brain and brainsets."""
