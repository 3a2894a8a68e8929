# %% [markdown]
# # Open a store
#
# A study is a folder; `neuropipe.open_study` shows what is in it. Run `make demo` first.

# %%
import neuropipe

view = neuropipe.open_study("../demo")
view

# %% [markdown]
# A recording is an xarray tree: `raw` as it was recorded, tables of rows, events and trials beside
# it. Arrays are read when they are used.

# %%
worm = view.recordings["sub-w01_calcium"]
worm

# %% [markdown]
# ## Calcium
# Ten seconds of all neurons, by time in seconds and by name.

# %%
traces = worm["raw/dff"] if "raw/dff" in worm else worm["raw"]
traces.sel(time=slice(10, 20))

# %%
neuropipe.plot(view.recordings["sub-w01_calcium"])

# %% [markdown]
# ## Spikes, depth electrodes, EEG and fMRI
# The same line for every modality.

# %%
neuropipe.plot(view.recordings["sub-d01_ses-a_spikes"])

# %%
neuropipe.plot(view.recordings["sub-d01_ses-a_task-rest_ieeg"])

# %%
neuropipe.plot(view.recordings["sub-d01_ses-a_eeg"])

# %%
neuropipe.plot(view.recordings["sub-f01_task-objects_run-1_fmri"])

# %% [markdown]
# ## Before and after preprocessing
# The preprocessed store keeps the names and records every step that was taken.

# %%
cleaned = view.preprocessed["sub-d01_ses-a_task-rest_ieeg"]
cleaned

# %%
neuropipe.plot(cleaned)

# %% [markdown]
# ## Two recordings of a session on one grid
# `align` brings recordings of a session and their behaviour to one clock; nothing is written.

# %%
grid = neuropipe.align(
    0.05, ["sub-d01_ses-a_spikes", "sub-d01_ses-a_task-rest_ieeg"], study="../demo"
)
grid

# %% [markdown]
# Spikes as pynapple objects, for tuning curves and peri-event plots:

# %%
neuropipe.to_pynapple(view.recordings["sub-d01_ses-a_spikes"])
