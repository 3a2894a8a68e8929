"""Stores: one recording as Zarr and as NWB, with hashes, masks and a schema."""
