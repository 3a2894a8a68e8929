"""Downloads of public studies, from a server on this machine that fails in every way."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from neuropipe.cli.main import main
from neuropipe.errors import ConfigError, DataError, MissingInput
from neuropipe.recipes.download import CHUNK, DownloadError, fetch_files
from neuropipe.recipes.recipe import Recipe, find_recipe, recipe_folders
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.study import load_study

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Archive:
    """What the server holds, what goes wrong with it, and what it was asked for."""

    def __init__(self):
        self.files, self.asked = {"/a.bin": BODY}, []
        self.cut, self.fail, self.tag, self.ranges = {}, {}, '"one"', True

    def answer(self, handler):
        path, wanted = handler.path, handler.headers.get("Range")
        self.asked.append((path, wanted))
        failure = self.fail[path].pop(0) if self.fail.get(path) else None
        if failure:
            return handler.send_error(failure)
        if path not in self.files:
            return handler.send_error(404)
        body, start = self.files[path], 0
        same = handler.headers.get("If-Range") == self.tag
        if wanted and self.ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(body):
                return handler.send_error(416)
        handler.send_response(206 if start else 200)
        if self.tag:
            handler.send_header("ETag", self.tag)
        rest = body[start:]
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        limit = self.cut.get(path, [])
        handler.wfile.write(rest[: limit.pop(0)] if limit else rest)
        handler.close_connection = True
        return None


@pytest.fixture
def archive():
    """Serve an `Archive`; its attribute `url` is the address."""
    held = Archive()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            held.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


def recipe_of(archive, *files, **given):
    return Recipe.model_validate(
        {"title": "t", "archive": "x", "accession": "1", "version": None, "licence": None,
         "page": "p", "base_url": archive.url,
         "files": list(files) or [{"path": "a.bin", "sha256": SHA, "size": len(BODY)}], **given}
    )  # fmt: skip


def fetch(recipe, folder):
    return fetch_files(recipe, folder, pause_s=0.0)


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_file_is_fetched_once_and_checked_again(archive, tmp_path):
    (first,) = fetch(recipe_of(archive), tmp_path)
    assert (first.state, first.sha256, first.verified) == ("fetched", SHA, True)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    (second,) = fetch(recipe_of(archive), tmp_path)
    assert second.state == "present"
    assert len(archive.asked) == 1
    assert names(tmp_path) == ["a.bin", "checksums.json"]


def test_a_broken_connection_is_resumed_where_it_ended(archive, tmp_path):
    archive.cut["/a.bin"] = [300_000, 200_000]
    fetch(recipe_of(archive), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    # A broken connection loses less than one chunk.
    starts = [int(re.search(r"\d+", wanted)[0]) for _, wanted in archive.asked[1:]]
    assert archive.asked[0][1] is None
    assert 300_000 - CHUNK < starts[0] <= 300_000
    assert starts[0] + 200_000 - CHUNK < starts[1] <= starts[0] + 200_000


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(archive, tmp_path):
    archive.cut["/a.bin"] = [100_000]
    archive.fail["/a.bin"] = [None, 503, 503, 503, 503]
    recipe = recipe_of(archive)
    with pytest.raises(DownloadError, match="gave up after 5 tries, fetch again to resume"):
        fetch(recipe, tmp_path)
    kept = (tmp_path / "a.bin.part").stat().st_size
    assert 100_000 - CHUNK < kept <= 100_000
    assert not (tmp_path / "a.bin").exists()
    fetch(recipe, tmp_path)
    assert archive.asked[-1] == ("/a.bin", f"bytes={kept}-")
    assert names(tmp_path) == ["a.bin", "checksums.json"]


@pytest.mark.parametrize("change", ["another file", "no ranges", "no tag"])
def test_a_part_that_cannot_be_continued_is_fetched_anew(archive, tmp_path, change):
    (tmp_path / "a.bin.part").write_bytes(b"old" * 1000)
    (tmp_path / "a.bin.part.etag").write_text('"old"' if change == "another file" else '"one"')
    if change == "no ranges":
        archive.ranges = False
    if change == "no tag":
        (tmp_path / "a.bin.part.etag").unlink()
    fetch(recipe_of(archive), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_part_longer_than_the_file_is_dropped(archive, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BODY + b"more")
    (tmp_path / "a.bin.part.etag").write_text('"one"')
    fetch(recipe_of(archive), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_that_fails_once_is_asked_again(archive, tmp_path, status):
    archive.fail["/a.bin"] = [status]
    fetch(recipe_of(archive), tmp_path)
    assert len(archive.asked) == 2
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_server_that_always_fails_is_told(archive, tmp_path):
    archive.fail["/a.bin"] = [500] * 9
    with pytest.raises(DownloadError, match="answers 500"):
        fetch(recipe_of(archive), tmp_path)
    assert len(archive.asked) == 5
    archive.fail["/a.bin"] = [403]
    with pytest.raises(DownloadError, match="403 Forbidden; is the address"):
        fetch(recipe_of(archive), tmp_path)
    assert names(tmp_path) == []


def test_a_wrong_checksum_leaves_nothing_under_the_name(archive, tmp_path):
    archive.files["/a.bin"] = BODY[:-1] + b"x"
    with pytest.raises(DataError, match="checksum is not the published one"):
        fetch(recipe_of(archive), tmp_path)
    assert names(tmp_path) == []


def test_a_wrong_size_leaves_nothing_under_the_name(archive, tmp_path):
    recipe = recipe_of(archive, {"path": "a.bin", "size": len(BODY) - 5})
    with pytest.raises(DataError, match="bytes, the archive states"):
        fetch(recipe, tmp_path)
    assert names(tmp_path) == []


def test_a_changed_file_is_fetched_again(archive, tmp_path):
    for recipe in (recipe_of(archive), recipe_of(archive, {"path": "a.bin"})):
        fetch(recipe, tmp_path)
        (tmp_path / "a.bin").write_bytes(b"edited")
        (again,) = fetch(recipe, tmp_path)
        assert again.state == "fetched"
        assert (tmp_path / "a.bin").read_bytes() == BODY


def test_without_a_published_checksum_the_first_one_is_recorded(archive, tmp_path):
    recipe = recipe_of(archive, {"path": "a.bin"})
    (first,) = fetch(recipe, tmp_path)
    assert not first.verified
    assert json.loads((tmp_path / "checksums.json").read_text()) == {"a.bin": SHA}


def test_a_missing_file_is_told_and_an_optional_one_left_out(archive, tmp_path):
    with pytest.raises(MissingInput, match=r"b\.bin: the archive has no such file"):
        fetch(recipe_of(archive, {"path": "b.bin"}), tmp_path)
    files = [{"path": "b.bin", "optional": True}, {"path": "a.bin", "sha256": SHA}]
    found = fetch(recipe_of(archive, *files), tmp_path)
    assert {f.path: f.state for f in found} == {"a.bin": "fetched", "b.bin": "absent"}


@pytest.mark.parametrize(
    "path", ["../a", "/etc/a", "x/../../a", "~/a", "C:/a", "C:a", "..\\a", "", "a\0b"]
)
def test_a_path_out_of_the_folder_is_refused(archive, path):
    with pytest.raises(ValueError, match="leads out of the folder"):
        recipe_of(archive, {"path": path, "url": f"{archive.url}/a.bin"})


@pytest.mark.parametrize("name", ["out", "out.part", "out.part.etag"])
def test_a_link_out_of_the_folder_is_refused(archive, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / name).symlink_to(outside / "a.bin")
    with pytest.raises(DataError, match="a link leads out"):
        fetch(recipe_of(archive, {"path": "out", "url": f"{archive.url}/a.bin"}), folder)
    (folder / "deep").symlink_to(outside)
    with pytest.raises(DataError, match="a link leads out"):
        fetch(recipe_of(archive, {"path": "deep/a", "url": f"{archive.url}/a.bin"}), folder)
    assert names(outside) == []
    assert archive.asked == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/a", "a.bin"])
def test_only_web_addresses_are_fetched(archive, url):
    with pytest.raises(ValueError, match="no web address"):
        recipe_of(archive, {"path": "a", "url": url})


# --- recipes ---------------------------------------------------------------------------------

SHIPPED = ("eeg_parkinson_rest", "fmri_haxby", "mc_maze", "neuropixels_visual_coding",
           "worm_neuropal")  # fmt: skip


def test_five_studies_of_five_kinds_are_shipped():
    assert tuple(recipe_folders()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_is_a_study_that_lacks_only_its_files(name, tmp_path, capsys):
    folder, recipe = find_recipe(name)
    shutil.copytree(folder, tmp_path / "config")
    study = load_study(tmp_path)
    fetched = {f"raw/{file.path}" for file in recipe.files}
    assert {row.path for row in study.recordings} <= fetched
    assert recipe.expected.recordings == len(study.recordings)
    known = {row.name for row in study.recordings}
    stated = recipe.expected
    assert {*stated.rows, *stated.rates_hz, *stated.events} <= known
    assert all(run.collections for run in study.runs)
    assert main(["validate", "--directory", str(tmp_path)]) == 2
    told = capsys.readouterr().out
    assert told.count("MISSING_FILE") == 1 and told.count("error:") == 1
    assert "neuropipe fetch" in told
    assert len(known) == 1 or f"{len(known)} times" in told
    assert len(known) > 10 or all(row.path in told for row in study.recordings)


def test_an_unknown_recipe_and_wrong_keys_are_named(tmp_path, capsys):
    assert main(["fetch", "mc_mase"]) == 2
    assert "Did you mean 'mc_maze'?" in capsys.readouterr().err
    assert main(["fetch"]) == 2
    shutil.copytree(recipe_folders()["mc_maze"], tmp_path / "r")
    text = (tmp_path / "r" / "recipe.yaml").read_text()
    (tmp_path / "r" / "recipe.yaml").write_text(text.replace("path: sub", "path: ../sub"))
    with pytest.raises(ConfigError, match=r"files\.0\.path: .*leads out of the folder"):
        find_recipe(str(tmp_path / "r"))
    (tmp_path / "r" / "config.yaml").unlink()
    with pytest.raises(MissingInput, match=r"config\.yaml"):
        find_recipe(str(tmp_path / "r"))


def test_the_list_shows_accession_licence_and_size(capsys):
    assert main(["fetch", "--list"]) == 0
    text = capsys.readouterr().out
    assert "DANDI DANDI:000128, CC-BY-4.0, download 691 MB" in text
    assert "licence not confirmed" in text


def test_a_fetched_study_is_valid_and_ingested_as_expected(archive, tmp_path, capsys):
    source = tmp_path / "source" / "a.nwb"
    source.parent.mkdir()
    write_spike_nwb(simulate_spikes((2.0, 8.0), 20.0, trials=3, seed=1), source)
    archive.files["/a.nwb"] = source.read_bytes()
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    about = {"title": "Simulated", "archive": "here", "accession": "1", "version": "1",
             "licence": "CC0", "page": archive.url, "base_url": archive.url,
             "files": [{"path": "a.nwb", "size": source.stat().st_size}],
             "expected": {"recordings": 1, "rows": {"sub-1_spikes": 2}}}  # fmt: skip
    (recipe / "recipe.yaml").write_text(yaml.safe_dump(about))
    (recipe / "config.yaml").write_text("study: simulated\nrecordings: config/recordings.tsv\n")
    (recipe / "recordings.tsv").write_text("subject\tmodality\tpath\n1\tspikes\traw/a.nwb\n")
    study = tmp_path / "study"
    assert main(["fetch", str(recipe), "--directory", str(study), "-n"]) == 0
    assert not study.exists()
    assert main(["fetch", str(recipe), "--directory", str(study)]) == 0
    assert "1 files have no published checksum" in capsys.readouterr().out
    assert main(["validate", "--directory", str(study)]) == 0
    assert main(["run", "--directory", str(study), "--only", "sub-1_spikes", "--here"]) == 0
    capsys.readouterr()
    assert main(["fetch", "--check", "--directory", str(study)]) == 0
    assert "sub-1_spikes: 2 rows, as expected" in capsys.readouterr().out
    text = (study / "config" / "recipe.yaml").read_text().replace("spikes: 2", "spikes: 9")
    (study / "config" / "recipe.yaml").write_text(text)
    assert main(["fetch", "--check", "--directory", str(study)]) == 2
    assert "sub-1_spikes: 2 rows, expected 9" in capsys.readouterr().err
    assert Path(study / "raw" / "a.nwb").read_bytes() == source.read_bytes()
