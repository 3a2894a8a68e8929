"""The code blocks of the README and of the documentation, and the commands in their sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/analyses").glob("*.md")),
]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
# What a command begins with, behind variables that are set for it alone.
COMMAND = re.compile(
    r"(?:[A-Z]+=\S+ )*(?:neuropipe|make|snakemake|pip|pytest|python|conda|tools/\S+) [^|]+"
)


@dataclass(frozen=True)
class Block:
    """One fenced block, or with the language ``inline`` a command in a sentence."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Page and line, as an editor writes them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block without comments."""
        lines = (line.split("  #")[0].split(" # ")[0].strip() for line in self.text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def _found_on(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1].split(" ")[0], match[2])
        for match in FENCE.finditer(text)
    ]
    # The same length: lines stay where they are.
    prose = FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for match in SPAN.finditer(prose):
        words = " ".join(match[1].split())
        if COMMAND.fullmatch(words):
            found.append(Block(page, prose.count("\n", 0, match.start()) + 1, "inline", words))
    return sorted(found, key=lambda block: block.line)


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of these languages, in the order of the pages; without any, all."""
    every = (block for page in PAGES for block in _found_on(page))
    return [block for block in every if not languages or block.language in languages]


def documents(text: str) -> list[dict]:
    """Return the mappings of a block: pages write alternatives with the same key one below the
    other, parted by an empty line.
    """
    try:
        whole = yaml.compose(text)
        keys = [key.value for key, _ in whole.value]
    except yaml.YAMLError:
        keys = []
    if keys and len(keys) == len(set(keys)):
        return [yaml.safe_load(text)]
    return [yaml.safe_load(part) for part in re.split(r"\n\s*\n", text)]
