"""The demo study: synthetic recordings in real file formats, with the truth beside them."""

from neuropipe.simulate.demo.study import write_demo, write_truth
from neuropipe.simulate.demo.worms import simulate_worms, write_worms

__all__ = ["simulate_worms", "write_demo", "write_truth", "write_worms"]
