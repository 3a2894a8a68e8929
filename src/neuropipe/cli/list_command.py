"""List installed analyses, readers and presets, with the settings of each analysis."""

from __future__ import annotations

import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", help="analysis or reader: show its settings")


def run(arguments: argparse.Namespace) -> int:
    """Print the registry."""
    from neuropipe.analyses.registry import analyses, get_analysis
    from neuropipe.config.load import presets
    from neuropipe.config.template import settings_rows
    from neuropipe.io.registry import readers
    from neuropipe.study import section_model

    if arguments.name in readers():
        _print_settings(settings_rows(readers()[arguments.name].settings))
        return 0
    if arguments.name:
        _print_settings(settings_rows(section_model(get_analysis(arguments.name))))
        return 0
    print("analyses")
    for name, analysis in analyses().items():
        takes = ", ".join(analysis.accepts)
        print(f"  {name:<12} {analysis.title} (takes {takes}; scope {', '.join(analysis.scopes)})")
    print("readers")
    for name, reader in readers().items():
        print(f"  {name:<12} {', '.join(reader.modalities)}: {', '.join(reader.extensions)}")
    print("presets")
    for name in presets():
        print(f"  {name}")
    print("`neuropipe list NAME` shows the settings of an analysis or a reader.")
    return 0


def _print_settings(rows: object) -> None:
    for key, default, description in rows:  # type: ignore[attr-defined]
        print(f"{key:<28} {default:<16} {description}")
