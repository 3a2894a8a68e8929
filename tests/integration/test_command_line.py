"""The command line: help, exit codes, one message per fault, nothing half-written."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from neuropipe.cli.main import COMMANDS, main
from neuropipe.config.load import read_yaml
from neuropipe.errors import ConfigError
from neuropipe.study import load_study


@pytest.fixture
def study(tmp_path):
    assert main(["init", str(tmp_path / "s"), "--preset", "worm"]) == 0
    return tmp_path / "s"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage: neuropipe" in capsys.readouterr().out


def test_unknown_words_end_with_2(capsys):
    for words in (["rnu"], ["run", "--cors", "2"], ["list", "--nothing"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def test_init_writes_a_study_that_loads_and_refuses_to_overwrite(study, capsys):
    loaded = load_study(study)
    assert loaded.config.preset == "worm"
    assert [run.label for run in loaded.runs] == ["ntf"]
    assert loaded.config.preprocess.calcium.normalise == "zscore"
    assert main(["init", str(study)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["init", str(study / "x"), "--preset", "wrom"]) == 2
    assert "Did you mean 'worm'" in capsys.readouterr().err
    assert not (study / "x" / "config" / "config.yaml").exists()


def test_every_commented_default_of_the_template_is_the_default(study):
    """Removing every # in front of a key leaves a valid configuration that changes nothing."""
    file = study / "config" / "config.yaml"
    lines = []
    for line in file.read_text().splitlines():
        bare = line.lstrip()
        active = bare.startswith("#") and bare[1:2].isalpha()
        lines.append(line.replace("#", "", 1) if active else line)
    (study / "config" / "all.yaml").write_text("\n".join(lines))
    everything = read_yaml(study / "config" / "all.yaml")
    everything["preset"] = "worm"
    plain = load_study(study)
    assert everything["preprocess"]["calcium"]["dff"]["window_s"] == 60
    assert everything["analyses"]["ntf"]["communities"]["null_draws"] == 200
    full = load_study(study, {"study": everything["study"], "analyses": everything["analyses"]})
    assert full.runs[0].settings == plain.runs[0].settings


def test_a_typo_is_one_message_without_traceback(study, capsys):
    file = study / "config" / "config.yaml"
    file.write_text(file.read_text() + "\nsede: 3\n")
    assert main(["validate", "--directory", str(study)]) == 2
    err = capsys.readouterr().err
    assert "config/config.yaml: sede: unknown key. Did you mean 'seed'?" in err
    assert "Traceback" not in err
    with pytest.raises(ConfigError):
        main(["--debug", "validate", "--directory", str(study)])


def test_no_study_here(tmp_path, capsys):
    assert main(["status", "--directory", str(tmp_path)]) == 2
    assert "neuropipe init" in capsys.readouterr().err


def test_validate_names_missing_files_and_unreadable_ones(study, capsys):
    (study / "fake.nwb").write_text("this is no NWB file")
    (study / "config" / "recordings.tsv").write_text(
        "subject\tmodality\tpath\tcohort\n"
        "a\tcalcium\tnone.h5\tx\nb\tcalcium\tfake.nwb\tx\nc\teeg\tfake.nwb\ty\n"
    )
    assert main(["validate", "--directory", str(study)]) == 2
    out = capsys.readouterr().out
    assert "MISSING_FILE" in out
    assert "sub-a_calcium: none.h5: the file does not exist" in out
    assert "fake.nwb" in out


def test_validate_of_a_path_that_is_not_there(tmp_path, capsys):
    assert main(["validate", str(tmp_path / "x.zarr")]) == 2
    assert "no such store" in capsys.readouterr().err


def test_list_shows_settings_of_one_analysis_and_reader(capsys):
    assert main(["list"]) == 0
    assert "ntf" in capsys.readouterr().out
    assert main(["list", "ntf"]) == 0
    assert "communities.null_draws" in capsys.readouterr().out
    assert main(["list", "hdf5"]) == 0
    assert "names_table" in capsys.readouterr().out
    assert main(["list", "nft"]) == 2
    assert "Did you mean 'ntf'" in capsys.readouterr().err


