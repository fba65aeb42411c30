"""Lets `import torchvision` work where its compiled part cannot load.

vLLM's CPU wheel requires torchvision, and where only the public package index is reachable that is
a CUDA build, whose library does not load beside a CPU torch. `import torchvision` then fails with
`operator torchvision::nms does not exist`. Gemma's path uses torchvision's Python code only, so two
declared and never called operators are enough.

The set-up copies this module into the environment's site-packages and imports it from a `.pth`
file, because the import must work in every process: Ray's workers, vLLM's engine process, and the
one in which vLLM inspects model classes. Before the first `import torchvision` it only adds a
finder, without importing torch (about 1 ms). Where the compiled part loads it changes nothing.
"""

import os.path
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

# Unloading a torch Library takes its operators with it, so they are kept for the process' life.
_libraries: list[object] = []

_MISSING = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare_missing_operators(package: str) -> bool:
    """Declares what torchvision registers shapes for, unless its own library can be loaded.

    Args:
        package: The folder of the torchvision package.

    Returns:
        Whether the operators had to be declared.
    """
    from pathlib import Path  # 15 ms, so not in every process that starts

    import torch

    for library in sorted(Path(package).glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return False
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for name in _MISSING:
        declared.define(name + _SIGNATURE)
    _libraries.append(declared)
    return True


class _Loader(SourceFileLoader):
    """Loads torchvision as usual, after seeing to its operators."""

    def exec_module(self, module: ModuleType) -> None:
        declare_missing_operators(os.path.dirname(self.path))
        super().exec_module(module)


class _Finder:
    """Steps in for the top-level package alone; looking for it, as transformers does, imports nothing."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
