"""The page of benchmarks is what its records say, and its commands are those of the scripts."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shlex
import sys
from dataclasses import replace

import matplotlib
import pytest

from .blocks import ROOT

# Import mode `importlib` puts no folder on the path.
sys.path.append(str(ROOT / "benchmarks"))
import claims
import growth_plots
import page as runner
import page_text

SECTIONS = claims.catalogue()
CLAIMS = [claim for section in SECTIONS for claim in section.claims]
PLACES = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|usr|opt|mnt|Users)/")


def ids(claim) -> str:
    return claim.id


class ParsedError(Exception):
    """The arguments of a command were accepted."""


@pytest.mark.parametrize("claim", CLAIMS, ids=ids)
def test_commands_are_those_of_the_scripts(claim, monkeypatch):
    script, *words = shlex.split(claim.command)
    accept = argparse.ArgumentParser.parse_args

    def stop(parser, *given):
        accept(parser, *given)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(ParsedError):
        runpy.run_path(str(ROOT / "benchmarks" / script), run_name="__main__")


def test_page_is_made_of_the_records():
    assert page_text.page(SECTIONS) == page_text.PAGE.read_text(encoding="utf-8")


def test_plots_show_the_figures_of_the_records():
    drawn = set()
    for claim in CLAIMS:
        lines = next(filter(None, (growth_plots.series(claim, t) for t in claims.texts(claim))), [])
        assert bool(lines) <= bool(claim.rows)
        if not lines:
            continue
        stored = (page_text.FIGURES / f"{claim.id}.svg").read_bytes()
        drawn.add(f"{claim.id}.svg")
        # Another version of Matplotlib draws the same with other bytes.
        if f"Matplotlib v{matplotlib.__version__}".encode() in stored:
            assert growth_plots.draw(claim.title, lines) == stored
        assert len(stored) < 200_000
    assert len(drawn) >= 4
    assert {path.name for path in page_text.FIGURES.glob("*.svg")} == drawn


def test_names_and_headings_are_unique_and_every_figure_has_its_claim():
    known = [claim.id for claim in CLAIMS]
    assert len(set(known)) == len(known)
    assert len({claim.anchor for claim in CLAIMS}) == len(known)
    assert {path.stem for path in claims.RECORDS.glob("*.json")} <= set(known)
    for section in SECTIONS:
        entries = claims.transcribed(section.id)
        assert set(entries) <= {"section"} | {claim.id for claim in section.claims}
        assert all(entry["text"] and entry["written"] for entry in entries.values())


@pytest.mark.parametrize("path", sorted(claims.RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_records_tell_when_where_and_with_what(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    claim = next(claim for claim in CLAIMS if claim.id == record["claim"])
    assert record["command"] == claim.command
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])
    assert re.fullmatch(r"[0-9a-f]{7,}", record["commit"])
    assert record["machine"].keys() == {"cpu", "cores", "memory_gb", "system"}
    assert {"python", "neuropipe", "numpy", *claim.packages} <= record["versions"].keys()
    assert record["status"] == 0
    assert record["cpu_s"] > 0
    assert record["peak_mb"] > 0
    assert record["output"]
    assert not PLACES.search("\n".join(record["output"]))
    if claim.ours:
        assert page_text.shown(claim.ours, "\n".join(record["output"]))


@pytest.fixture
def printing(tmp_path, monkeypatch):
    """A claim of a script that prints one line, with records in a folder of their own."""
    monkeypatch.setattr(claims, "RECORDS", tmp_path)
    monkeypatch.setattr(runner, "RECORDS", tmp_path)
    script = tmp_path / "script.py"
    script.write_text("import os\nprint('threads', os.environ['OMP_NUM_THREADS'], os.getcwd())")
    return replace(CLAIMS[0], id="one", command=str(script), packages=(), ours=r"threads (\d)")


def test_a_run_leaves_a_record(printing, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert runner.measure([printing], tmp_path / "none") == 0
    record = claims.measured(printing)
    assert record["output"] == ["threads 1 ."]
    assert page_text.figures(printing)[0] == "1"
    assert record["date"] in "\n".join(page_text.details(printing))


def test_failure_and_a_missing_peer_keep_the_former_record(printing, tmp_path):
    printing.record.write_text('{"claim": "one"}')
    failing = replace(printing, command=str(tmp_path / "no_such_script.py"))
    lacking = replace(printing, packages=("no-such-package",))
    assert runner.measure([failing, lacking], tmp_path) == 2
    assert claims.measured(printing) == {"claim": "one"}


def lines_of(text):
    claim = next(claim for claim in CLAIMS if claim.id == "gp-vae-cost")
    return {n.quantity: n for n in growth_plots.series(claim, text) if n.panel == "trials"}


def test_numbers_of_growth_are_read_from_printed_lines():
    row = "{} trials x 60 bins x 100 units, 2          0.50 CPU s  peak 0.25 GB\n"
    lines = lines_of(row.format(50) + row.format(1000))
    assert lines["memory"].value.tolist() == [250.0, 250.0]
    assert lines["seconds"].size.tolist() == [50.0, 1000.0]
    assert lines["seconds"].exponent == pytest.approx(0.0)


def test_numbers_of_growth_are_read_from_transcribed_tables():
    (seconds,) = lines_of("| trials | 50 / 100 / 200 | 0.5 / 1.0 / 2.0 |\n").values()
    assert seconds.value.tolist() == [0.5, 1.0, 2.0]
    assert seconds.exponent == pytest.approx(1.0)


def test_a_single_size_is_no_growth():
    assert lines_of("| trials | 50 | 0.5 |\n") == {}
