"""Readers of functional MRI: NIfTI volumes, CIFTI and GIFTI surfaces, tables of parcels."""
