"""Report of an evaluation: one HTML page for people, and tables of numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from calibration.evaluation.accuracy import (
    MOST_IN_MATRIX,
    FeatureAccuracy,
    Identification,
    against_candidates,
    confusion_of,
    ranks_of,
)
from calibration.evaluation.evaluate import Evaluation
from calibration.evaluation.semantic_distance import SemanticErrors
from calibration.metrics.choices import Balance, balance_of, remarks_on_choices
from calibration.metrics.permutation import SIGNIFICANT
from calibration.metrics.statistics import FEW_SAMPLES
from calibration.reports import deciding, figures, reliability
from calibration.reports.area_sections import areas_and_layers, time_course
from calibration.reports.evaluation_tables import tables_of, top_places
from calibration.reports.html_page import PageTable, Section, write_page
from calibration.reports.tables import write_tsv
from calibration.samples.left_out import HEADER
from rtgod.console import styled
from rtgod.decoding.confidence import FIRST
from rtgod.errors import InputError

#: With fewer candidates than this the curve over random draws of candidates is left out.
_FEWEST_CANDIDATES = 4
#: Column names for the places of `FIRST`.
_PLACES = ("first, %", "first 5, %", "first 10, %")
_ON_SHUFFLED = (
    "Shuffled: the same with the samples' labels exchanged; where rankings favour some categories, whatever is "
    "shown, it differs from 50 %, and accuracy is to be compared with it, as the tests do."
)
_N_EXAMPLES, _N_FIRST, _N_LISTED = 8, 5, 10
PAGE = "report.html"


def write_evaluation(
    evaluation: Evaluation,
    out: Path,
    title: str,
    notes: Sequence[PageTable],
    seconds: Mapping[str, float],
    pictures: Mapping[str, Path],
    remarks: Sequence[str] = (),
) -> None:
    """Write `report.html` and the tables into a folder; files with these names are replaced.

    Parameters
    ----------
    evaluation : Evaluation
    out : Path
    title : str
    notes : sequence of PageTable
        Tables about the inputs behind the figures.
    seconds : mapping of str to float
        Time that each stage took, in seconds.
    pictures : mapping of str to Path
        Image of each category that has one.
    remarks : sequence of str
        Other things left out, merged or guessed, in events tables and runs.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror}); choose another --out") from error
    tables = tables_of(evaluation)
    for name, (header, rows) in tables.items():
        write_tsv(out / name, header, rows)
    (out / reliability.PICTURE).unlink(missing_ok=True)
    if evaluation.confidence:
        n_candidates = len(evaluation.candidates.ids)
        figures.save(reliability.figure_of(evaluation.confidence, n_candidates), out / reliability.PICTURE)
    took = [(stage, f"{of_stage:.1f}") for stage, of_stage in seconds.items()]
    times = PageTable(("stage", "seconds"), took, "Times on the clock")
    sections = [
        _identification(evaluation),
        _features(evaluation),
        *areas_and_layers(evaluation),
        *time_course(evaluation),
        *_against_candidates(evaluation),
        *_against_runs(evaluation),
        *_confidence(evaluation),
        *_confusion(evaluation),
        *_semantic(evaluation),
        *_examples(evaluation, pictures),
        *_left_out(evaluation, remarks),
        Section("What this rests on", _trained_how(evaluation), tables=[*notes, times]),
    ]
    write_page(out / PAGE, title, "\n\n".join([_in_short(evaluation), *_on_choices(evaluation)]), sections)


def _on_choices(evaluation: Evaluation) -> list[str]:
    """Return sentences, for every kind, on frequent categories and on choices that fall on few categories."""
    return [
        sentence
        for kind, decoded in evaluation.decoded.items()
        for sentence in remarks_on_choices(
            kind, decoded.blocks.scores, decoded.blocks.true, evaluation.candidates.names
        )
    ]


