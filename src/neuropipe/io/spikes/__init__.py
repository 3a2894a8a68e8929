"""Readers of spike recordings: NWB units, Phy folders, tables with one row per spike."""
