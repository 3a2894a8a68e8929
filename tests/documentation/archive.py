"""A server on this machine in place of an archive, with a recipe of one small file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb

UNITS = (4.0, 8.0, 20.0)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; gives the address."""
    handler = partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def write_recipe(folder: Path, files: Path, url: str) -> None:
    """Write a recipe of one session of spikes, and its file where the server has it."""
    source = files / "session.nwb"
    write_spike_nwb(simulate_spikes(UNITS, 20.0, trials=3, seed=1), source)
    folder.mkdir(parents=True)
    about = {
        "title": "Simulated", "archive": "this machine", "accession": "1", "version": "1",
        "licence": "CC0", "page": url, "base_url": url,
        "files": [{"path": source.name, "size": source.stat().st_size}],
        "expected": {"recordings": 1, "rows": {"sub-1_spikes": len(UNITS)}},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(about))
    (folder / "config.yaml").write_text("study: simulated\nrecordings: config/recordings.tsv\n")
    table = f"subject\tmodality\tpath\n1\tspikes\traw/{source.name}\n"
    (folder / "recordings.tsv").write_text(table)
