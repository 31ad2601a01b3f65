"""Gain to the right, forgetting upwards: one picture, a colour for each method, a sign for each arm. Pure."""

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
_TICKS = 5


class Point(NamedTuple):
    """One run."""

    method: str
    arm: str
    gain_nats: float
    rise_nats: float


def plot(points: Sequence[Point]) -> str:
    """The picture as SVG."""
    gains, rises = _range([point.gain_nats for point in points]), _range([point.rise_nats for point in points])
    x = _scale(gains, _LEFT, _WIDTH - _RIGHT)
    y = _scale(rises, _HEIGHT - _BOTTOM, _TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for i in range(_TICKS + 1):
        gain, rise = (low + (high - low) * i / _TICKS for low, high in (gains, rises))
        lines += [
            f'<path d="M{x(gain):.1f} {_TOP} V{_HEIGHT - _BOTTOM} M{_LEFT} {y(rise):.1f} H{_WIDTH - _RIGHT}" stroke="#e5e7eb"/>',
            f'<text x="{x(gain):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{gain:.2f}</text>',
            f'<text x="{_LEFT - 8}" y="{y(rise) + 4:.1f}" text-anchor="end">{rise:.2f}</text>',
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
    """From 0 or below to somewhat above the largest."""
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.05 * (high - low) or 1.0
    return (low - room if low < 0 else low, high + room)


def _scale(limits: tuple[float, float], start: float, end: float):  # type: ignore[no-untyped-def]
    low, high = limits
    return lambda value: start + (value - low) / (high - low) * (end - start)
