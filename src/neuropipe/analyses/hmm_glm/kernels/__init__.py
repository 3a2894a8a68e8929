"""Array kernels of the HMM-GLM states."""
