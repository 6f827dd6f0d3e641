"""Merging of rows of an events table into blocks: most localizers list each picture, but are decoded by block.

`choose_gap` decides by the table. A response lasts for many seconds, so pictures of one category that follow each other
every second or two are one block to the scanner. Such a table differs from an event-related one in that rows of *every*
category come several in succession: by chance two rows of a category follow each other now and then, but not
everywhere. A category whose rows never follow each other, such as a tone before each block, may be no category at all:
it is put aside, and the others decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

from rtgod.events.trials import Merging, Trial

#: Tolerance, in seconds, for the rounding of gaps, which are differences of sums.
_ROUNDING_S = 1e-6
#: Longest time from the onset of a picture to the next of its block, and longest block: rows that merge into a longer
#: one are a stream of pictures that was not meant as a block.
_MOST_APART_S, _LONGEST_BLOCK_S = 3.0, 60.0
#: Longest gap within a block in seconds; it is also at most the larger of the median duration of pictures and
#: `_USUAL_GAPS` times the median gap.
_LONGEST_GAP_S, _USUAL_GAPS = 2.0, 4.0
#: Conditions for a table of blocks: the least number of blocks, the least median number of rows of a block, and the
#: largest share of blocks with a single row.
_FEWEST_BLOCKS, _USUAL_ROWS, _MOST_SINGLE = 2, 3, 0.1


def choose_gap(trials: Sequence[Trial]) -> float:
    """Choose the longest gap between rows of one category that merging closes, from all gaps of the table.

    Parameters
    ----------
    trials : sequence of Trial
        A trial for each row, in order of onset.

    Returns
    -------
    float
        The longest gap to close, in seconds, more than 0; 0 if each row is a trial of its own, as in event-related
        designs and in tables whose rows are blocks already.
    """
    gaps_s = [_gap_s(a, b) for a, b in pairwise(trials) if _is_same(a, b) and b.onset_s - a.onset_s <= _MOST_APART_S]
    if not gaps_s:
        return 0.0
    usual_s = max(_USUAL_GAPS * median(gaps_s), median(trial.duration_s for trial in trials))
    longest_s = min(_LONGEST_GAP_S, usual_s)
    alone = always_alone(trials, longest_s)
    blocks = [block for block in _in_blocks(trials, longest_s) if block[0].category not in alone]
    n_rows = [len(block) for block in blocks]
    lasts_s = [block[-1].onset_s + block[-1].duration_s - block[0].onset_s for block in blocks]
    if (
        len(blocks) < _FEWEST_BLOCKS
        or median(n_rows) < _USUAL_ROWS
        or n_rows.count(1) > _MOST_SINGLE * len(blocks)
        or max(lasts_s) > _LONGEST_BLOCK_S
    ):
        return 0.0
    return max(longest_s, 1e-6)


def always_alone(trials: Sequence[Trial], gap_s: float) -> dict[str, int]:
    """Find categories whose rows never follow each other, in a table where most rows are of categories that do.

    Parameters
    ----------
    trials : sequence of Trial
        A trial for each row, in order of onset.
    gap_s : float
        The longest gap between rows that follow each other, in seconds.

    Returns
    -------
    dict of str to int
        Number of rows of each such category; empty if these are half of all rows or more, or if fewer than two other
        categories are left.
    """
    grouped = {block[0].category for block in _in_blocks(trials, gap_s) if len(block) > 1}
    alone = Counter(trial.category for trial in trials if trial.category not in grouped)
    return dict(alone) if len(grouped) > 1 and 2 * alone.total() < len(trials) else {}


def merge(trials: Sequence[Trial], gap_s: float, *, is_chosen: bool) -> tuple[list[Trial], Merging | None]:
    """Merge rows of one category that follow each other into one trial, which names no image if it showed several.

    Parameters
    ----------
    trials : sequence of Trial
        In order of onset.
    gap_s : float
        The longest gap to close, in seconds.
    is_chosen : bool
        Whether `choose_gap` chose `gap_s`.

    Returns
    -------
    trials : list of Trial
    merging : Merging or None
        None if nothing was merged.
    """
    merged: list[Trial] = []
    gaps_s: list[float] = []
    rows_s: list[float] = []
    blocks_s: list[float] = []
    for block in _in_blocks(trials, gap_s):
        if len(block) == 1:
            merged.append(block[0])
            continue
        duration_s = block[0].duration_s
        for trial in block[1:]:
            gaps_s.append(trial.onset_s - (block[0].onset_s + duration_s))
            duration_s = max(duration_s, trial.onset_s + trial.duration_s - block[0].onset_s)
        merged.append(as_one(block))
        rows_s += [trial.duration_s for trial in block]
        blocks_s.append(merged[-1].duration_s)
    if not blocks_s:
        return merged, None
    return merged, Merging(len(rows_s), len(blocks_s), median(rows_s), median(blocks_s), max(gaps_s), is_chosen)


def as_one(block: Sequence[Trial]) -> Trial:
    """Merge trials of one category into one, which names no image if it showed several.

    Parameters
    ----------
    block : sequence of Trial
        At least one, in order of onset.
    """
    if len(block) == 1:
        return block[0]
    end_s = max(trial.onset_s + trial.duration_s for trial in block)
    images = tuple(image for trial in block for image in trial.images)
    are_named = all(trial.images for trial in block)
    stimulus = images[0] if are_named and len(set(images)) == 1 else None
    stimuli = images if are_named and stimulus is None else ()
    return replace(block[0], duration_s=end_s - block[0].onset_s, stimulus=stimulus, stimuli=stimuli)


def _in_blocks(trials: Sequence[Trial], gap_s: float) -> list[list[Trial]]:
    """Group rows by the block into which they are merged."""
    blocks: list[list[Trial]] = []
    end_s = 0.0
    for trial in trials:
        if blocks and _is_same(blocks[-1][0], trial) and trial.onset_s - end_s <= gap_s + _ROUNDING_S:
            blocks[-1].append(trial)
            end_s = max(end_s, trial.onset_s + trial.duration_s)
        else:
            blocks.append([trial])
            end_s = trial.onset_s + trial.duration_s
    return blocks


def _is_same(a: Trial, b: Trial) -> bool:
    return (a.kind, a.category) == (b.kind, b.category)


def _gap_s(before: Trial, after: Trial) -> float:
    return after.onset_s - (before.onset_s + before.duration_s)
