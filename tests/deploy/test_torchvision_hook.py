"""torchvision imports where its compiled part does not load, and is left alone where it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOOK = Path(__file__).resolve().parents[2] / "deploy" / "environment" / "gemstream_torchvision.py"

# Stand-ins, so that both situations can be had on any machine, and in a fraction of torch's 2 s.
TORCH = """
class ops:
    @staticmethod
    def load_library(path):
        if "broken" in open(path).read():
            raise OSError(path + ": undefined symbol")

class library:
    declared = []

    class Library:
        def __init__(self, namespace, kind):
            self.namespace = namespace

        def define(self, schema):
            library.declared.append(self.namespace + "::" + schema)
"""
TORCHVISION = """
import torch
found = [schema.partition("(")[0] for schema in torch.library.declared]
"""


def _run(folder: Path, code: str, compiled: str | None) -> str:
    """Runs code in a process of its own with the hook loaded and the stand-ins on its path."""
    (folder / "torch.py").write_text(TORCH)
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(TORCHVISION)
    (folder / "torchvision" / "ops.py").write_text("")
    if compiled is not None:
        (folder / "torchvision" / "_C.so").write_text(compiled)
    (folder / HOOK.name).write_text(HOOK.read_text())
    # -I keeps the environment's own hook and packages out (with -S), as in a bare interpreter.
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); import {HOOK.stem}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_missing_operators_are_declared(tmp_path: Path) -> None:
    out = _run(tmp_path, "import torchvision; print(torchvision.found)", compiled="broken")
    assert out == "['torchvision::nms', 'torchvision::qnms']"


def test_a_package_without_a_compiled_part_gets_them_too(tmp_path: Path) -> None:
    out = _run(tmp_path, "from torchvision import ops, found; print(len(found))", compiled=None)
    assert out == "2"


def test_a_compiled_part_that_loads_is_left_alone(tmp_path: Path) -> None:
    assert _run(tmp_path, "import torchvision; print(torchvision.found)", compiled="fine") == "[]"


def test_looking_for_it_imports_nothing(tmp_path: Path) -> None:
    code = "import importlib.util as u; print(u.find_spec('torchvision').name, 'torch' in sys.modules)"
    assert _run(tmp_path, code, compiled="broken") == "torchvision False"


def test_other_packages_and_absence_are_none_of_its_business(tmp_path: Path) -> None:
    code = (
        "import shutil, importlib.util as u\n"
        f"shutil.rmtree({str(tmp_path / 'torchvision')!r})\n"
        "print(u.find_spec('torchvision'), u.find_spec('json').name)"
    )
    assert _run(tmp_path, code, compiled=None) == "None json"


def test_the_real_one_imports_in_a_spawned_process() -> None:
    """The one that vLLM needs: here with whatever build of torchvision this environment has."""
    code = "import torchvision; import torchvision.transforms.v2; print(torchvision.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0.")
