# %% [markdown]
# # Discrete states (HMM-GLM)
#
# Which state when, how long states last, and which couplings hold in each.

# %%
import matplotlib.pyplot as plt

import neuropipe

view = neuropipe.open_study("../demo")
result = view.results["sub-d01_ses-a_eeg/hmm_glm"]
neuropipe.results("../demo", label="hmm_glm")

# %%
neuropipe.plot(result, "states")

# %% [markdown]
# How sure the states are: the probability of the likelier one, bin by bin. Near 1 nearly always is
# good; much time around 0.5 says that the data do not tell the states apart.

# %%
sure = result["state_probability"].max("state")
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.hist(sure.values[sure.notnull().values], bins=40)
axes.set_xlabel("probability of the likeliest state")
axes.set_ylabel("bins")

# %% [markdown]
# Couplings of each state, from sender to receiver.

# %%
result["weight"].sum("basis").plot(col="state", cmap="RdBu_r", figsize=(9, 3.5))
