# %% [markdown]
# # NTF connectomes
#
# Which neurons act together, when, and in which worm. The demo planted three motifs in two worms.

# %%
import pandas as pd

import neuropipe

view = neuropipe.open_study("../demo")
result = view.results["cohort-worm/ntf"]
result

# %% [markdown]
# Each component has a graph of neurons, a time course and a weight per subject.

# %%
neuropipe.plot(result, "components")

# %%
neuropipe.plot(result, "communities")

# %% [markdown]
# The graph of the first motif as a matrix; `community` says which neurons belong together, -1 to
# none.

# %%
first = result["component_adjacency"].isel(component=0)
first.where(first > first.quantile(0.95)).count("neuron_2").to_series().nlargest(10)

# %% [markdown]
# Which communities are more than chance, and in which motif.

# %%
result["community_pvalue"].isel(level=0).to_series().dropna()

# %% [markdown]
# What the simulator planted, beside it: the report draws the same.

# %%
pd.read_csv("../demo/results/cohort-worm/ntf/truth.tsv", sep="\t")
