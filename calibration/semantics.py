"""How far apart categories are in meaning, by a table of hypernyms, and whether errors keep to the neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.statistics import N_PERMUTATIONS, share_at_least
from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array, Int32Array

#: Searches that run side by side, a bit for each: memory stays at 10 MB for each thousand and 75,000 synsets.
_BATCH = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Hypernyms:
    """The is-a graph: an edge between every category and each category that it is a kind of, to be walked either way.

    Categories without a parent hang below one root that the table does not name, as WordNet::Similarity and NLTK do it
    (`simulate_root`): ImageNet's table has a dozen such, and so any two categories have a distance.

    Attributes
    ----------
    position : dict of str to int
        Node of each category; the root comes after the last.
    starts : ndarray of shape (n_nodes + 1,), int64
    neighbours : ndarray of shape (n_edges,), int32
        Those of node i are ``neighbours[starts[i]:starts[i + 1]]``.
    """

    position: dict[str, int]
    starts: Array
    neighbours: Int32Array

    @classmethod
    def read(cls, path: Path) -> Hypernyms:
        """Read a table of ``parent child`` lines, as ImageNet distributes it (`wordnet.is_a.txt`).

        Raises
        ------
        InputError
            If it cannot be read, a line is not two identifiers, or categories are kinds of each other in a circle.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"hypernyms {path}: cannot be read as text ({error})") from error
        position: dict[str, int] = {}
        pairs = []
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words:
                continue
            if len(words) != 2 or words[0] == words[1]:
                raise InputError(f"hypernyms {path}, line {number}: {line!r} is not two categories, `parent child`")
            pairs.append([position.setdefault(word, len(position)) for word in words])
        if not pairs:
            raise InputError(f"hypernyms {path}: empty; it needs a `parent child` line for each link")
        parents, children = np.unique(np.array(pairs), axis=0).T
        root = len(position)
        tops = np.setdiff1d(np.arange(root), children)
        parents, children = np.append(parents, np.full(len(tops), root)), np.append(children, tops)
        graph = cls(position, *_adjacency(np.append(parents, children), np.append(children, parents), root + 1))
        _refuse_circles(path, graph, parents, children)
        return graph

    def __contains__(self, category: str) -> bool:
        return category in self.position

    def distance(self, a: str, b: str) -> int:
        """Links on the shortest way from one category to another.

        Raises
        ------
        InputError
            If one is not in the table.
        """
        return int(self.distances([a], [b])[0, 0])

    def distances(self, a: Sequence[str], b: Sequence[str]) -> Int32Array:
        """Links on the shortest way from each of `a` to each of `b`: shape (n_a, n_b), int32.

        Raises
        ------
        InputError
            If one is not in the table.
        """
        if unknown := sorted({category for category in (*a, *b) if category not in self}):
            some = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            raise InputError(f"categories that the table of hypernyms does not have: {some}")
        sources = np.array([self.position[category] for category in a], dtype=np.intp)
        targets = np.array([self.position[category] for category in b], dtype=np.intp)
        batches = [self._search(sources[i : i + _BATCH], targets) for i in range(0, len(sources), _BATCH)]
        return np.concatenate([np.empty((0, len(targets)), np.int32), *batches])

    def _search(self, sources: Array, targets: Array) -> Int32Array:
        """Breadth-first from all sources at once, a bit for each (Then et al. 2014)."""
        bits = np.packbits(np.eye(len(sources), -(-len(sources) // 64) * 64, dtype=bool), axis=1).view(np.uint64)
        frontier = np.zeros((len(self.starts) - 1, bits.shape[1]), np.uint64)
        np.bitwise_or.at(frontier, sources, bits)
        unseen = ~frontier
        found = np.empty((len(targets), len(sources)), np.int32)
        n_left, steps = found.size, 0
        while True:
            reached = np.unpackbits(frontier[targets].view(np.uint8), axis=1, count=len(sources)).view(bool)
            found[reached] = steps
            n_left -= int(reached.sum())
            if n_left == 0:
                return found.T
            frontier = np.bitwise_or.reduceat(frontier[self.neighbours], self.starts[:-1], axis=0) & unseen
            unseen &= ~frontier
            steps += 1


@dataclass(frozen=True, slots=True, eq=False)
class SemanticErrors:
    """How near in meaning wrong first choices are to the truth.

    Attributes
    ----------
    observed : float
        Mean links from the first choice to the true category, over the blocks where they differ; nan without any.
    shuffled : float
        Its mean over shuffled labels.
    null : ndarray of shape (n_shuffles,), float64
        Its value for each.
    p_value : float
        Chance of errors at least this near if the labels of the blocks were shuffled; nan without errors.
    n_errors : int
        Blocks that the mean is over.
    missing : tuple of str
        Categories that the table does not have: errors of or for these are left out.
    """

    observed: float
    shuffled: float
    null: Float64Array
    p_value: float
    n_errors: int
    missing: tuple[str, ...]


def semantic_errors(
    first_choices: Sequence[str], true: Sequence[str], hypernyms: Hypernyms, seed: int = 0
) -> SemanticErrors:
    """Distance of wrong first choices to the truth, beside what it would be if they had nothing to do with it.

    The true categories of the errors are exchanged, so that a category's blocks keep a common label; a block whose new
    label is its first choice is no error then, and left out of that shuffle's mean.

    Parameters
    ----------
    first_choices, true : sequence of str
        Category ids, one for each block.
    hypernyms : Hypernyms
    seed : int
    """
    wrong = [(chosen, truth) for chosen, truth in zip(first_choices, true, strict=True) if chosen != truth]
    missing = tuple(sorted({category for pair in wrong for category in pair if category not in hypernyms}))
    errors = [pair for pair in wrong if not set(pair) & set(missing)]
    if not errors:
        return SemanticErrors(np.nan, np.nan, np.empty(0), np.nan, 0, missing)
    chosen, of_chosen = np.unique([pair[0] for pair in errors], return_inverse=True)
    labels, of_label = np.unique([pair[1] for pair in errors], return_inverse=True)
    # Row i, column j: links, and blocks that are errors, if category j is taken for the truth of the blocks of i.
    links, counts = np.zeros((2, len(labels), len(labels)))
    np.add.at(links, of_label, hypernyms.distances(chosen.tolist(), labels.tolist())[of_chosen])
    np.add.at(counts, of_label, (chosen[:, np.newaxis] != labels)[of_chosen])
    rng = np.random.default_rng(seed)
    rows = np.arange(len(labels))
    shuffles = np.array([rng.permutation(rows) for _ in range(N_PERMUTATIONS)])
    n_left = counts[rows, shuffles].sum(axis=1)
    null = links[rows, shuffles].sum(axis=1)[n_left > 0] / n_left[n_left > 0]
    observed = float(np.trace(links) / np.trace(counts))
    p_value = share_at_least(-observed, -null)
    return SemanticErrors(observed, float(null.mean()) if len(null) else np.nan, null, p_value, len(errors), missing)


def _adjacency(sources: Array, targets: Array, n_nodes: int) -> tuple[Array, Int32Array]:
    """Where each node's neighbours start, and the neighbours."""
    order = np.argsort(sources, kind="stable")
    return np.searchsorted(sources[order], np.arange(n_nodes + 1)), targets[order].astype(np.int32)


def _refuse_circles(path: Path, graph: Hypernyms, parents: Array, children: Array) -> None:
    """Every category must hang below the root: a circle of kinds that nothing is above does not."""
    below = np.zeros(len(graph.starts) - 1, dtype=bool)
    below[-1] = True
    while (found := children[below[parents] & ~below[children]]).size:
        below[found] = True
    if not below.all():
        category = list(graph.position)[int(below.argmin())]
        raise InputError(f"hypernyms {path}: {category} is a kind of itself by way of others; take one link out")
