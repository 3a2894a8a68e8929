"""Write a new study: a commented configuration and an empty recordings table.

With --demo: the demo study, synthetic recordings in real file formats with the truth beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from neuropipe.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of the study")
    parser.add_argument("--preset", help="start from a preset (see `neuropipe list`)")
    parser.add_argument("--demo", action="store_true", help="write the demo study and its data")


def run(arguments: argparse.Namespace) -> int:
    """Write the study; an existing configuration is never overwritten."""
    from neuropipe.config.schema import write_schemas

    folder: Path = arguments.folder
    target = folder / "config" / "config.yaml"
    if target.exists():
        raise ConfigError(f"{target}: exists already; remove it or choose another folder")
    if arguments.demo and arguments.preset:
        raise ConfigError("--demo and --preset exclude each other; the demo has its own settings")
    write_schemas(folder / "config" / "schema")
    if arguments.demo:
        from neuropipe.simulate.demo import write_demo

        write_demo(folder)
        print(f"Demo study written. Next: neuropipe run --directory {folder}")
        return 0
    _write_empty(folder, arguments.preset)
    print(f"Study written. Next: cd {folder}; neuropipe scan FOLDER_WITH_RECORDINGS")
    return 0


def _write_empty(folder: Path, preset: str | None) -> None:
    from neuropipe.analyses.registry import analyses
    from neuropipe.config.load import presets, read_yaml, with_preset
    from neuropipe.config.recordings import COLUMNS
    from neuropipe.config.template import config_template
    from neuropipe.store.atomic import write_text

    given: dict[str, object] = {"study": folder.resolve().name, "preset": preset}
    with_preset(given, "--preset")
    chosen = read_yaml(presets()[preset]).get("analyses", {}) if preset else {}
    given["analyses"] = {label: {} for label in chosen if label in analyses()}
    write_text(folder / "config" / "recordings.tsv", "\t".join(COLUMNS) + "\n")
    write_text(folder / "config" / "config.yaml", config_template(given))
