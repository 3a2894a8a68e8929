"""What stands on the page, without a browser."""

from __future__ import annotations

import base64
import dataclasses
import html as html_module
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropipe.config.recordings import Recording
from neuropipe.errors import Issue
from neuropipe.report.anonymise import Names
from neuropipe.report.charts import Dot, Panel, nice_ticks, panel_svg
from neuropipe.report.markup import anchor, format_duration, format_number, methods_html
from neuropipe.report.page import build_page, build_pages
from neuropipe.report.parameters import Parameter
from neuropipe.report.sources import Figure, Table, read_issues, shrink_svg

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'
VOID = {"meta", "link", "img", "input", "br", "hr"}


class _Tags(HTMLParser):
    """Collects tags with their attributes, and complains about tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> without a start"
        assert self.stack.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


def text_of(page: str) -> str:
    page = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)
    return html_module.unescape(re.sub(r"<[^>]+>", " ", page))


def pictures(page: str) -> list[str]:
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    return [base64.b64decode(content).decode() for content in found]


def build(fake: Any) -> str:
    return build_page(fake.study, fake.cells)


def test_page_is_well_formed_with_unique_ids_and_live_links(filled: Any) -> None:
    tags = _Tags(build(filled))
    ids = [attrs["id"] for _, attrs in tags.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in tags.all("a"):
        target = attrs["href"] or ""
        if target.startswith("#"):
            assert target[1:] in ids
        elif not target.startswith("http"):
            assert (filled.root / "report" / target).resolve().is_file(), target


def test_page_holds_every_part(filled: Any) -> None:
    text = " ".join(text_of(build(filled)).split())
    for part in (
        "worm-pilot", "What ran", "Needs attention", "Data quality", "Provenance",
        "5 components explain 61.2 % of the variance", "TIME_NOT_ALIGNED", "AMBIGUOUS_LABEL",
        "rank 5: the loss is not finite", "logs/ntf_fit/sub-w03_calcium_ntf_grid.log",
        "restarts: 8 -> 2", "Methods, ready to paste", "Kolda and Bader", "48 min",
        "seed 20240501", "git checkout 0123456789ab", "neuropipe run", "torch", "2.13.0",
        "Settings that differ", "mcmc.chains", "explained_variance", "event_time (s)",
    ):  # fmt: skip
        assert part in text, part


def test_same_files_give_the_same_page_wherever_they_lie(filled: Any, tmp_path: Any) -> None:
    first = build(filled)
    assert build(filled) == first
    moved = tmp_path / "elsewhere" / "copy"
    shutil.copytree(filled.root, moved)
    filled.root = moved
    assert build(filled) == first
    assert str(tmp_path) not in first


def test_an_empty_study_folder_is_shown_as_missing(filled: Any) -> None:
    shutil.rmtree(filled.root)
    filled.cells = []
    page = build(filled)
    _Tags(page)
    assert "Not there yet." in page
    assert "<img" not in page


def test_a_study_without_recordings_has_a_page(fake: Any) -> None:
    assert "no recordings yet" in build(fake)


def test_nothing_from_the_data_becomes_markup(filled: Any) -> None:
    folder = "results/cohort-worm/ntf"
    figures = [{"slug": "components", "title": HOSTILE, "caption": f'" onload="{HOSTILE}'}]
    filled.write(f"{folder}/figures.json", {"headline": HOSTILE, "figures": figures})
    filled.write(f"{folder}/methods.md", f"{HOSTILE} [x](javascript:alert(3)) `{HOSTILE}`")
    filled.write(f"{folder}/summary.tsv", f"{HOSTILE}\tb\n{HOSTILE}\t1\n")
    issue = {"code": HOSTILE, "message": HOSTILE, "path": HOSTILE, "hint": HOSTILE}
    filled.write(f"{folder}/provenance.json", {"issues": [issue], "versions": {HOSTILE: HOSTILE}})
    rows = f"collection\tmetric\tvalue\tunit\n{HOSTILE}\t{HOSTILE}\t1\t{HOSTILE}\n"
    filled.write("results/ntf/table.tsv", rows)
    filled.report = {"title": HOSTILE}
    filled.fail("ntf_grid", "sub-w02_calcium", HOSTILE)
    page = build(filled)
    tags = _Tags(page)
    assert len(tags.all("script")) == 1
    assert not any(key.startswith("on") for _, attrs in tags.found for key in attrs)
    assert not any((a.get("href") or "").startswith("javascript") for a in tags.all("a"))
    assert all((i["src"] or "").startswith("data:image/") for i in tags.all("img"))


def test_a_recording_named_script_is_harmless(fake: Any) -> None:
    fake.recordings.append(Recording("<script>", "<b>", "calcium", "<i>.h5", cohort="<u>"))
    page = build(fake)
    assert page.count("<script>") == 1
    assert "&lt;script&gt;" in page


def test_the_policy_of_the_page_allows_its_own_script_and_no_network(filled: Any) -> None:
    page = build(filled)
    policy = next(a["content"] for a in _Tags(page).all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!doi\.org)', page)


def test_damaged_files_are_issues_not_crashes(filled: Any) -> None:
    filled.write("results/cohort-worm/ntf/provenance.json", '{"seed": 1')
    filled.write("results/cohort-worm/ntf/figures.json", "[1, {}, null]")
    filled.write("results/cohort-worm/ntf/summary.tsv", "a\tb\n1\n1\t2\t3\n")
    filled.write("preprocessed/sub-w01_calcium.json", '"text"')
    page = build(filled)
    _Tags(page)
    assert page.count("DAMAGED_FILE") >= 2


def test_long_tables_are_linked(filled: Any) -> None:
    rows = "\n".join(f"row{n}\t{n}" for n in range(201))
    filled.write("results/cohort-worm/ntf/summary.tsv", f"neuron\tn\n{rows}\n")
    page = build(filled)
    assert "201 rows, too many to show here" in page
    assert "row17" not in page


def test_large_svg_gives_way_to_its_png(filled: Any) -> None:
    folder = filled.root / "results/cohort-worm/ntf"
    svg = folder / "fig-components.svg"
    svg.write_text(svg.read_text().replace("</svg>", f"<!--{'x' * 500_000}--></svg>"))
    size = (100).to_bytes(4, "big") + (50).to_bytes(4, "big")
    (folder / "fig-components.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + size)
    page = build(filled)
    assert "data:image/png;base64," in page
    assert 'width="60" height="30"' in page


def test_parameters_that_differ_come_first(filled: Any) -> None:
    page = build(filled)
    section = page[page.index('id="run--ntf_grid"') :]
    assert section.index("Different from the defaults") < section.index("All 11 parameters")
    changed = section[section.index("Different from") : section.index("All 11 parameters")]
    assert re.findall(r'<tr class="changed"><td><code>([^<]+)', changed) == [
        "rank", "mcmc.chains", "input.scope",
    ]  # fmt: skip


def test_finished_result_counts_as_done_when_its_parts_are_gone(filled: Any) -> None:
    page = build(filled)
    matrix = page[page.index('class="matrix"') : page.index('id="quality"')]
    states = re.findall(r'<span class="badge (\w+)">', matrix)
    assert (states.count("done"), states.count("stale"), states.count("failed")) == (11, 1, 1)


def test_anonymised_page_names_no_subject(filled: Any) -> None:
    filled.report = {"anonymise_subjects": True}
    page = build(filled)
    visible = re.sub(r"base64,[^\"]+", "", page)
    assert not re.search(r"w0\d", visible)
    assert "sub-S1_calcium" in visible
    assert "(source of S1)" in visible
    assert len(pictures(page)) == 20
    for picture in pictures(page):
        assert not re.search(r"w0\d", picture)
    ids = [attrs["id"] for _, attrs in _Tags(page).found if "id" in attrs]
    assert {a["href"][1:] for a in _Tags(page).all("a") if a["href"].startswith("#")} <= set(ids)


def hidden(*labels: str) -> Names:
    return Names(
        [Recording(f"sub-{s}_calcium", s, "calcium", f"{s}.h5") for s in labels], hide=True
    )


def test_subjects_called_s1_are_renamed_once() -> None:
    names = hidden("w", "S1", "12")
    text = names.text("sub-w, sub-S1, sub-12_calcium, 12 neurons")
    assert text == names.text(text) == "sub-Anon1, sub-Anon2, sub-Anon3_calcium, 12 neurons"


def test_a_subject_called_a_changes_no_sentence() -> None:
    names = hidden("a", "w01", "12", "007")
    prose = "A motif of a group; in a subject a block, 12 neurons, a: see below."
    assert names.text(prose) == prose
    figure = Figure("x", "Of a group", prose, "", 1, 1, ())
    assert names.view(figure) == figure
    issue = Issue(
        "SUBJECT_DROPPED", "a, 12", "subject 'a' has 2; a: 5, w01: 3 of 'a group'", "a fix"
    )
    assert names.view(issue) == Issue(
        "SUBJECT_DROPPED", "S1, S3", "subject 'S1' has 2; S1: 5, S2: 3 of 'a group'", "a fix"
    )
    assert names.text("a row of sub-a_calcium") == "a row of sub-S1_calcium"


def test_labels_that_stand_as_subjects_are_renamed_in_figures_and_settings() -> None:
    names = hidden("a", "w01", "12", "007")
    texts = ("a", "w01", "007", "12", "a group", "Community a, subject a", "sub-a_calcium", "w01 x")
    drawn = "".join(f"<text>{text}</text>" for text in texts).encode()
    assert re.findall(r"<text>([^<]+)", names.svg(drawn).decode()) == [
        "S1", "S2", "S4", "12", "a group", "Community a, subject S1", "sub-S1_calcium", "S2 x",
    ]  # fmt: skip
    chosen = {"input": {"recordings": {"subject": ["a", 12, "w01"], "task": "a"}}}
    assert names.settings(chosen) == {
        "input": {"recordings": {"subject": ["S1", "S3", "S2"], "task": "a"}}
    }
    row = Parameter("input.recordings.subject", '["a", "12"]', "[]", "Of a subject.")
    assert names.view(row).value == '["S1", "S3"]'
    assert names.view(row).description == row.description


def test_a_page_of_subject_a_keeps_its_sentences(fake: Any) -> None:
    fake.add_recording("a")
    fake.add_run("ntf", [("sub-a_calcium", "recording", ("sub-a_calcium",))], rank=5)
    fake.write("results/sub-a_calcium/ntf/summary.tsv", "subject\tnote\na\ta group\n")
    plain = text_of(build(fake))
    fake.report = {"anonymise_subjects": True}
    page = build(fake)
    assert "sub-a" not in page
    assert re.search(r"<td[^>]*>S1</td>\s*<td[^>]*>a group</td>", page)
    # The cell of the table and the subject in the facts are the only ones that go.
    assert text_of(page).count(" a ") == plain.count(" a ") - 2


def test_pages_split_by_subject_above_the_limit(make_filled: Callable[[int], Any]) -> None:
    fake = make_filled(6)
    whole = build_pages(fake.study, fake.cells)
    assert list(whole) == ["index.html"]
    assert whole["index.html"] == build(fake)
    limit = len(whole["index.html"]) // 2
    pages = build_pages(fake.study, fake.cells, max_bytes=limit)
    assert list(pages) == ["index.html", *(f"sub-w{n:02d}.html" for n in range(1, 7))]
    ids = {
        name: {attrs["id"] for _, attrs in _Tags(page).found if "id" in attrs}
        for name, page in pages.items()
    }
    for name, page in pages.items():
        assert len(page.encode()) <= limit
        for attrs in _Tags(page).all("a"):
            file, _, target = (attrs["href"] or "").partition("#")
            if file in pages or not file:
                assert not target or target in ids[file or name]
    assert "sub-w03_calcium" in pages["sub-w03.html"]
    assert 'id="rec--sub-w03_calcium"' not in pages["index.html"]
    everything = sum(len(pictures(page)) for page in pages.values())
    assert everything == len(pictures(whole["index.html"]))
    index = " ".join(text_of(pages["index.html"]).split())
    assert "0 collections" not in index
    assert "On the page of its subject: sub-w" in index
    assert re.search(r"Subject w01 1 recording, 1 with issues", index)


def test_excluded_recordings_are_counted_apart(filled: Any) -> None:
    recordings = list(filled.recordings)
    filled.recordings[0] = dataclasses.replace(recordings[0], exclude=True)
    told = " ".join(text_of(build(filled)).split())
    assert f"Recordings {len(recordings) - 1} (1 excluded)" in told
    assert f"{recordings[0].name} excluded" in told


def test_pictures_that_do_not_fit_are_linked(filled: Any) -> None:
    pages = build_pages(filled.study, filled.cells, max_bytes=120_000)
    assert max(len(page.encode()) for page in pages.values()) <= 120_000
    assert any("open the file below" in page for page in pages.values())


def test_twenty_recordings_stay_below_ten_megabytes(make_filled: Callable[[int], Any]) -> None:
    fake = make_filled(20)
    pages = build_pages(fake.study, fake.cells)
    assert list(pages) == ["index.html"]
    assert len(pages["index.html"].encode()) < 10_000_000


def test_forty_recordings_show_those_with_issues_first(fake: Any) -> None:
    for n in range(40):
        warning = {"code": f"KIND_{n % 2}", "message": "look here", "severity": "warning"}
        known = {"code": "KNOWN", "message": "as expected", "severity": "info"}
        fake.add_recording(f"w{n:02}", issues=[warning] if n in (7, 9, 20, 21, 30, 31) else [known])
    fake.cells[-1] = dataclasses.replace(fake.cells[-1], state="failed", error="no such file")
    page = build(fake)
    items = re.findall(r'<details class="item" id="rec--sub-(w\d\d)[^>]*?( open)?>', page)
    order = [name for name, _ in items]
    assert order[:7] == ["w39", "w07", "w09", "w20", "w21", "w30", "w31"]
    assert order[7:] == sorted(order[7:])
    # One failed and the next three are open; the others show their badges only.
    assert [name for name, is_open in items if is_open] == ["w39", "w07", "w09", "w20"]
    group = page.index("33 recordings without issues")
    assert page.index('id="rec--sub-w31') < group < page.index('id="rec--sub-w00')
    assert "7 of 40 recordings have issues" in text_of(page)
    kinds = re.findall(r"<td><code>(KIND_\d)</code></td>.*?<td class=\"num\">(\d+)</td>", page)
    assert kinds == [("KIND_1", "4"), ("KIND_0", "2")]
    assert page.startswith("<!DOCTYPE html>")


def test_failed_collections_stay_in_the_metrics(filled: Any) -> None:
    path = filled.root / "results/ntf_grid/table.tsv"
    path.write_text(
        path.read_text() + "sub-w09_calcium\tw09\t\tworm\tcalcium\tDidNotConverge\t\t\t\t\t\n"
    )
    assert "sub-w09_calcium, ntf_grid (DidNotConverge)" in " ".join(text_of(build(filled)).split())


def test_metrics_that_compare_nothing_are_folded(make_filled: Callable[[int], Any]) -> None:
    fake = make_filled(1)
    assert "metrics of its one collection" not in build(fake)
    for table in sorted(fake.root.glob("results/*/table.tsv"))[1:]:
        table.unlink()
    assert "metrics of its one collection" in build(fake)


def test_time_of_a_result_is_that_of_all_its_jobs(filled: Any) -> None:
    (path, *_) = sorted(filled.root.glob("results/*/*/provenance.json"))
    record = json.loads(path.read_text())
    record |= {"wall_s": 3.0, "total_wall_s": 5400.0, "total_cpu_s": 7200.0}
    path.write_text(json.dumps(record))
    told = " ".join(text_of(build(filled)).split())
    assert "time of all jobs 1.5 h CPU time 2 h" in told


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.integers(2, 6))
def test_ticks_are_inside_and_at_least_two(low: float, width: float, count: int) -> None:
    high = low + width
    if (high - low) < 1e-6 * max(abs(low), abs(high)):
        return
    ticks = nice_ticks(low, high, count)
    assert 2 <= len(ticks) <= 2 * count + 2
    slack = 1e-6 * (high - low)
    assert all(low - slack <= tick <= high + slack for tick in ticks)


@pytest.mark.parametrize("value", [float("nan"), 0.0, 5.0, -3.0])
def test_dot_plot_of_one_or_no_value(value: float) -> None:
    nan = float("nan")
    svg = panel_svg(Panel("gain", "s", (Dot("a<b", "ntf", 0, 0, value, nan, nan),)))
    _Tags(svg)
    assert "a&lt;b" in svg
    assert "id=" not in svg
    assert "nan" not in svg


def test_counts_have_ticks_without_fractions() -> None:
    nan = float("nan")
    svg = panel_svg(Panel("components", "", (Dot("a", "ntf", 0, 0, 3.0, nan, nan),)))
    assert re.findall(r'class="tick"[^>]*>([^<]+)', svg) == ["2", "3", "4"]


def test_what_only_follows_is_not_listed_twice(filled: Any) -> None:
    number = next(n for n, c in enumerate(filled.cells) if c.stage == "preprocess")
    cell = filled.cells[number]
    reasons = ("follows from ingest_recording/x",)
    filled.cells[number] = type(cell)(cell.stage, cell.collection, "", "stale", reasons)
    page = build(filled)
    attention = page[page.index("Needs attention") : page.index('class="matrix"')]
    assert "restarts: 8 -&gt; 2" in attention
    assert "follows from" not in attention


def test_shrunk_svg_keeps_its_shape() -> None:
    svg = b'<svg><path d="M 1.234567 -0.000001 L 10.5 3e2" x="1.234567"/></svg>'
    assert shrink_svg(svg) == b'<svg><path d="M 1.23 -0 L 10.5 3e2" x="1.234567"/></svg>'


def test_issues_come_worst_first_and_once() -> None:
    listed = [{"code": c, "severity": s} for c, s in (("A", "info"), ("B", "error"), ("A", "info"))]
    found = read_issues(json.dumps(listed), [{"code": "C"}], None)
    assert [(issue.code, issue.severity) for issue in found] == [
        ("B", "error"), ("C", "warning"), ("A", "info"),
    ]  # fmt: skip


def test_numbers_and_durations_are_short() -> None:
    shown = [format_number(v) for v in ("0.000012345", 3, "1e3", "nan", "RIML", True, "20240501")]
    assert shown == ["1.234e-05", "3", "1000", "\N{EN DASH}", "RIML", "yes", "20240501"]
    assert [format_duration(v) for v in (0.25, 59.9, 60, 3700)] == [
        "0.25 s", "59.9 s", "1 min", "1.03 h",
    ]  # fmt: skip


def test_anchors_of_different_names_differ() -> None:
    assert anchor("run", "a b") != anchor("run", "a-b")
    assert re.fullmatch(r"[\w-]+", anchor("run", "<script> é"))


def test_methods_text_becomes_paragraphs_and_lists() -> None:
    shown = methods_html(
        "A *b* `c_d_e`\nline\n\n## Refs\n- one\n  more\n- two https://doi.org/1.\n"
    )
    assert shown == (
        "<p>A <em>b</em> <code>c_d_e</code> line</p>\n<p><strong>Refs</strong></p>"
        '<ul><li>one more</li><li>two <a href="https://doi.org/1">https://doi.org/1</a>.</li></ul>'
    )


def test_columns_of_numbers_are_recognised() -> None:
    table = Table(("a", "b", "c"), (("1", "x", ""), ("", "2", "")), 2)
    assert table.numeric == (True, False, False)
