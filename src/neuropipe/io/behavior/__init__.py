"""Behaviour, events and trials in tables beside a recording, for every modality."""
