"""Every command of the README and of the documentation runs, or what stands for it in `instead`."""

from __future__ import annotations

import argparse
import contextlib
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import neuropipe
from neuropipe.cli.main import main
from neuropipe.simulate.calcium_files import write_calcium_nwb
from neuropipe.simulate.channel_files import simulate_channels, write_edf
from neuropipe.simulate.demo import simulate_worms

from .archive import served, write_recipe
from .blocks import PAGES, ROOT, blocks
from .converters import stand_in
from .instead import INSTEAD
from .shell import run_commands, write_slurm

SCRIPT = "python benchmarks/"
SHOWN = blocks("bash", "inline")
ABOVE, IN_STUDY = ".", "mystudy"
# Where the reader stands at the top of a page; in a study unless the page goes there itself.
START = {"README.md": ABOVE, "cluster.md": ABOVE, "proprietary_formats.md": "converted"}


def of_page(page):
    """Return the commands of a page without those of benchmarks."""
    return [one for one in SHOWN if one.page == page and not one.text.startswith(SCRIPT)]


def write_recordings(folder):
    """Write an EEG and a calcium recording whose names and headers tell all."""
    write_edf(simulate_channels(4, 60.0, bad=()), folder / "sub-01_eeg.edf")
    data, _ = simulate_worms(subjects=1)
    data = data.assign_coords(subject=["01"]).isel(neuron=slice(8), time=slice(240))
    write_calcium_nwb(data, "01", folder / "sub-01_calcium.nwb", fluorescence=False)


def write_converted(folder):
    """Write the study of the page on proprietary formats by the blocks of that page."""
    page = ROOT / "docs" / "proprietary_formats.md"
    assert main(["init", str(folder)]) == 0
    (script,) = [one for one in blocks("python") if one.page == page]
    (table,) = [one for one in blocks("text") if one.page == page]
    (folder / "nwb").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        patch.chdir(folder)
        exec(compile(script.text, script.name, "exec"), {"__name__": "session"})  # a block of ours
    (folder / "config" / "recordings.tsv").write_text(table.text)
    (settings,) = [one for one in blocks("yaml") if one.page == page]
    about = {"study": "converted", "recordings": "config/recordings.tsv"}
    text = yaml.safe_dump(about | yaml.safe_load(settings.text))
    (folder / "config" / "config.yaml").write_text(text)


@dataclass(frozen=True)
class Desk:
    """What a reader has: recordings, an environment, and an archive to fetch from."""

    folder: Path

    def run(self, page):
        """Run the commands of a page and return what they wrote."""
        more = {"RECIPE": str(self.folder / "recipes")}
        start = self.folder / START.get(page.name, IN_STUDY)
        return run_commands(of_page(page), start, self.folder / "programs", more)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    write_recordings(folder / "recordings")
    write_converted(folder / "converted")
    (folder / ".venv").symlink_to(sys.prefix)
    write_slurm(folder / "programs")
    with served(folder / "archive") as url:
        write_recipe(folder / "recipes" / "mc_maze", folder / "archive", url)
        yield Desk(folder)


@pytest.fixture(scope="module")
def readme(desk):
    """Return what the commands of the README wrote; they make the study of the other pages."""
    return desk.run(ROOT / "README.md")


@pytest.mark.workflow
def test_the_commands_of_the_readme_lead_to_a_report_and_an_export(readme, desk):
    study = desk.folder / "mystudy"
    assert "2 rows written to config/recordings.tsv" in readme
    assert "sub-1_spikes: 3 rows, as expected" in readme
    assert "sub-01_eeg" in (study / "report" / "index.html").read_text()
    assert list(study.glob("export/bids/sub-01/eeg/*_eeg.vhdr"))


@pytest.mark.workflow
@pytest.mark.parametrize("page", [p for p in PAGES[1:] if of_page(p)], ids=lambda p: p.stem)
def test_the_commands_of_a_page_run(page, readme, desk):
    told = desk.run(page)
    assert told.count("@@ ") == sum(len(one.commands) for one in of_page(page))


@pytest.mark.workflow
def test_what_a_converter_wrote_is_ingested_as_the_page_says(desk):
    for name, rows in (("sub-m01_ieeg", 4), ("sub-m01_spikes", 3)):
        with contextlib.chdir(desk.folder / "converted"):
            assert main(["run", "--only", name, "--here"]) == 0
        raw = neuropipe.open(name, study=desk.folder / "converted")["raw"]
        assert raw.sizes["channel" if "ieeg" in name else "unit"] == rows


def test_what_runs_instead_stands_on_a_page_and_says_why():
    shown = {command for one in SHOWN for command in one.commands}
    assert set(INSTEAD) <= shown
    assert all(entry.run and entry.why for entry in INSTEAD.values())


class TakenError(Exception):
    """The arguments of a script were taken."""


def parsed(self, given=None, namespace=None, real=argparse.ArgumentParser.parse_args):
    real(self, given, namespace)
    raise TakenError


@pytest.mark.parametrize(
    "shown", [one for one in SHOWN if one.text.startswith(SCRIPT)], ids=lambda one: one.name
)
def test_benchmarks_take_these_arguments(shown, monkeypatch, capsys):
    (command,) = shown.commands
    words = shlex.split(INSTEAD[command].run if command in INSTEAD else command)
    script = ROOT / words[1]
    if "argparse" not in script.read_text():
        # Scripts that take one or two words say so at their top.
        assert " ".join(words[:3]) in script.read_text().split('"""')[1]
        return
    monkeypatch.setattr(sys, "argv", words[1:])
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    with pytest.raises((TakenError, SystemExit)) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert getattr(ended.value, "code", 0) == 0, capsys.readouterr().err
