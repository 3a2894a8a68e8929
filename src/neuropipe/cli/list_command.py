"""List installed analyses, readers and presets, with the settings of each."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

__all__ = ["add_arguments", "run"]

Row = tuple[str, str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "name",
        nargs="?",
        help="analysis, reader, or section of the configuration (ingest, preprocess, ...): show "
        "its settings",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the registry, or the settings of one member."""
    from neuropipe.analyses.registry import analyses, get_analysis
    from neuropipe.config.load import presets
    from neuropipe.config.template import settings_rows
    from neuropipe.io.registry import readers
    from neuropipe.study import section_model

    name = arguments.name
    if name in (sections := _sections()):
        _print_settings(sections[name])
        return 0
    if name in readers():
        _print_settings(settings_rows(readers()[name].settings))
        print(f"They stand under ingest.readers.{name}, or for one recording under "
              "ingest.overrides.<recording>.")  # fmt: skip
        return 0
    if name:
        _print_settings(settings_rows(section_model(get_analysis(name))))
        print(f"They stand under analyses.{name}, or under a label of your own with `use: {name}`.")
        return 0
    print("analyses")
    for name, analysis in analyses().items():
        takes = ", ".join(analysis.accepts)
        print(f"  {name:<14} {analysis.title} (takes {takes}; scope {', '.join(analysis.scopes)})")
    print("readers")
    for name, reader in readers().items():
        files = ", ".join(extension or "a folder" for extension in reader.extensions)
        print(f"  {name:<14} {', '.join(reader.modalities)}: {files}")
    print("presets")
    for name in presets():
        print(f"  {name}")
    print("sections of the configuration\n  " + "\n  ".join(sections))
    print("`neuropipe list NAME` shows the settings of an analysis, a reader or a section.")
    return 0


def _sections() -> dict[str, list[Row]]:
    """Return section of the configuration -> its settings, with the keys of one recording."""
    from neuropipe.config.models import IngestOverride, StudyConfig
    from neuropipe.config.template import settings_rows

    rows: dict[str, list[Row]] = {}
    for row in settings_rows(StudyConfig):
        section, _, inside = row[0].partition(".")
        if inside:
            rows.setdefault(section, []).append(row)
    one = "ingest.overrides.RECORDING."
    # The clock of a table has the keys of the clock of a recording, which stand once.
    rows["ingest"] += [
        row
        for row in settings_rows(IngestOverride, one)
        if ".clock." not in row[0].removeprefix(f"{one}clock.")
    ]
    return rows


def _print_settings(rows: Iterable[Row]) -> None:
    table = list(rows)
    width = min(max(len(key) for key, _, _ in table), 44)
    for key, default, description in table:
        print(f"{key:<{width}} {default:<16} {description}")
