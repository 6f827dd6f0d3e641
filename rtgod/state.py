"""State of objects as a tree of plain values, which can be restored into another object made with the same arguments.

A class that learns derives from `Stateful` and names, in one place, its attributes that change, with their types, and
its parts that are stateful themselves. Attributes that follow from the constructor's arguments are not state, and
neither are buffers that are filled before they are read. A tree holds only plain values and arrays, so that restoring
it runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args, get_origin

import msgspec
import numpy as np
import numpy.typing as npt

from rtgod.errors import CheckpointError

#: A tree of plain values; keys are names of attributes, or keys of a mapping.
State = None | bool | int | float | str | npt.NDArray[Any] | list["State"] | tuple["State", ...] | dict[str, "State"]


class Stateful:
    """Base of objects whose state can be read, and restored into another object made with the same arguments.

    Attributes
    ----------
    changing : mapping of str to type
        Attributes that change after the object was made, with their types: numbers, strings, arrays, frozen
        dataclasses, named tuples; and tuples, lists and dictionaries of these.
    parts : tuple of str
        Names of attributes that are stateful themselves, or None.
    """

    changing: ClassVar[Mapping[str, Any]] = {}
    parts: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, State]:
        """Return everything that has changed since the object was made, including the state of its parts.

        Arrays are those in use, not copies: write or copy them before the object is used further.
        """
        state: dict[str, State] = {name: _plain(getattr(self, name)) for name in self.changing}
        for name in self.parts:
            part: Stateful | None = getattr(self, name)
            state[name] = None if part is None else part.state()
        return state

    def restore(self, state: State) -> None:
        """Take over the state of another object, which was made with the same arguments; arrays are copied.

        Parameters
        ----------
        state : dict of str to State
            From `state` of the other object.

        Raises
        ------
        CheckpointError
            If it is not the state of such an object; this object must then not be used any more.
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
        current = getattr(self, name)
        if isinstance(current, np.ndarray) and isinstance(restored, np.ndarray) and current.shape != restored.shape:
            raise CheckpointError(f"{type(self).__name__}.{name}: shape {restored.shape}, here it is {current.shape}")
        return restored


def _plain(value: Any) -> State:
    plain: State = msgspec.to_builtins(value, builtin_types=(np.ndarray,), enc_hook=_number)
    return plain


def _number(value: object) -> bool | int | float:
    """Convert numpy's numbers to Python's; a float64 keeps its value to the last bit."""
    if isinstance(value, np.bool_ | np.integer | np.float64):
        number: bool | int | float = value.item()
        return number
    raise TypeError(f"{type(value).__name__} has no place in a state")


def _array(kind: Any, value: object) -> npt.NDArray[Any]:
    """Return a writable copy of an array, whose type must be exactly the declared one."""
    if get_origin(kind) is not np.ndarray:
        raise TypeError(f"{kind} has no place in a state")
    dtype = np.dtype(get_args(get_args(kind)[1])[0])
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        given = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"an array of {dtype} is needed, not {given}")
    return np.array(value, order="C", copy=True)


def _shown(state: State) -> str:
    return str(sorted(state)) if isinstance(state, dict) else type(state).__name__
