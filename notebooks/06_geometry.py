# %% [markdown]
# # Geometry and topology of conditions (tRSA)

# %%
import neuropipe

view = neuropipe.open_study("../demo")
result = view.results["sub-f01/trsa"]
neuropipe.plot(result, "rdms")

# %% [markdown]
# Models against the noise ceiling, per region.

# %%
result["model_score"].mean("subject").to_pandas()

# %%
neuropipe.plot(result, "models")
