"""The command ``neuropipe``: arguments, exit codes, one clear message for a fault."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from neuropipe.errors import NeuropipeError, UserError, place_fault

__all__ = ["main"]

COMMANDS = {
    "init": "write a new study",
    "fetch": "download a public study and write the folder that analyses it",
    "scan": "find recordings and write rows of the recordings table",
    "validate": "check a study, a store or an NWB file",
    "run": "run the workflow",
    "status": "show what is done, stale, failed or missing, and why",
    "report": "rebuild the HTML page from what exists",
    "export": "hand recordings to other tools: temporaldata, NeuralSet, BIDS, CSV",
    "unlock": "remove a stale lock after a kill or power loss",
    "list": "list analyses, readers and presets",
    "step": "run one step by hand, as the rules do",
}
EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neuropipe",
        allow_abbrev=False,
        description="From raw neural recordings to a report that can be trusted.",
    )
    parser.add_argument("--version", action="version", version=f"neuropipe {version('neuropipe')}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"neuropipe.cli.{name}_command")
        sub = commands.add_parser(
            name, help=summary, description=module.__doc__, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; ``sys.argv`` when absent.

    Returns
    -------
    int
        0 done, 1 a job failed or a bug, 2 the input is at fault, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, rest = _split(words)
    parser = _parser()
    parsed = parser.parse_args(own)
    if rest and parsed.command != "run":
        parser.error(f"{parsed.command} takes nothing after --; only run hands it to snakemake")
    parsed.rest = rest
    try:
        return int(parsed.run(parsed) or 0)
    except UserError as error:
        return _explain(error, EXIT_USER, parsed.debug)
    except NeuropipeError as error:
        return _explain(error, EXIT_FAILED, parsed.debug)
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        fault = place_fault(error)
        if parsed.debug or fault is None:
            raise
        return _explain(fault, EXIT_USER, parsed.debug)
    except KeyboardInterrupt:
        print("neuropipe: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our words, and those after ``--``."""
    words = list(words)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _explain(error: Exception, code: int, debug: bool) -> int:
    if debug:
        raise error
    print(f"neuropipe: {error}", file=sys.stderr)
    return code
