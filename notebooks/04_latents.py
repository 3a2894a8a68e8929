# %% [markdown]
# # Shared latents (GP-VAE)
#
# Smooth courses that spikes and depth electrodes share.

# %%
import neuropipe

view = neuropipe.open_study("../demo")
result = view.results["sub-d01_ses-a/gp_vae"]
neuropipe.plot(result, "latents")

# %% [markdown]
# How much of each modality each latent explains, and how well units are predicted that the model
# did not see.

# %%
result["variance_explained"].to_pandas()

# %%
result["score"].to_series().dropna()

# %%
neuropipe.plot(result, "scores")
