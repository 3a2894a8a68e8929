# %% [markdown]
# # Other settings
#
# A notebook can repeat a job of the study with other settings: the input dataset is a file, the
# settings and the seed stand in the result.

# %%
import json

import neuropipe
from neuropipe.analyses import hmm_glm
from neuropipe.store.provenance import read_dataset

view = neuropipe.open_study("../demo")
before = view.results["sub-d01_ses-a_eeg/hmm_glm"]
data = read_dataset("../demo/inputs/sub-d01_ses-a_eeg/hmm_glm.nc")
given = json.loads(before.attrs["settings"])["settings"]
data

# %% [markdown]
# One state more. The seed is that of the result, so that the settings are all that differs.

# %%
settings = hmm_glm.Settings.model_validate(given | {"states": 3, "restarts": 1, "max_iter": 20})
after = hmm_glm.fit(data, settings, seed=int(before.attrs["seed"]))
after["occupancy"].to_series()

# %% [markdown]
# To keep it, change the study instead: `states: [2, 3]` under `analyses.hmm_glm` of
# `config/config.yaml`, then `neuropipe run`. Only this analysis runs again.
