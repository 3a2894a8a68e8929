"""Kernels of the representational analysis: functions on arrays, nothing else."""
