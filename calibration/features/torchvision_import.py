"""Import torchvision beside a torch that cannot load its compiled operators.

torchvision's wheel is built against CUDA; next to a CPU build of torch its extension does not load, and the import
fails at operators that only detection models call. Declaring those two lets everything else work.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from rtgod.errors import MissingDependencyError

#: A declaration is withdrawn when its library object is collected, so this list keeps it until the process ends.
_declared: list[object] = []


def import_torchvision() -> ModuleType:
    """Return the `torchvision` module.

    Raises
    ------
    MissingDependencyError
        If torch or torchvision is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise _missing("torch") from error
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise _missing("torchvision")
    if not hasattr(torch.ops.torchvision, "nms"):
        try:
            for extension in Path(spec.origin).parent.glob("_C*"):
                torch.ops.load_library(extension)
        except OSError:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
    import torchvision

    return torchvision


def _missing(package: str) -> MissingDependencyError:
    return MissingDependencyError(f"{package} is not installed; run: python -m pip install 'rtgod[calibration]'")
