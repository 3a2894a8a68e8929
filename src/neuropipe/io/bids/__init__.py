"""What lies beside a data file in a BIDS tree: sidecars, tables of people and sessions, events."""
