"""Array code of the bi-clustering sampler: every conditional of the model, and nothing else."""