def _trained_how(evaluation: Evaluation) -> str:
    sentences = (*evaluation.trained_how, *evaluation.warnings)
    return "\n\n".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print how well categories are identified.

    Parameters
    ----------
    evaluation : Evaluation
    console : Console
    """
    n_candidates = len(evaluation.candidates.ids)
    rows = [_identification_row(result) for result in evaluation.identification]
    table = RichTable(title=f"Rank of the true category among {n_candidates:,}", title_justify="left", show_edge=False)
    for name in ("", "evidence", "pairwise accuracy", "90 % interval", "shuffled", "p", "median rank", "n"):
        # In a narrow terminal other columns are broken into lines; an interval would lose its end.
        n_letters = max((len(row[4]) for row in rows), default=0) if "interval" in name else None
        table.add_column(name, justify="left" if name in ("", "evidence") else "right", min_width=n_letters)
    for kind, evidence, accuracy, _, interval, shuffled, p_value, *_, median_rank, n in rows:
        table.add_row(styled(kind), styled(evidence), _percent(accuracy), interval, shuffled, p_value, median_rank, n)
    table.add_section()
    table.add_row("chance", "", "50.0 %", "", "", "", f"{(n_candidates + 1) / 2:g}", "")
    console.print(table)
    console.print(
        "Pairwise accuracy: the share of the other candidates that are ranked below the true category; chance is 50 % "
        f"however many there are. {_ON_SHUFFLED} {' '.join(_on_tests(evaluation.identification))}"
    )
    for line in _on_decisions(evaluation):
        console.print(f"{line[0].upper()}{line[1:]}.", soft_wrap=True, markup=False)
    for remark in _on_choices(evaluation):
        claim, colon, why = remark.partition(". ")
        console.print(styled((claim, "yellow"), colon, why))
    for sentence in evaluation.trained_how:
        console.print(f"{sentence[0].upper()}{sentence[1:]}.", soft_wrap=True, markup=False)
    for warning in evaluation.warnings:
        console.print(styled(("note", "yellow"), f" {warning}"), soft_wrap=True)
    for counts in evaluation.tallies:
        if counts.what != "volumes" and counts.n_left_out:
            set_name, things, n_all, used, _, why = counts.row()
            console.print(
                styled(("left out", "yellow"), f" of {n_all} {things} in {set_name}: {why} ({used} used)"),
                soft_wrap=True,
            )


def _percent(accuracy: str) -> str:
    number, space, mark = accuracy.partition(" ")
    return f"{number} %{space}{mark}"


def _on_tests(results: Sequence[Identification]) -> list[str]:
    """Return sentences on the units of intervals and tests, and on samples too few for them."""
    units = {result.units for result in results}
    sentences = []
    if units == {"categories"}:
        sentences.append("Intervals are over categories, whose labels the tests exchange.")
    elif "blocks" in units:
        sentences.append(
            "With fewer than six categories, intervals are over blocks, whose labels the tests exchange within runs: "
            "p tells whether these categories are told apart, and nothing of others."
        )
    if any(result.is_few for result in results):
        sentences.append(f"† Fewer than {FEW_SAMPLES} samples: too few to say much, whatever the accuracy.")
    if any(result.p_least > SIGNIFICANT for result in results):
        sentences.append("p (≥ …): no result of so few samples could have a lower one.")
    return sentences


def _in_short(evaluation: Evaluation) -> str:
    """Describe the best figure of each kind that rests on enough samples, in a sentence."""
    best: dict[str, Identification] = {}
    for result in evaluation.identification:
        before = best.get(result.kind)
        if before is None or not result.is_few or (before.is_few and result.n_samples >= before.n_samples):
            best[result.kind] = result
    return " ".join(
        f"Of what was {kind}, the true category scored higher than {100 * result.accuracy:.1f} % of the others "
        f"({result.aggregation}, {f'only {result.n_samples}' if result.is_few else result.n_samples} samples, "
        f"chance 50 %, p = {_p_in_words(result)}); its median rank was {result.median_rank:g} of "
        f"{result.n_candidates:,} (chance {(result.n_candidates + 1) / 2:g})."
        for kind, result in best.items()
    )


def _p_in_words(result: Identification) -> str:
    if result.p_least <= SIGNIFICANT:
        return f"{result.p_value:.4f}"
    return f"{result.p_value:.3g}, and none below {result.p_least:.3g} was possible"


def _p(result: Identification | FeatureAccuracy | SemanticErrors) -> str:
    """Format a p value, with the lowest possible one if no result could have been significant."""
    return (
        f"{result.p_value:.4f}" if result.p_least <= SIGNIFICANT else f"{result.p_value:.3g} (≥ {result.p_least:.3g})"
    )


def _identification(evaluation: Evaluation) -> Section:
    groups: dict[str, dict[str, tuple[float, float, float, int]]] = {}
    for result in evaluation.identification:
        groups.setdefault(result.kind, {})[result.aggregation] = (
            result.accuracy,
            result.low,
            result.high,
            result.n_samples,
        )
    n = len(evaluation.candidates.ids)
    are_averaged = any(decoded.averages is not None for decoded in evaluation.decoded.values())
    averages = "; averages are over all repeats of a category" if are_averaged else ""
    text = (
        "Identification accuracy is pairwise: of the other candidates, the share whose features fit the decoded ones "
        "less well than those of the true category; ties count half. Its chance level is 50 % however many candidates "
        f"there are; that of being ranked first is 1 in {n:,}. A single volume is the first of a trial (the first two, "
        f"where its response begins within one); a block is a whole trial{averages}. "
        f"{_ON_SHUFFLED} Intervals are two-sided 90 % score intervals, which stay within 0 to 100 %. "
        + " ".join(_on_tests(evaluation.identification))
    )
    if evaluation.n_folds > 1:
        text += (
            " Runs that test each other share what they have in common by chance: the exchanges of the tests are "
            "spread out by √2 to allow for it."
        )
    chance = (
        "chance",
        "",
        "50.0",
        "50.0",
        "–",
        "–",
        "–",
        *(f"{100 * k / n:.3g}" if k < n else "" for k in FIRST),
        f"{(n + 1) / 2:g}",
    )
    header = ["", "evidence", "accuracy, %", "balanced, %", "90 % interval", "shuffled, %", "p", *_PLACES]
    header += ["median rank", "n"]
    frequencies = {kind: balance_of(decoded.blocks.true) for kind, decoded in evaluation.decoded.items()}
    unequal = {kind: balance for kind, balance in frequencies.items() if not balance.is_equal}
    rows = [*(_identification_row(result) for result in evaluation.identification), (*chance, "–")]
    rows += [
        _one_answer_row(kind, evaluation.candidates.names[balance.most_frequent], balance)
        for kind, balance in unequal.items()
    ]
    says_nothing = {name for name, k in zip(_PLACES, FIRST, strict=True) if k >= n}
    if not unequal:
        says_nothing.add("balanced, %")
    shown = [i for i, name in enumerate(header) if name not in says_nothing]
    table = PageTable(
        [header[i] for i in shown],
        [[row[i] for i in shown] for row in rows],
        f"Rank of the true category among {n:,} candidates",
    )
    over = " and ".join(dict.fromkeys(result.units for result in evaluation.identification))
    caption = f"Identification accuracy by the evidence that is put together. Bars: 90 % intervals over {over}."
    decisions = deciding.decided(evaluation.confidence)
    text = "\n\n".join([text, *(f"{line[0].upper()}{line[1:]}." for line in _on_decisions(evaluation))])
    tables = [table]
    if decisions:
        text = f"{text}\n\n{deciding.MEANING}"
        tables.append(PageTable(deciding.HEADER, deciding.rows_of(decisions), deciding.TITLE))
    return Section("Identification", text, [(figures.aggregation(groups), caption)], tables)


def _on_decisions(evaluation: Evaluation) -> list[str]:
    """Return a sentence for every kind on when its rankings are sure, or that this is not known."""
    decisions = deciding.decided(evaluation.confidence)
    return [
        deciding.sentence(kind, decisions[kind])
        if kind in decisions
        else f"{kind}: after how many volumes rankings are sure is not known, as their chances are not"
        for kind in evaluation.decoded
    ]


def _identification_row(result: Identification) -> tuple[str, ...]:
    return (
        result.kind,
        result.aggregation,
        f"{100 * result.accuracy:.1f}{' †' if result.is_few else ''}",
        f"{100 * result.balanced:.1f}",
        "–" if np.isnan(result.low) else f"{100 * result.low:.1f}–{100 * result.high:.1f}",
        f"{100 * result.shuffled:.1f}",
        _p(result),
        *("–" if np.isnan(share) else f"{100 * share:.1f}" for share in (result.top1, result.top5, result.top10)),
        f"{result.median_rank:g}",
        f"{result.n_samples}",
    )


def _one_answer_row(kind: str, name: str, balance: Balance) -> tuple[str, ...]:
    """Return the row of one fixed ranking for all blocks, the shown categories by frequency, most frequent first."""
    accuracy, share = f"{100 * balance.constant:.1f}", f"{100 * balance.share:.1f}"
    return kind, f"always “{name}” first", accuracy, "50.0", "–", "–", "–", share, "–", "–", "–", f"{balance.n}"


def _examples(evaluation: Evaluation, pictures: Mapping[str, Path]) -> list[Section]:
    """Make sections of example rankings of every kind, from best to worst in equal steps."""
    sections = []
    names, ids = evaluation.candidates.names, evaluation.candidates.ids
    for kind, decoded in evaluation.decoded.items():
        best = decoded.averages or decoded.blocks
        ranks = ranks_of(best)
        order = np.argsort(ranks, kind="stable")
        chosen = order[np.unique(np.linspace(0, len(order) - 1, _N_EXAMPLES).round().astype(int))]
        tops = {int(row): np.argsort(-best.scores[row], kind="stable")[:_N_LISTED] for row in chosen}
        table = PageTable(
            (kind, "rank", "the first ten" if len(ids) > _N_LISTED else "in the order of the ranking"),
            [(names[best.true[row]], int(ranks[row]), ", ".join(names[i] for i in top)) for row, top in tops.items()],
            f"{kind.capitalize()}: what was ranked first, from the best ranking to the worst in equal steps",
        )
        drawn = []
        if all(ids[i] in pictures for row, top in tops.items() for i in (*top[:_N_FIRST], best.true[row])):
            rows = [
                (
                    names[best.true[row]],
                    pictures[ids[best.true[row]]],
                    int(ranks[row]),
                    [(names[i], pictures[ids[i]], bool(i == best.true[row])) for i in top[:_N_FIRST]],
                )
                for row, top in tops.items()
            ]
            drawn = [
                (figures.examples(rows, kind), "A picture of the true category, and of those that were ranked first.")
            ]
        sections.append(Section(f"Rankings of what was {kind}", "", drawn, [table]))
    return sections


def _features(evaluation: Evaluation) -> Section:
    kinds: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for result in evaluation.features:
        if result.aggregation == _best_aggregation(evaluation, result.kind):
            measures = kinds.setdefault(result.kind, {"profile": [], "pattern": []})
            measures["profile"].append((result.profile, result.profile_low, result.profile_high))
            measures["pattern"].append((result.pattern, result.pattern_low, result.pattern_high))
    text = (
        "Profile correlation: of the decoded and the true values of a unit over samples, mean over units. Pattern "
        "correlation: of a sample over units, each unit in its own standard deviations. Where repeats were "
        "averaged, the table has both for single blocks and for the mean over repeats, and the figure is drawn for the "
        "latter."
    )
    table = PageTable(
        ("", "evidence", "layer", "profile r", "90 % interval", "p", "pattern r", "90 % interval", "identified, %"),
        [
            (
                result.kind,
                result.aggregation,
                result.layer,
                f"{result.profile:.3f}",
                _interval(result.profile_low, result.profile_high),
                _p(result),
                f"{result.pattern:.3f}",
                _interval(result.pattern_low, result.pattern_high),
                "–" if np.isnan(result.identification) else f"{100 * result.identification:.1f}",
            )
            for result in sorted(
                evaluation.features, key=lambda result: (result.kind != "seen", result.aggregation != "single block")
            )
        ],
        "Feature accuracy of each layer; identification accuracy of single blocks from that layer alone",
    )
    caption = "Feature accuracy of each layer. Bars: 90 % intervals over categories."
    return Section("Features", text, [(figures.feature_accuracy(evaluation.layers, kinds), caption)], [table])


def _interval(low: float, high: float, n_digits: int = 3) -> str:
    return "–" if np.isnan(low) else f"{low:.{n_digits}f} to {high:.{n_digits}f}"


def _best_aggregation(evaluation: Evaluation, kind: str) -> str:
    return "single block" if evaluation.decoded[kind].averages is None else "average of repeats"


def _against_candidates(evaluation: Evaluation) -> list[Section]:
    if len(evaluation.candidates.ids) < _FEWEST_CANDIDATES:
        return []
    curves, sizes = {}, np.empty(0, np.int32)
    top = top_places(evaluation)
    for kind, decoded in evaluation.decoded.items():
        by_place = {k: against_candidates(decoded.averages or decoded.blocks, k) for k in top}
        sizes = by_place[top[0]][0]
        curves[kind] = {k: values for k, (_, values) in by_place.items()}
    text = (
        f"The share of categories that are ranked first{', or among the first five,' if len(top) > 1 else ''} when the "
        "other candidates are drawn at random: the mean over all draws, in closed form. Repeats are averaged where "
        "there are any."
    )
    figure = figures.against_candidates(sizes.tolist(), curves)
    return [Section("Number of candidates", text, [(figure, "Identification against the number of candidates.")])]


def _against_runs(evaluation: Evaluation) -> list[Section]:
    if not evaluation.n_runs:
        return []
    figure = figures.against_runs(evaluation.n_runs, evaluation.by_runs)
    text = (
        "How much of a scanning session is worth spending on training: single blocks, identified by decoders that were "
        "trained on fewer runs, drawn at random three times for each number."
    )
    caption = "Identification accuracy against the number of training runs. Bands: 90 % intervals over categories."
    return [Section("Number of training runs", text, [(figure, caption)])]


def _confusion(evaluation: Evaluation) -> list[Section]:
    """Show the categories ranked first for each true category, if a matrix of them is small enough to read."""
    names = evaluation.candidates.names
    if len(names) > MOST_IN_MATRIX:
        return []
    drawn = [
        (
            figures.confusion(confusion_of(decoded.blocks.scores, decoded.blocks.true.tolist()), names),
            f"{kind.capitalize()}: how many single blocks of each category had which category ranked first; a row sums "
            "to its category's blocks, and the diagonal is right.",
        )
        for kind, decoded in evaluation.decoded.items()
    ]
    return [Section("What is taken for what", "", drawn)]


def _left_out(evaluation: Evaluation, remarks: Sequence[str]) -> list[Section]:
    """List the trials and volumes left out, with the reasons."""
    if not evaluation.tallies and not remarks:
        return []
    text = "\n\n".join(f"{remark[0].upper()}{remark[1:]}." for remark in remarks if remark)
    table = PageTable(HEADER, [counts.row() for counts in evaluation.tallies], "What was used, and what was left out")
    return [Section("What was left out", text, tables=[table] if evaluation.tallies else [])]


def _semantic(evaluation: Evaluation) -> list[Section]:
    if not evaluation.semantic:
        return []
    by_kind = evaluation.semantic
    drawn = [
        (figures.semantic(errors.observed, errors.null), f"{kind.capitalize()}: distance of errors, and by chance.")
        for kind, errors in by_kind.items()
        if errors.n_errors
    ]
    table = PageTable(
        ("", "errors", "links to the truth", "shuffled", "p", "not in the table"),
        [
            (kind, e.n_errors, f"{e.observed:.2f}", f"{e.shuffled:.2f}", _p(e) if e.n_errors else "–", len(e.missing))
            for kind, e in by_kind.items()
        ],
        "Mean number of is-a links from a wrong first choice to the true category",
    )
    text = (
        "A wrong first choice for a duck is a bird: how near in meaning the errors are, against shuffled labels. "
        "Categories count alike, however many errors they have, and keep one label for all of their blocks: one answer "
        "to everything is not nearer than chance."
    )
    return [Section("Meaning of errors", text, drawn, [table])]


def _confidence(evaluation: Evaluation) -> list[Section]:
    n = len(evaluation.candidates.ids)
    unknown = [
        _unknown_confidence(evaluation, kind) for kind in evaluation.decoded if kind not in evaluation.confidence
    ]
    weights = _on_weights(evaluation)
    if not evaluation.confidence:
        return [Section("Confidence", "\n\n".join([*unknown, *weights]))]
    drawn = [
        (
            reliability.figure_of({kind: confidences}, n),
            f"{kind.capitalize()}: how often the true category was there, against how probable that was said to be; "
            "with 90 % intervals, as of independent samples, though a block's volumes are alike.",
        )
        for kind, confidences in evaluation.confidence.items()
    ]
    table = PageTable(
        reliability.HEADER,
        reliability.rows_of(evaluation.confidence, n),
        "Every ranking of the tests, volume by volume",
    )
    places = [title for _, title in reliability.told_chances(n)]
    text = (
        f"How probable it is that the true category is {', '.join(places)} was learned from the training runs"
        f"{' of each fold' if evaluation.n_folds > 1 else ''}: of categories that were trained on, by decoders that "
        "had seen nothing of the ranked run; of new ones, by decoders that had seen nothing of the ranked category, "
        "either. A ranking says it online, taking each candidate for as likely as any other before it is decoded. On "
        f"the diagonal, it is as probable as was said. {reliability.MEANING}"
    )
    return [Section("Confidence", "\n\n".join([text, *unknown, *weights]), drawn, [table])]


def _unknown_confidence(evaluation: Evaluation, kind: str) -> str:
    """Say why nothing is known of how sure the rankings of a kind are."""
    imagined = kind == "imagined"
    fitted = [learned.imagined if imagined else learned.confidence for learned in evaluation.learned]
    notes = dict.fromkeys(note for of_fold in fitted if of_fold for note in of_fold.notes)
    why = "".join(f" {note[0].upper()}{note[1:]}." for note in notes)
    if imagined and not any(fitted):
        why = " It is learned from imagined trials, and the training runs have none; those seen are easier to decode."
    return f"How sure rankings of what was {kind} may be is not known, and such rankings do not say it.{why}"


def _on_weights(evaluation: Evaluation) -> list[str]:
    weights = evaluation.learned[0].layer_weights if len(evaluation.learned) == 1 else None
    if weights is None:
        return []
    return [
        "Weights of layers, learned from rankings of left-out categories: "
        + ", ".join(f"{layer} {weight:.2f}" for layer, weight in weights.weights.items())
        + f". With them {100 * weights.accuracy:.1f} % of others are beaten in the training runs, with equal "
        f'weights {100 * weights.equal_accuracy:.1f} %; they count with `combine = "weighted"` in [ranking].'
    ]
