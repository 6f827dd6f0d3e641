"""Files that have their full length before their content, as copies on a share may: told by zeros at their end."""

from __future__ import annotations

from collections.abc import Hashable

from rtgod.messages import Array

#: Time for which a file must not change until it is taken for whole, if nothing else tells, seconds.
STABLE_S = 0.5
#: The same for one that ends with more zeros than those before it, seconds.
FILLED_S = 2.0
#: Bytes that are 0 at the end of voxels by chance, and no more than this share of all; copies are written in more.
_FEW, _FEW_SHARE = 512, 1 / 8
#: Voxels that are looked at at once.
_BLOCK = 4096


class Filling:
    """Judge of whether voxels are written to their end, kind by kind.

    Those that end with zeros are taken if earlier ones of their kind ended so, too, as those of a masked image do, or
    once their file has not changed for a while.
    """

    def __init__(self) -> None:
        self._most: dict[Hashable, int] = {}
        self._have_blank: set[Hashable] = set()

    def wait_s(self, kind: Hashable, n_blank: int, n_bytes: int) -> float:
        """Return for how long a file must not have changed until it is taken.

        Parameters
        ----------
        kind : hashable
            What files share that end alike.
        n_blank : int
            Bytes at the end of the voxels that are 0.
        n_bytes : int
            Bytes of all voxels.

        Returns
        -------
        float
            Seconds.
        """
        if n_blank == n_bytes:
            return STABLE_S if kind in self._have_blank else FILLED_S
        n_few = min(_FEW, _FEW_SHARE * n_bytes)
        return 0.0 if n_blank <= self._most.get(kind, 0) + n_few else FILLED_S

    def note(self, kind: Hashable, n_blank: int, n_bytes: int) -> None:
        """Note how voxels end that were taken.

        Parameters
        ----------
        kind : hashable
        n_blank : int
        n_bytes : int
        """
        if n_blank == n_bytes:
            self._have_blank.add(kind)
        else:
            self._most[kind] = max(self._most.get(kind, 0), n_blank)


def n_blank_in(raw: bytes) -> int:
    """Count the bytes at the end of others that are 0.

    Parameters
    ----------
    raw : bytes
    """
    return len(raw) - len(raw.rstrip(b"\0")) if raw.endswith(b"\0") else 0


def n_blank_voxels(voxels: Array) -> int:
    """Count the bytes of voxels that are 0 after the last other one.

    Parameters
    ----------
    voxels : ndarray
        In the order in which they lie in a file, the last axis first.
    """
    flat = voxels.reshape(-1)
    n_looked = 0
    while n_looked < flat.size:  # from the end, as most end with other numbers
        end = flat.size - n_looked
        (found,) = flat[max(end - _BLOCK, 0) : end].nonzero()
        if found.size:
            return (n_looked + min(_BLOCK, end) - 1 - int(found[-1])) * int(flat.itemsize)
        n_looked += min(_BLOCK, end)
    return int(voxels.nbytes)
