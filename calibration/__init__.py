"""Everything offline: features, training, evaluation and the bundles that the server loads.

`preprocess` is its part of the Python API: imported when it is first asked for, as the names of `rtgod` are.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration.samples.preprocess import preprocess as preprocess

__all__ = ["preprocess"]

# Not for type checkers, which would take any misspelt name for one that is found here.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from calibration.samples.preprocess import preprocess

        return preprocess

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
