"""Steps between the ingested store and the input of an analysis: pure functions on datasets."""