def test_options_after_the_target_are_ours_and_what_follows_two_dashes_is_not(study, capsys):
    words = ["--directory", str(study), "-n", "--set", "analyses.ntf.rnak=3"]
    assert main(["run", "report", *words]) == 2
    assert "Did you mean 'rank'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "report", "--forceall"])
    with pytest.raises(SystemExit):
        main(["list", "--", "x"])
    assert main(["run", "--pdb", "--directory", str(study)]) == 2
    assert "--pdb needs --here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["ingest"], "--source"),
        (["preprocess"], "--input"),
        (["quality"], "--raw"),
        (["figures", "ntf"], "--input"),
        (["assemble"], "the name of the analysis"),
        (["index"], "--inputs"),
        (["ntf", "communities"], "--input"),
    ],
)
def test_a_step_names_the_argument_that_is_missing(tmp_path, capsys, words, missing):
    assert main(["step", *words, "--output", str(tmp_path / "x")]) == 2
    assert f"{missing} is missing" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_message(study, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "report/index.html")

    monkeypatch.setattr("neuropipe.study.load_study", refuse)
    assert main(["validate", "--directory", str(study)]) == 2
    err = capsys.readouterr().err
    assert err == (
        "neuropipe: NOT_WRITABLE: report/index.html: Permission denied; check the rights of the "
        "folder, and that it is not mounted read-only, then run again: what is finished stays\n"
    )


def test_validate_opens_the_source_with_the_settings_that_will_read_it(study, capsys):
    from neuropipe.simulate.calcium_files import write_calcium_hdf5
    from neuropipe.simulate.demo import simulate_worms

    write_calcium_hdf5(simulate_worms()[0], "w01", study / "w.h5")
    table = study / "config" / "recordings.tsv"
    table.write_text("subject\tmodality\tpath\nw\tcalcium\tw.h5\n")
    file = study / "config" / "config.yaml"
    good = "{traces: imaging/dff, time: imaging/time}"
    text = file.read_text() + "\ningest: {readers: {hdf5: {kind: dff, datasets: DATASETS}}}\n"
    file.write_text(text.replace("DATASETS", good))
    assert main(["validate", "--directory", str(study)]) == 0
    file.write_text(text.replace("DATASETS", good.replace("imaging/dff", "imaging/dfff")))
    capsys.readouterr()
    assert main(["validate", "--directory", str(study)]) == 2
    assert "imaging/dfff" in capsys.readouterr().out


def test_validate_asks_about_a_column_that_is_nearly_known(study, capsys):
    table = study / "config" / "recordings.tsv"
    table.write_text("subject\tmodality\tpath\tsesion\tdose\nw\tcalcium\tw.h5\t1\t2\n")
    assert main(["validate", "--directory", str(study)]) == 2
    out = capsys.readouterr().out
    assert "'sesion' is taken for one of your own (did you mean 'session'?)" in out
    assert "dose" not in out


def test_what_the_settings_settle_is_no_issue_of_validate(study, capsys):
    from neuropipe.simulate.calcium_files import write_suite2p_folder
    from neuropipe.simulate.demo import simulate_worms

    write_suite2p_folder(simulate_worms()[0], "w01", study / "s2p")
    for ops in (study / "s2p").rglob("ops.npy"):
        ops.unlink()
    (study / "config" / "recordings.tsv").write_text("subject\tmodality\tpath\nw\tcalcium\ts2p\n")
    file = study / "config" / "config.yaml"
    file.write_text(file.read_text() + "\ningest: {readers: {suite2p: {rate_hz: 30}}}\n")
    assert main(["validate", "--directory", str(study)]) == 0
    assert "MISSING_SIDECAR" not in capsys.readouterr().out


