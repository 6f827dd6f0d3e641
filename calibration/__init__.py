"""Everything offline: features, training, evaluation and the bundles that the server loads.

`preprocess` is the part of the Python API in this package; it is imported at its first use, as are `rtgod`'s names.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration.samples.preprocess import preprocess as preprocess

__all__ = ["preprocess"]

# Hidden from type checkers, which would otherwise accept any misspelt name of this module.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from calibration.samples.preprocess import preprocess

        return preprocess

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
