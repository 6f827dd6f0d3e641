"""The plot of delays, as a drawing in the page: a dot for each volume, and a line at one TR."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 420, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 14, 34
#: Most ticks of an axis, and steps between them.
_MOST_TICKS, _STEPS = 6, (1, 2, 5)


def drawn(delays_s: Sequence[tuple[int, float]], tr_s: float, said: str) -> str:
    """Draw delays as SVG, whose colours the page gives.

    Parameters
    ----------
    delays_s : sequence of (int, float)
        Index and delay of each volume, seconds; two at least.
    tr_s : float
        Repetition time, seconds.
    said : str
        What the plot shows, for who cannot see it.
    """
    last = max(index for index, _ in delays_s) + 1
    top_s = 1.05 * max(tr_s, *(delay_s for _, delay_s in delays_s))
    low_s = min(0.0, *(delay_s for _, delay_s in delays_s))

    def x_of(number: float) -> float:
        return _LEFT + (number - 1) / max(last - 1, 1) * (_WIDTH - _LEFT - _RIGHT - 8) + 4

    def y_of(delay_s: float) -> float:
        return _HEIGHT - _BOTTOM - (delay_s - low_s) / (top_s - low_s) * (_HEIGHT - _TOP - _BOTTOM)

    lines, texts = [], []
    for delay_s in _ticks(low_s, top_s):
        y = y_of(delay_s)
        lines.append(f"M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}")
        texts.append(f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{delay_s:g}</text>')
    texts += [
        f'<text x="{x_of(number):.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{number:g}</text>'
        for number in dict.fromkeys([1.0, *(tick for tick in _ticks(1, last) if tick > 1 and tick == int(tick))])
    ]
    dots = {False: "", True: ""}
    for index, delay_s in delays_s:
        dots[delay_s > tr_s] += f"M{x_of(index + 1):.1f} {y_of(delay_s):.1f}h0"
    tr_y = y_of(tr_s)
    texts += [
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">volume</text>',
        f'<text x="{_LEFT - 30}" y="{_TOP - 3}">s</text>',
        f'<text class="tr" x="{_WIDTH - _RIGHT}" y="{tr_y - 4:.1f}" text-anchor="end">one TR</text>',
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(said)}">'
        f'<path class="grid" d="{"".join(lines)}"/>'
        f'<path class="tr" d="M{_LEFT} {tr_y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<path class="dots" d="{dots[False]}"/><path class="dots late" d="{dots[True]}"/>'
        f"{''.join(texts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two."""
    rough = max(high - low, 1e-9) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * factor for factor in _STEPS if power * factor >= rough), 10 * power)
    start = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(start, math.floor(high / step + 1e-9) + 1)]