def test_validate_says_once_where_and_under_which_key_a_setting_is_missing(study, capsys):
    from neuropipe.simulate.calcium_files import write_calcium_hdf5
    from neuropipe.simulate.demo import simulate_worms

    write_calcium_hdf5(simulate_worms()[0], "w01", study / "w.h5")
    table = study / "config" / "recordings.tsv"
    table.write_text("subject\tmodality\tpath\nw\tcalcium\tw.h5\n")
    assert main(["validate", "--directory", str(study)]) == 2
    line = next(x for x in capsys.readouterr().out.splitlines() if "SETTINGS" in x)
    assert line.count("w.h5") == 1
    assert "ingest.readers" in line
    assert "ingest.overrides" in line


def test_settings_of_a_step_must_be_json_or_a_file(tmp_path, capsys):
    words = ["step", "ntf", "fit", "--input", "x.nc", "--output", str(tmp_path / "r.nc")]
    assert main([*words, "--settings", "{broken"]) == 2
    assert "neither JSON text nor a file" in capsys.readouterr().err
    assert main([*words, "--settings", str(tmp_path / "none.yaml")]) == 2


def test_a_step_on_an_array_made_elsewhere(tmp_path, capsys):
    from neuropipe.simulate.planted_calcium import planted_calcium
    from neuropipe.store.provenance import read_dataset

    data, _ = planted_calcium(0, n_neurons=24, n_subjects=2, duration=60.0, n_motifs=1)
    data.to_netcdf(tmp_path / "my.nc", engine="h5netcdf")
    settings = tmp_path / "my.yaml"
    settings.write_text("rank: 2\nrestarts: 1\nmax_iter: 10\nsignificance: none\n")
    words = ["--input", str(tmp_path / "my.nc"), "--settings", str(settings), "--seed", "5"]
    assert main(["step", "ntf", "fit", *words, "--output", str(tmp_path / "result.nc")]) == 0
    result = read_dataset(tmp_path / "result.nc")
    assert result.sizes["component"] == 2
    assert result.attrs["seed"] == 5
    settings.write_text("rnak: 2\n")
    assert main(["step", "ntf", "fit", *words, "--output", str(tmp_path / "r2.nc")]) == 2
    assert "Did you mean 'rank'" in capsys.readouterr().err
    assert not (tmp_path / "r2.nc").exists()


def _truncated(folder):
    source = folder / "w.h5"
    source.write_bytes(source.read_bytes()[:5000])
    return source, {}


def _absent(folder):
    (folder / "w.h5").unlink()
    return folder / "w.h5", {}


def _duplicate_names(folder):
    """By default all but the surest of two equal names become unlabelled; strict refuses."""
    table = folder / "w-names.csv"
    lines = table.read_text().splitlines()
    lines[2] = lines[2].split(",")[0] + "," + lines[1].split(",", 1)[1]
    table.write_text("\n".join(lines) + "\n")
    return folder / "w.h5", {"strict": True}


def _nan_times(folder):
    import h5py
    import numpy as np

    with h5py.File(folder / "w.h5", "r+") as file:
        file["imaging/time"][7] = np.nan
    return folder / "w.h5", {}


def _text_named_nwb(folder):
    (folder / "w.nwb").write_text("this is no NWB file\n")
    return folder / "w.nwb", {"readers": {}}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncated, ["TRUNCATED", "w.h5"]),
        (_absent, ["w.h5: no such file"]),
        (_duplicate_names, ["DUPLICATE_LABEL"]),
        (_nan_times, ["BAD_TIME", "w.h5: time", "first at sample 7"]),
        (_text_named_nwb, ["NOT_THIS_FORMAT", "w.nwb"]),
    ],
)
def test_bad_input_is_one_message_exit_code_2_and_no_store(tmp_path, capsys, damage, words):
    import json

    from neuropipe.simulate.calcium_files import write_calcium_hdf5
    from neuropipe.simulate.demo import simulate_worms

    data, _ = simulate_worms()
    reader = write_calcium_hdf5(data, "w01", tmp_path / "raw" / "w.h5")
    source, changes = damage(tmp_path / "raw")
    row = {"name": "sub-w_calcium", "subject": "w", "modality": "calcium", "path": str(source)}
    settings = {"recording": row, "ingest": {"readers": {"hdf5": reader}, **changes}}
    output = tmp_path / "stores" / "sub-w_calcium.zarr"
    code = main(["step", "ingest", "--source", str(source), "--output", str(output),
                 "--settings", json.dumps(settings)])  # fmt: skip
    err = capsys.readouterr().err
    message = [line for line in err.splitlines() if line.startswith("neuropipe: ")]
    assert code == 2
    assert len(message) == 1
    assert all(word in message[0] for word in words), message
    assert "Traceback" not in err
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


