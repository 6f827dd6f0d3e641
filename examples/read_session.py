"""Read a session with pandas: the decoded category of each block, the share that was right, and the latency.

python examples/read_session.py journals/SESSION.rtgod bundle
"""

import sys

import rtgod


def read_blocks(journal, bundle):
    """Make a table with a row for each block: the category shown, and the first choice of its last ranking."""
    names = {rtgod.label_of(candidate.category_id): candidate.name for candidate in bundle.candidates}
    rankings = journal.to_frame().query("kind == 'ranking'").dropna(subset="block")
    blocks = rankings.groupby(["run_id", "block"])[["label", "top1", "n_volumes", "probability_top1"]].last()
    return blocks.assign(shown=blocks["label"].map(names), correct=blocks["top1"] == blocks["label"].map(names))


def accuracy_of(blocks):
    """Return the share of right first choices, and its mean if the blocks' categories were shuffled."""
    known = blocks.dropna(subset="shown")
    chance = (known["top1"].to_numpy()[:, None] == known["shown"].to_numpy()).mean()
    return known["correct"].mean(), chance


if __name__ == "__main__":
    journal, bundle = rtgod.read_journal(sys.argv[1]), rtgod.load_bundle(sys.argv[2])
    blocks = read_blocks(journal, bundle)
    print(blocks.drop(columns="label").to_string())
    accuracy, chance = accuracy_of(blocks)
    n_unknown = blocks["shown"].isna().sum()
    print(f"{accuracy:.1%} of {len(blocks) - n_unknown} blocks are right, {chance:.1%} with shuffled categories")
    print(f"{n_unknown} blocks show no candidate of the bundle")
    median, late = journal.to_frame()["latency_ms"].quantile([0.5, 0.99])
    print(f"answered in {median:.1f} ms (99th percentile {late:.1f}), {len(journal.answers)} volumes")
