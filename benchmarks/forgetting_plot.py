"""Gain to the right, forgetting upwards: one picture, a colour for each method, a sign for each arm. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 440, 70, 24, 170, 50
_COLOURS = {"full": "#b45309", "lora": "#1d4ed8", "qlora": "#047857"}
_SIGNS = {  # round 0, 0
    "plain": '<circle r="6"/>',
    "replay": '<rect x="-5.5" y="-5.5" width="11" height="11"/>',
    "base_answers": '<path d="M0 -8 L8 0 L0 8 L-8 0 Z"/>',
    "kl": '<path d="M0 -7 L7 6 L-7 6 Z"/>',
    "both": '<path d="M-7 -7 L7 7 M-7 7 L7 -7" stroke-width="3"/>',
}
_TICKS = 6  # at most


class Point(NamedTuple):
    """One run."""

    method: str
    arm: str
    gain_nats: float
    rise_nats: float


def plot(points: Sequence[Point]) -> str:
    """The picture as SVG."""
    # From 0, else a difference of next to nothing fills the picture.
    gains = _range([0.0, *(point.gain_nats for point in points)])
    rises = _range([0.0, *(point.rise_nats for point in points)])  # 0: nothing was forgotten
    x = _scale(gains, _LEFT, _WIDTH - _RIGHT)
    y = _scale(rises, _HEIGHT - _BOTTOM, _TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for gain in _ticks(gains):
        lines += [
            f'<path d="M{x(gain):.1f} {_TOP} V{_HEIGHT - _BOTTOM}" stroke="#e5e7eb"/>',
            f'<text x="{x(gain):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{gain:.4g}</text>',
        ]
    for rise in _ticks(rises):
        lines += [
            f'<path d="M{_LEFT} {y(rise):.1f} H{_WIDTH - _RIGHT}" stroke="{"#6b7280" if rise == 0 else "#e5e7eb"}"/>',
            f'<text x="{_LEFT - 8}" y="{y(rise) + 4:.1f}" text-anchor="end">{rise:.4g}</text>',
        ]
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    lines += [
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">gain: fall of the held-out loss,'
        " nats per token</text>",
        f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">forgetting: rise of the retention loss,'
        " nats per token</text>",
    ]
    lines += [_sign(point.method, point.arm, x(point.gain_nats), y(point.rise_nats)) for point in points]
    legend = [(method, "plain", method) for method in _COLOURS if any(point.method == method for point in points)]
    legend += [("", arm, arm.replace("_", " ")) for arm in _SIGNS if any(point.arm == arm for point in points)]
    for i, (method, arm, says) in enumerate(legend):
        place = _TOP + 10 + 22 * i
        lines += [
            _sign(method, arm, _WIDTH - _RIGHT + 26, place),
            f'<text x="{_WIDTH - _RIGHT + 42}" y="{place + 4}">{says}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _sign(method: str, arm: str, x: float, y: float) -> str:
    colour = _COLOURS.get(method, "#374151")
    return f'<g transform="translate({x:.1f} {y:.1f})" fill="{colour}" stroke="{colour}">{_SIGNS[arm]}</g>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Somewhat more than the values take."""
    low, high = min(values), max(values)
    room = 0.1 * (high - low) or 0.5
    return (low - room, high + room)


def _ticks(limits: tuple[float, float]) -> list[float]:
    """Round numbers between the limits, about as many as can be read."""
    low, high = limits
    size = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(size * times for times in (1, 2, 5, 10) if (high - low) / (size * times) <= _TICKS)
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _scale(limits: tuple[float, float], start: float, end: float):  # type: ignore[no-untyped-def]
    low, high = limits
    return lambda value: start + (value - low) / (high - low) * (end - start)