def test_parts_and_sidecars_are_inputs_and_status_tells_which_is_gone(study, capsys):
    from neuropipe.plan import make_plan
    from neuropipe.simulate.bids_files import write_eeg_dataset
    from neuropipe.study import load_study

    write_eeg_dataset(study / "set")
    path = "set/sub-01/eeg/sub-01_task-flash_run-1_eeg.vhdr"
    (study / "config" / "recordings.tsv").write_text(f"subject\tmodality\tpath\n01\teeg\t{path}\n")
    file = study / "config" / "config.yaml"
    file.write_text(file.read_text() + "\npreprocess: {eeg: {line_hz: null, bandpass_hz: null}}\n")
    assert main(["run", "--directory", str(study), "--only", "sub-01_eeg", "--here"]) == 0
    job = make_plan(load_study(study))["preprocess_recording/sub-01_eeg"]
    (store,) = (study / output for output in job.outputs if output.endswith(".zarr"))
    (study / job.log).parent.mkdir(parents=True, exist_ok=True)
    (study / job.log).write_text("2026-11-23 INFO sub-01_eeg preprocess finished step preprocess\n")
    store.rename(study / "away")
    capsys.readouterr()
    main(["status", "--directory", str(study)])
    assert f"preprocess: {store.relative_to(study)} is gone" in capsys.readouterr().out
    (study / "away").rename(store)
    beside = study / path.replace("_eeg.vhdr", "_channels.tsv")
    named = str(beside.relative_to(study))
    assert named in make_plan(load_study(study))["ingest_recording/sub-01/eeg/sub-01_eeg"].inputs
    beside.unlink()
    capsys.readouterr()
    main(["status", "--directory", str(study)])
    out = capsys.readouterr().out
    assert f"source {named} is gone" in out
    assert "preprocess: follows from ingest_recording/sub-01/eeg/sub-01_eeg" in out
    assert "preprocess: follows from preprocess_recording" not in out
    added = study / path.replace("_eeg.vhdr", "_events.json")
    added.write_text("{}")
    main(["status", "--directory", str(study)])
    assert f"source {added.relative_to(study)} is new" in capsys.readouterr().out


def test_status_is_whole_on_narrow_screens_and_names_the_step_that_is_missing(study, capsys):
    from neuropipe.cli.status_command import print_matrix, print_reasons
    from neuropipe.status import Cell, summary_cells

    table = study / "config" / "recordings.tsv"
    table.write_text("subject\tmodality\tpath\nw01\tcalcium\ta.h5\n")
    labels = "".join(f"  a_long_label_{k}: {{use: ntf}}\n" for k in range(8))
    (study / "config" / "config.yaml").write_text(f"study: s\nanalyses:\n{labels}")
    loaded, name = load_study(study), "sub-w01_calcium"
    drawn = Cell("recording_figures", name, "", "missing", ("not run",), "", "")
    done = [
        Cell(rule, name, "", "done", (), "", "")
        for rule in ("ingest_recording", "preprocess_recording")
    ]
    cells = summary_cells(loaded, [*done, drawn])
    print_matrix(loaded, cells)
    print_reasons(cells)
    out = capsys.readouterr().out
    assert "a_long_label_7" in out
    assert "\u2026" not in out
    assert "missing: sub-w01_calcium preprocess: recording_figures not run\n" in out


