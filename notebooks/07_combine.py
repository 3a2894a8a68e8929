# %% [markdown]
# # Combine analyses
#
# States of the EEG against clusters and states of the spikes of the same session: do they switch at
# the same moments? Both are on the clock of the session, in seconds.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

import neuropipe

view = neuropipe.open_study("../demo")
eeg = view.results["sub-d01_ses-a_eeg/hmm_glm"]["state_viterbi"].isel(trial=0)
spikes = view.results["sub-d01_ses-a_spikes/bicluster"]["time_state"]

# %% [markdown]
# The state of the EEG at the centre of each bin of the spikes.

# %%
beside = eeg.sel(time=spikes["time"].values, method="nearest").values
pd.crosstab(beside, spikes.values, rownames=["EEG"], colnames=["spikes"])

# %%
adjusted_rand_score(beside, spikes.values)

# %% [markdown]
# Chance, by rotating one in time: switches stay as they are, their coincidence is lost.

# %%
generator = np.random.default_rng(0)
shifts = generator.integers(20, spikes.size - 20, 500)
null = [adjusted_rand_score(beside, np.roll(spikes.values, int(shift))) for shift in shifts]
np.quantile(null, [0.5, 0.95])

# %% [markdown]
# ... and the first shared latent over both.

# %%
latent = view.results["sub-d01_ses-a/gp_vae"]["latent_mean"]
figure, axes = plt.subplots(3, figsize=(8, 4), layout="constrained")
axes[0].step(eeg["time"], eeg, where="mid")
axes[0].set_ylabel("EEG state")
axes[1].step(spikes["time"], spikes, where="mid")
axes[1].set_ylabel("spike state")
axes[2].plot(latent["time"], latent.isel(trial=0))
axes[2].set_ylabel("latents, trial 1")
axes[2].set_xlabel("time (s)")
