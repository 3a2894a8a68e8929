# %% [markdown]
# # Clusters of units and states of time (bi-clustering)
#
# Look at convergence first: a partition from chains that disagree means nothing.

# %%
import neuropipe

view = neuropipe.open_study("../demo")
result = view.results["sub-d01_ses-a_spikes/bicluster"]
result.to_dataset()[["rhat", "ess_bulk"]].to_pandas()

# %%
neuropipe.plot(result, "diagnostics")

# %% [markdown]
# The number of clusters is uncertain too: how often the chains held how many.

# %%
result["posterior/n_clusters"].to_series().value_counts(normalize=True)

# %% [markdown]
# Which units go together, how surely.

# %%
neuropipe.plot(result, "coclustering")