def test_a_dry_run_prints_jobs_and_reasons_alone(study, capfd):
    (study / "config" / "recordings.tsv").write_text("subject\tmodality\tpath\n")
    assert main(["run", "-n", "--directory", str(study)]) == 0
    out = capfd.readouterr().out
    assert "report_page" in out
    assert "Host:" not in out


def test_steps_with_other_threads_follow_each_other_in_one_process():
    """Numba compiles after its threads were launched and the next step asks for more."""
    code = """
import os
from neuropipe.cli.step_command import limit_threads
limit_threads(1)
import numba
numba.set_num_threads(1)
limit_threads(2)
assert numba.njit(lambda x: x + 1)(1) == 2
assert (numba.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (1, "2")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def traced(study):
    """Return a study with one recording and the tables beside it, all of them as they should be."""
    import h5py
    import yaml

    raw = study / "raw"
    raw.mkdir()
    with h5py.File(raw / "w.h5", "w") as file:
        file["dff"] = np.random.default_rng(0).normal(size=(2, 40))
        file["time"] = np.arange(40) / 4.0
    (raw / "names.csv").write_text("roi,label\n0,AVAL\n1,AVAR\n")
    (raw / "events.tsv").write_text("onset\tduration\tlabel\n1.0\t0.5\tgo\n")
    (raw / "wiring.csv").write_text("pre,post,type,weight\nAVAL,AVAR,chemical,3\n")
    (study / "config" / "recordings.tsv").write_text(
        "subject\tmodality\tpath\treader\nw\tcalcium\traw/w.h5\thdf5\n"
    )
    datasets = {"traces": "dff", "time": "time"}
    keys = {"datasets": datasets, "kind": "dff", "names_table": "names.csv", "index_base": 0}
    config = {
        "study": "tables",
        "ingest": {
            "readers": {"hdf5": keys},
            "overrides": {"sub-w_calcium": {"events": {"path": "events.tsv", "time_unit": "s"}}},
            "connectomes": {"wiring": {"path": "raw/wiring.csv"}},
        },
    }
    (study / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return study


def test_validate_reads_the_tables_as_ingest_does(traced, capsys):
    assert main(["validate", "--directory", str(traced)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "content", "told"),
    [
        ("names.csv", "neuron_id_of_mine,text\n0,AVAL\n", "names.csv"),
        ("names.csv", "roi,label\n0,AVAL\n9,AVAR\n", "names.csv"),
        ("events.tsv", "when\tduration\tlabel\n1.0\t0.5\tgo\n", "events.tsv"),
        ("events.tsv", "onset\tduration\tlabel\nsoon\t0.5\tgo\n", "events.tsv"),
        ("wiring.csv", "from here,to there\nAVAL,AVAR\n", "wiring.csv"),
        ("wiring.csv", "pre,post,type,weight\nAVAL,AVAR,chemical,many\n", "wiring.csv"),
    ],
)
def test_validate_refuses_a_table_that_ingest_refuses(table, content, told, traced, capsys):
    (traced / "raw" / table).write_text(content)
    assert main(["validate", "--directory", str(traced)]) == 2
    out = capsys.readouterr().out
    assert "error: " in out
    assert told in out


def test_list_tells_words_to_choose_from_and_where_settings_stand(capsys):
    assert main(["list", "hmm_glm"]) == 0
    told = capsys.readouterr().out
    assert "One of recording, trials, events, blocks." in told
    assert "They stand under analyses.hmm_glm" in told
    assert main(["list", "suite2p"]) == 0
    assert "under ingest.readers.suite2p" in capsys.readouterr().out
    assert main(["list", "ingest"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{key} " in told for key in (
        "ingest.connectomes.NAME.path", "ingest.overrides.RECORDING.clock.pulses.path",
        "ingest.overrides.RECORDING.events.path",
    ))  # fmt: skip
    assert "events.clock.pulses" not in told
