"""What an object has learned since it was made, as a tree of plain values, and back into another that was made alike.

A class that learns derives from `Stateful` and names, in one place, its attributes that change, with their types, and
its parts that are themselves stateful. What follows from the constructor's arguments is no state, and neither is a
buffer that is filled before it is read. A tree holds plain values and arrays only, so that restoring one runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args, get_origin

import msgspec
import numpy as np
import numpy.typing as npt

from rtgod.errors import CheckpointError

#: A tree of plain values; keys are attributes' names, or those of a mapping.
State = None | bool | int | float | str | npt.NDArray[Any] | list["State"] | tuple["State", ...] | dict[str, "State"]


class Stateful:
    """An object whose changes since it was made can be taken out, and put into another that was made alike.

    Attributes
    ----------
    changing : mapping of str to type
        Attributes that change after the object was made: numbers, strings, arrays, frozen dataclasses, named tuples;
        tuples, lists and dictionaries of these.
    parts : tuple of str
        Attributes that are stateful themselves, or None.
    """

    changing: ClassVar[Mapping[str, Any]] = {}
    parts: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, State]:
        """Everything that has changed since the object was made, its parts' included.

        Arrays are those in use, not copies: write or copy them before the object goes on.
        """
        state: dict[str, State] = {name: _plain(getattr(self, name)) for name in self.changing}
        for name in self.parts:
            part: Stateful | None = getattr(self, name)
            state[name] = None if part is None else part.state()
        return state

    def restore(self, state: State) -> None:
        """Go on from where another, made with the same arguments, was; arrays are copied.

        Raises
        ------
        CheckpointError
            If the state is not one of such an object; this one must then not be used any more.
        """
        names = {*self.changing, *self.parts}
        if not isinstance(state, dict) or state.keys() != names:
            raise CheckpointError(f"{type(self).__name__}: a state of {sorted(names)} is needed, not {_shown(state)}")
        for name, kind in self.changing.items():
            setattr(self, name, self._restored(name, kind, state[name]))
        for name in self.parts:
            part: Stateful | None = getattr(self, name)
            if part is not None:
                part.restore(state[name])
            elif state[name] is not None:
                raise CheckpointError(f"{type(self).__name__}.{name}: there is a state, but here is no such part")

    def _restored(self, name: str, kind: Any, value: State) -> Any:
        try:
            restored = msgspec.convert(value, kind, dec_hook=_array)
        except (msgspec.ValidationError, OverflowError) as error:
            raise CheckpointError(f"{type(self).__name__}.{name}: {error}") from error
        now = getattr(self, name)
        if isinstance(now, np.ndarray) and isinstance(restored, np.ndarray) and now.shape != restored.shape:
            raise CheckpointError(f"{type(self).__name__}.{name}: shape {restored.shape}, here it is {now.shape}")
        return restored


def _plain(value: Any) -> State:
    plain: State = msgspec.to_builtins(value, builtin_types=(np.ndarray,), enc_hook=_number)
    return plain


def _number(value: object) -> bool | int | float:
    """Numpy's numbers as Python's; a float64 stays what it is to the last bit."""
    if isinstance(value, np.bool_ | np.integer | np.float64):
        number: bool | int | float = value.item()
        return number
    raise TypeError(f"{type(value).__name__} has no place in a state")


def _array(kind: Any, value: object) -> npt.NDArray[Any]:
    """A writable copy of an array, whose type must be exactly the one that is declared."""
    if get_origin(kind) is not np.ndarray:
        raise TypeError(f"{kind} has no place in a state")
    dtype = np.dtype(get_args(get_args(kind)[1])[0])
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        found = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"an array of {dtype} is needed, not {found}")
    return np.array(value, order="C", copy=True)


def _shown(state: State) -> str:
    return str(sorted(state)) if isinstance(state, dict) else type(state).__name__
