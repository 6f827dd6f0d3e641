"""The pipeline from a volume to its answer: preprocess, decode, rank.

Results depend only on the volumes and their order.
"""

from __future__ import annotations

import dataclasses

from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.chances import Judge
from rtgod.decoding.confidence import Confidence
from rtgod.decoding.decoder import Decoder, response_of
from rtgod.decoding.picture_index import Pictures
from rtgod.messages import Answer, NearPicture, NotReady, Pattern, Ranking, Reason, Run, Volume
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.preprocessor import Noise, Preprocessor
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.settings import PipelineSettings
from rtgod.state import Stateful


class Pipeline(Stateful):
    """Pipeline that turns the volumes of one run into rankings.

    Another pipeline made with the same arguments, which takes over this one's state, answers the volumes that follow
    with the same bytes. The evidence of the session has a state of its own.

    Parameters
    ----------
    reference : Reference
    noise : Noise
    decoder : Decoder or None
        None for alignment only: every answer is then a `NotReady` with the head's motion.
    category_index : CategoryIndex or None
    names : tuple of str
        The candidates' names, for the top of the ranking.
    run : Run
    settings : PipelineSettings
    repeats : RepeatAverager
        The session's evidence so far.
    confidence : Confidence or Judge or None
        Model that gives the chances of a ranking; None for rankings without them.
    pictures : Pictures or None
        Pictures of which every ranking names the nearest; None for rankings without them.

    Raises
    ------
    InputError
        If the run does not fit the reference.
    """

    parts = ("_front",)

    def __init__(
        self,
        reference: Reference,
        noise: Noise,
        decoder: Decoder | None,
        category_index: CategoryIndex | None,
        names: tuple[str, ...],
        run: Run,
        settings: PipelineSettings,
        repeats: RepeatAverager,
        confidence: Confidence | Judge | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self._front = Preprocessor(reference, run, settings, noise, repeats)
        self._decoder = decoder
        self._category_index = category_index
        self._confidence = confidence
        self._names = names
        self._pictures = pictures
        self._n_top = settings.ranking.n_top
        self._blocks = run.blocks

    def extend(self, run: Run) -> None:
        """Take in blocks that the run did not list before.

        If none of them has begun by the volumes so far, later answers are as if they had been known from the start.

        Parameters
        ----------
        run : Run
            The run, with new blocks after those known, each of which begins later than all before it; they passed
            `rtgod.preprocessing.design_matrix.columns_of`.
        """
        self._front.extend(run)
        self._blocks = run.blocks

    def step(self, volume: Volume, *, rank: bool = True) -> tuple[Answer, Pattern | None]:
        """Process the next volume of the run.

        Parameters
        ----------
        volume : Volume
        rank : bool
            Whether to rank. False only updates the state, so that answers to later volumes stay the same; the last
            ranking of a block is made nevertheless.

        Returns
        -------
        answer : Ranking or NotReady
        pattern : Pattern or None
            The volume's own pattern, for the record; None until the baseline is learned.
        """
        stopwatch = Stopwatch()
        pattern, outcome = self._front.step(volume, stopwatch)
        if isinstance(outcome, NotReady):
            return dataclasses.replace(outcome, stage_ms=stopwatch.stage_ms), pattern
        decoder, category_index, sample = self._decoder, self._category_index, outcome
        if pattern is None or decoder is None or category_index is None:
            raise AssertionError("a sample comes from a pattern, and patterns from a bundle's voxels")
        if not rank and not (sample.final and sample.block is not None):
            why = "later volumes are waiting"
            behind = NotReady(volume.run_id, volume.index, Reason.BEHIND, why, pattern.motion, stopwatch.stage_ms)
            return behind, pattern
        with stopwatch("decode"):
            features = decoder.decode(sample.index, sample.values)
        with stopwatch("rank"):
            order, scores = category_index.rank(features)
        probability, response = None, None
        pictures: tuple[NearPicture, ...] = ()
        imagined = sample.block is not None and self._blocks[sample.block].imagined
        if self._confidence:
            weights = self._confidence.weights if isinstance(self._confidence, Judge) else None
            response = None if weights is None else response_of(weights, sample.values)
            probability = self._confidence.of_ranking(
                order,
                scores,
                category_index.n_candidates,
                sample.n_volumes,
                sample.n_blocks,
                response,
                imagined=imagined,
            )
        if self._pictures is not None:
            with stopwatch("pictures"):
                pictures = self._pictures.nearest(
                    features, decoder.layers, sample.n_volumes, response, imagined=imagined
                )
        ranking = Ranking(
            run_id=volume.run_id,
            index=volume.index,
            n_volumes=sample.n_volumes,
            n_blocks=sample.n_blocks,
            block=sample.block,
            final=sample.final,
            top=tuple(self._names[i] for i in order[: self._n_top]),
            order=order,
            scores=scores,
            motion=pattern.motion,
            stage_ms=stopwatch.stage_ms,
            probability=probability,
            pictures=pictures,
        )
        return ranking, pattern
