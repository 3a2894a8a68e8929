"""Nothing that a user is handed runs code, and nothing leaves the study folder."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from neuropipe.assemble.selection import check_where, evaluate_where
from neuropipe.cli.step_command import read_settings
from neuropipe.config.load import check_model, read_yaml, set_key
from neuropipe.config.models import StudyConfig
from neuropipe.config.recordings import read_recordings
from neuropipe.errors import ConfigError, NeuropipeError
from neuropipe.study import load_study

SOURCE = Path(__file__).resolve().parents[2] / "src" / "neuropipe"


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def mark(tmp_path):
    """Return a file that must never appear."""
    found = tmp_path / "ran"
    yield found
    assert not found.exists()


TAGS = [
    "!!python/object/apply:pathlib.Path.touch [{}]",
    "!!python/object/new:pathlib.PosixPath [{}]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/tuple [1, 2]",
]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_of_yaml_is_refused_and_runs_nothing(tag, mark, tmp_path):
    text = tag.format(mark)
    path = tmp_path / "config.yaml"
    path.write_text(f"study: {text}\n")
    for read in (read_yaml, lambda found: read_settings(str(found))):
        with pytest.raises(ConfigError, match="not valid YAML"):
            read(path)
    with pytest.raises(ConfigError, match="not valid YAML"):
        set_key({}, f"study={text}")


def test_a_template_of_yaml_is_refused_by_us_and_by_the_workflow(mark, tmp_path, study_at):
    folder = tmp_path / "study"
    (folder / "config").mkdir(parents=True)
    code = f"__import__('pathlib').Path({str(mark)!r}).touch() or 'x'"
    text = yaml.safe_dump({"__use_yte__": True, "study": f"?{code}"})
    (folder / "config" / "config.yaml").write_text(text)
    (folder / "config" / "recordings.tsv").write_text("subject\tmodality\tpath\n")
    study = study_at(folder)
    for answer in (study.neuropipe("run"), study.snakemake("--dry-run")):
        assert answer.code != 0
        assert "__use_yte__: lets Snakemake run the Python code in the file" in answer.out


CODE = [
    "__import__('os').system('true')",
    "().__class__.__bases__",
    "quality.__class__ == 1",
    "(lambda: 1)() == 1",
    "[x for x in (1, 2)] == 1",
    "f'{quality}' == 'good'",
    "(y := 1) == 1",
    "quality[0] == 'g'",
    "9 ** 9 ** 9 > 1",
    "'a' * 1000000000 == quality",
    "quality == print",
    "await_() == 1",
    "quality == 'good'; import os",
    "quality in open('/etc/passwd')",
    "not " * 5000 + "quality",
    "not " * 900 + "quality",
    "-" * 50_000 + "1 < depth",
    "(" * 300 + "depth > 1" + ")" * 300,
    "quality == 'a\0b'\0",
]


@pytest.mark.parametrize("where", CODE, ids=lambda text: text[:20].strip())
def test_an_expression_that_is_no_comparison_is_refused(where):
    columns = {"quality": np.array(["good"]), "depth": np.array([2.0])}
    if where == "quality == print":  # a name is a column, whatever Python means by it
        with pytest.raises(ConfigError, match="no per-row coordinate 'print'"):
            evaluate_where(where, columns)
        return
    with pytest.raises(ConfigError, match=r"input\.units\.where"):
        evaluate_where(where, columns)


def test_columns_of_an_expression_are_those_of_the_data_alone():
    assert evaluate_where("len > 1", {"len": np.array([1, 2])}).tolist() == [False, True]
    assert isinstance(check_where("a == '__import__(\"os\")'"), ast.Compare)


NAMES = [
    "../up",
    "a/b",
    "/abs",
    "..",
    "a\\b",
    "a b",
    "<script>",
    "$(id)",
    "a;b",
    "{output}",
    "a\tb",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", ["subject", "session", "task", "acq", "run", "cohort"])
def test_a_name_in_the_table_cannot_leave_the_study(name, column, tmp_path):
    row = {"subject": "a", "modality": "eeg", "path": "raw/x.edf"} | {column: name}
    path = tmp_path / "recordings.tsv"
    path.write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n")
    with pytest.raises(ConfigError):
        read_recordings(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_configuration_cannot_leave_the_study(name, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "recordings.tsv").write_text("subject\tmodality\tpath\na\teeg\tx.edf\n")
    for raw in (
        {"study": "x", "analyses": {name: {"use": "ntf"}}},
        {"study": "x", "ingest": {"connectomes": {name: {"path": "w.tsv"}}}},
    ):
        with pytest.raises(ConfigError):
            load_study(tmp_path, raw)


def test_the_configuration_names_no_folder_to_write_to():
    def keys(model):
        for name, field in model.model_fields.items():
            yield name
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                yield from keys(field.annotation)

    written = re.compile(r"(output|out|result|report|work|target)_?(dir|folder|path|file)")
    assert [key for key in keys(StudyConfig) if written.search(key)] == []


def test_a_text_of_the_configuration_stays_a_text():
    for text in ("{{ 7 * 7 }}", "%(x)s", "{0.__class__}", "${HOME}", "$(touch ran)"):
        config, problems = check_model(StudyConfig, {"study": text})
        assert problems == []
        assert config.study == text


def test_words_of_a_shell_in_paths_and_settings_stay_words(mark, tmp_path, study_at):
    folder = tmp_path / "study"
    (folder / "config").mkdir(parents=True)
    (folder / "raw").mkdir()
    name = f"w 1;touch {mark.name} $(touch {mark.name}) `touch {mark.name}` '\"&|.h5"
    (folder / "raw" / name).write_bytes(b"\x89HDF\r\n\x1a\nshort")
    override = {"sub-a_calcium": {"names_table": f"$(touch {mark.name});{{output}}.csv"}}
    raw = {"study": "$(touch ran); {wildcards}", "ingest": {"overrides": override}}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(raw))
    table = f"subject\tmodality\tpath\treader\na\tcalcium\traw/{name}\thdf5\n"
    (folder / "config" / "recordings.tsv").write_text(table.replace('"', ""))
    (folder / "raw" / name).rename(folder / "raw" / name.replace('"', ""))
    study = study_at(folder)
    answer = study.neuropipe("run", "stores")
    assert answer.code == 1
    assert "TRUNCATED" in answer.out or "NOT_THIS_FORMAT" in answer.out, answer.out
    assert [path.name for path in folder.rglob("ran*")] == []


def test_checkpoints_that_hold_code_are_passed_over(mark, tmp_path):
    torch = pytest.importorskip("torch")
    from neuropipe.analyses.bicluster import checkpoint as arrays
    from neuropipe.analyses.gp_vae import checkpoint as weights

    torch.save({"signature": "s", "x": Bomb(mark)}, tmp_path / weights.FILE)
    assert weights.Checkpoint(tmp_path, "s").load() is None
    np.savez(tmp_path / "x.npz", numbers=np.array(Bomb(mark), dtype=object))
    (tmp_path / "x.npz").replace(tmp_path / arrays.FILE)
    assert arrays.Checkpoint(tmp_path, "s", 1.0).load() is None
    for content in (b"", b"PK\x03\x04 cut", pickle.dumps(Bomb(mark))):
        (tmp_path / arrays.FILE).write_bytes(content)
        (tmp_path / weights.FILE).write_bytes(content)
        assert arrays.Checkpoint(tmp_path, "s", 1.0).load() is None
        assert weights.Checkpoint(tmp_path, "s").load() is None


def test_attributes_of_datasets_are_texts_and_run_nothing(mark, tmp_path):
    import h5py

    from neuropipe.store.provenance import read_dataset, read_provenance

    path = tmp_path / "x.nc"
    with h5py.File(path, "w") as file:
        file.attrs["provenance"] = np.void(pickle.dumps(Bomb(mark)))
        file["a"] = np.arange(3)
        file["a"].attrs["units"] = np.void(pickle.dumps(Bomb(mark)))
    assert read_provenance(path) == {}
    try:
        assert read_dataset(path)["a"].size == 3
    except NeuropipeError as error:
        assert str(path) in str(error)


# Function -> what its call must hold; None: it must not be called.
CALLS = {
    "eval": None, "exec": None, "compile": None, "pickle.load": None, "pickle.loads": None,
    "joblib.load": None, "dill.load": None, "shelve.open": None, "marshal.loads": None,
    "pd.read_pickle": None, "pd.read_hdf": None, "pd.eval": None, "os.system": None,
    "os.popen": None, "yaml.unsafe_load": None, "yaml.full_load": None, "yaml.load_all": None,
    "yaml.load": "Loader=_UniqueKeyLoader", "torch.load": "weights_only=True",
    "tarfile.open": None, "zipfile.ZipFile": None, "shutil.unpack_archive": None,
    "jinja2.Environment": "autoescape=True", "jinja2.Template": None,
}  # fmt: skip
# Unpickles only what the setting `trust_pickle` asks for.
TRUSTED = ("io/npy.py",)


def calls(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if isinstance(function, ast.Call):
            yield ast.unparse(function.func), function, ast.unparse(function)


def test_no_module_calls_what_runs_code_from_data():
    faults = []
    for path in sorted(SOURCE.rglob("*.py")):
        where = path.relative_to(SOURCE).as_posix()
        for name, call, text in calls(path):
            wanted = CALLS.get(name, "")
            unsafe = wanted is None or wanted not in text
            unpickles = name == "np.load" and "allow_pickle=False" not in text
            shell = name.startswith("subprocess.") and "shell=" in text
            if unsafe or shell or (unpickles and where not in TRUSTED):
                faults.append(f"{where}:{call.lineno}: {text[:60]}")
    assert faults == []
