"""Public studies: what to download, and the study that analyses it."""
