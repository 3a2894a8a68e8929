"""The shape of the code: who imports whom, how heavy an import is, how long a module gets."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import neuropipe
from neuropipe.analyses.registry import analyses
from neuropipe.config.models import StudyConfig
from neuropipe.config.template import settings_rows
from neuropipe.io.registry import readers
from neuropipe.study import section_model

PACKAGE = Path(neuropipe.__file__).resolve().parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"errors", "logs", "seeds", "threads"}
# layer -> layers that it may import; "" stands for the package itself.
ALLOWED = {
    "": {"assemble", "browse", "export", "store", "study"},
    "browse": {"", "analyses.registry", "plotting", "store", "study"},
    "config": {"analyses.registry", "store", "study"},
    "store": {"config"},
    "io": {"config", "store"},
    "preprocess": {"config", "store"},
    "assemble": {"config", "store", "preprocess"},
    "stats": set(),
    "plotting": {"store"},
    "simulate": {"config", "store", "io"},
    "export": {"store"},
    "recipes": {"config", "store"},
    "analyses": {"config", "store", "stats", "plotting", "simulate", "analyses.registry"},
    "study": {"config", "store", "analyses.registry", "io", "assemble"},
    "code_sets": {"config", "analyses.registry", "io"},
    "sources": {"config", "study", "io"},
    "sizes": {"analyses.registry", "config", "store", "study"},
    "plan": {
        "code_sets",
        "config",
        "store",
        "analyses.registry",
        "io",
        "sizes",
        "sources",
        "study",
    },
    "status": {"store", "plan", "study"},
    "workflow": {"store", "plan", "study"},
    "report": {"config", "store", "stats", "analyses.registry", "plotting", "study", "status"},
    "cli": {"*"},
    "__main__": {"cli"},
}
LAYER_OF = {"analyses.registry": "analyses"}
KERNEL_PACKAGES = {"numpy", "scipy", "numba", "polyagamma", "torch"}
HEAVY = ("torch", "pyro", "sklearn", "mne", "pynwb", "matplotlib", "xarray", "nilearn", "zarr")
FORBIDDEN_NAMES = {"utils", "helpers", "misc", "core", "common", "util", "helper"}


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def layer(dotted: str) -> str:
    parts = dotted.split(".")
    return ".".join(parts[:2]) if parts[:2] == ["analyses", "registry"] else parts[0]


def own_layer(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return ""
    return "analyses.registry" if parts == ("analyses", "registry") else parts[0]


def imported(path: Path) -> set[str]:
    """Return every dotted name that a module imports at run time, also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_follow_the_direction(path):
    here = own_layer(path)
    allowed = set() if here in LEAVES else ALLOWED[LAYER_OF.get(here, here)] | LEAVES | {here}
    wrong = []
    for name in imported(path):
        if not name.startswith("neuropipe."):
            continue
        there = layer(name.removeprefix("neuropipe."))
        if "*" not in allowed and there not in allowed and there != "__version__":
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_an_analysis_does_not_import_another(path):
    parts = path.relative_to(PACKAGE).parts
    if parts[0] != "analyses" or len(parts) < 3:
        return
    for name in imported(path):
        other = name.split(".")[2] if name.startswith("neuropipe.analyses.") else "."
        if (PACKAGE / "analyses" / other / "spec.py").exists():
            assert name.split(".")[2] == parts[1], f"{relative(path)} imports {name}"


KERNELS = [p for p in MODULES if "kernels" in p.parts or p.stem == "kernels" or "stats" in p.parts]


@pytest.mark.parametrize("path", KERNELS, ids=relative)
def test_kernels_are_pure_array_code(path):
    outside = {
        name.split(".")[0] for name in imported(path) if not name.startswith("neuropipe.")
    } - set(sys.stdlib_module_names)
    assert outside <= KERNEL_PACKAGES, f"{relative(path)} imports {outside - KERNEL_PACKAGES}"
    assert "logging" not in imported(path)


def test_nothing_imports_snakemake():
    for path in MODULES:
        assert not any(name.split(".")[0] == "snakemake" for name in imported(path)), path


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("module", ["neuropipe", "neuropipe.workflow", "neuropipe.cli.main"])
def test_import_leaves_heavy_packages_alone(module):
    code = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    assert run_python(code) == ""


def test_loading_a_study_leaves_heavy_packages_alone(tmp_path):
    code = (
        "import sys; from neuropipe.workflow import Workflow; from pathlib import Path\n"
        f"root = Path({str(tmp_path)!r}); (root / 'config').mkdir()\n"
        "(root / 'config/recordings.tsv').write_text("
        "'subject\\tmodality\\tpath\\na\\tcalcium\\tx.csv\\n')\n"
        "Workflow({'study': 'x', 'analyses': {'ntf': {}}}, root)\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert run_python(code) == ""


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_stay_small_and_say_what_they_are(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 500, f"{relative(path)} is too long"
    assert path.stem not in FORBIDDEN_NAMES
    assert ast.get_docstring(ast.parse(text)), f"{relative(path)} has no docstring"


def test_every_setting_has_a_description_and_a_default_that_json_can_hold():
    models = [StudyConfig, *[section_model(a) for a in analyses().values()]]
    models += [reader.settings for reader in readers().values()]
    for model in models:
        for key, _, description in settings_rows(model):
            assert description.strip().endswith((".", ")", "?")), f"{model.__name__}: {key}"


def test_text_names_no_machine_and_no_author():
    root = PACKAGE.parents[1]
    for path in [*MODULES, *sorted((root / "tests").rglob("*.py"))]:
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        assert "/work/" not in text, path
        assert "/root/" not in text, path


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_fault_of_a_source_says_what_to_do(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "IngestError":
            continue
        given = [*node.args, *(k.value for k in node.keywords if k.arg == "hint")]
        unpacked = any(isinstance(argument, ast.Starred) for argument in given)
        empty = isinstance(given[-1], ast.Constant) and not given[-1].value
        assert unpacked or (len(given) == 4 and not empty), f"{relative(path)}:{node.lineno}"
