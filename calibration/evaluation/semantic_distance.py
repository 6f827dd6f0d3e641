"""Distance of categories in meaning, by a table of hypernyms, and a test whether errors are near the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from math import factorial
from pathlib import Path

import numpy as np

from calibration.metrics.permutation import N_PERMUTATIONS, share_at_least, spread_out
from rtgod.errors import InputError
from rtgod.messages import Float64Array, Int32Array

#: Parent of categories without one; no category of a table has an empty name.
_ROOT = ""


@dataclass(frozen=True, slots=True, eq=False)
class Hypernyms:
    """The is-a graph: the parents of every category.

    Categories without a parent hang below one root that the table does not name, as in WordNet::Similarity (Pedersen
    et al. 2004): ImageNet's table has a dozen of these, and with the root any two categories have a common ancestor.

    Attributes
    ----------
    parents : dict of str to list of str
        Parents of each category.
    """

    parents: dict[str, list[str]]

    @classmethod
    def read(cls, path: Path) -> Hypernyms:
        """Read a table of ``parent child`` lines, as ImageNet distributes it (`wordnet.is_a.txt`).

        Parameters
        ----------
        path : Path

        Raises
        ------
        InputError
            If it cannot be read, a line is not two identifiers, or categories are kinds of each other in a circle.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"hypernyms {path}: cannot be read as text ({error})") from error
        parents: dict[str, list[str]] = {}
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words:
                continue
            if len(words) != 2 or words[0] == words[1]:
                raise InputError(f"hypernyms {path}, line {number}: {line!r} is not two categories, `parent child`")
            parent, child = words
            parents.setdefault(parent, [])
            parents.setdefault(child, []).append(parent)
        if not parents:
            raise InputError(f"hypernyms {path}: empty; it needs a `parent child` line for each link")
        try:
            TopologicalSorter(parents).prepare()
        except CycleError as error:
            circle = " > ".join(error.args[1])
            raise InputError(f"hypernyms {path}: {circle} is a circle of kinds; take one link out") from error
        return cls({category: above or [_ROOT] for category, above in parents.items()})

    def __contains__(self, category: str) -> bool:
        return category in self.parents

    def distance(self, a: str, b: str) -> int:
        """Count the links of the shortest way from one category up to a common ancestor and down to the other.

        Parameters
        ----------
        a, b : str

        Raises
        ------
        InputError
            If one is not in the table.
        """
        return int(self.distances([a], [b])[0, 0])

    def distances(self, a: Sequence[str], b: Sequence[str]) -> Int32Array:
        """Return WordNet's path distance, in links, from each of `a` to each of `b`: shape (n_a, n_b), int32.

        The shortest way leads through a common ancestor, which may be one of the two (Rada et al. 1989). A common
        descendant is no way: a steeplechaser is a horse and a racer, but that brings a horse no nearer to a greyhound.

        Parameters
        ----------
        a, b : sequence of str

        Raises
        ------
        InputError
            If one is not in the table.
        """
        if unknown := sorted({category for category in (*a, *b) if category not in self}):
            listed = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            raise InputError(f"categories that the table of hypernyms does not have: {listed}")
        up, down = self._below_ancestors(a), self._below_ancestors(b)
        links = np.full((len(a), len(b)), np.iinfo(np.int32).max, np.int32)
        for ancestor in up.keys() & down.keys():
            (rows, links_up), (columns, links_down) = np.transpose(up[ancestor]), np.transpose(down[ancestor])
            pairs = np.ix_(rows, columns)
            links[pairs] = np.minimum(links[pairs], np.add.outer(links_up, links_down))
        return links

    def _below_ancestors(self, categories: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
        """Return index of and links to each category below each ancestor; ancestors include categories and root."""
        below = defaultdict(list)
        for index, category in enumerate(categories):
            level, seen, links = {category}, set[str](), 0
            while level:
                for ancestor in level:
                    below[ancestor].append((index, links))
                seen |= level
                level = {parent for child in level for parent in self.parents.get(child, ())} - seen
                links += 1
        return below


@dataclass(frozen=True, slots=True, eq=False)
class SemanticErrors:
    """Nearness in meaning of wrong first choices to the truth.

    Attributes
    ----------
    observed : float
        Mean links from the first choice to the true category, over the blocks where they differ, with an equal weight
        for each true category; nan without errors.
    shuffled : float
        Mean of `observed` over shuffled labels.
    null : ndarray of shape (n_shuffles,), float64
        Value of `observed` for each shuffle.
    p_value : float
        Chance of errors at least this near if the labels of the blocks were shuffled; nan without errors.
    p_least : float
        Lowest p value that any errors could have had.
    n_errors : int
        Number of blocks that the mean is over.
    missing : tuple of str
        Categories that the table lacks: errors with these as choice or truth are left out.
    """

    observed: float
    shuffled: float
    null: Float64Array
    p_value: float
    p_least: float
    n_errors: int
    missing: tuple[str, ...]


def semantic_errors(
    first_choices: Sequence[str], true: Sequence[str], hypernyms: Hypernyms, *, folded: bool = False, seed: int = 0
) -> SemanticErrors:
    """Compute the distance of wrong first choices to the truth, with its distribution if both were unrelated.

    The true categories of the errors are exchanged, so that a category's blocks keep a common label; a block whose new
    label is its first choice is then no error, and is left out of that shuffle's mean. Each category has the same
    weight for any number of errors: otherwise one answer to all blocks, near a frequent category, would seem to know
    what the blocks mean.

    Parameters
    ----------
    first_choices, true : sequence of str
        Category ids, one for each block.
    hypernyms : Hypernyms
    folded, seed
        Options of `calibration.metrics.permutation.exchange_test`.
    """
    wrong = [(chosen, truth) for chosen, truth in zip(first_choices, true, strict=True) if chosen != truth]
    missing = tuple(sorted({category for pair in wrong for category in pair if category not in hypernyms}))
    errors = [pair for pair in wrong if not set(pair) & set(missing)]
    if not errors:
        return SemanticErrors(np.nan, np.nan, np.empty(0), np.nan, np.nan, 0, missing)
    chosen, of_chosen = np.unique([pair[0] for pair in errors], return_inverse=True)
    labels, of_label = np.unique([pair[1] for pair in errors], return_inverse=True)
    # Row i, column j: links, and number of errors, if category j is taken for the truth of the blocks of category i.
    links, counts = np.zeros((2, len(labels), len(labels)))
    np.add.at(links, of_label, hypernyms.distances(chosen.tolist(), labels.tolist())[of_chosen])
    np.add.at(counts, of_label, (chosen[:, np.newaxis] != labels)[of_chosen])
    means = np.divide(links, counts, out=np.full_like(links, np.nan), where=counts > 0)
    rng = np.random.default_rng(seed)
    rows = np.arange(len(labels))
    shuffled = np.array([means[rows, rng.permutation(rows)] for _ in range(N_PERMUTATIONS)])
    null = np.nanmean(shuffled[np.isfinite(shuffled).any(axis=1)], axis=1)
    observed = float(np.trace(means) / len(labels))
    p_value = share_at_least(-observed, -(spread_out(null) if folded and len(null) else null))
    return SemanticErrors(
        observed=observed,
        shuffled=float(null.mean()) if len(null) else np.nan,
        null=null,
        p_value=p_value,
        p_least=max(1 / factorial(len(labels)), 1 / (1 + N_PERMUTATIONS)),
        n_errors=len(errors),
        missing=missing,
    )
