"""``python -m neuropipe``: the command line, with the interpreter that the rules name."""

from __future__ import annotations

import sys

from neuropipe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
