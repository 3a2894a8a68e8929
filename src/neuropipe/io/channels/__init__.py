"""Readers of channel recordings: EEG, MEG and intracranial EEG."""
