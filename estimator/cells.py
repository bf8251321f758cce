"""Terminal cells as a raster of dots: braille (2 x 4 dots in a cell), quadrants (2 x 2), or plain ASCII."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

Style = Literal["thin", "bold", "band", "dashed"]
Charset = Literal["braille", "quadrant", "ascii"]

_ORDER: tuple[Style, ...] = ("bold", "dashed", "thin", "band")  # what a cell shows if several lines cross it
_DASH = 3  # of so many cells of a dashed line the last stays empty


class Raster(NamedTuple):
    """How dots lie in a cell: bit ``y * across + x``; with ``ascii`` bit 0 is a level line and bit 1 an upright one.

    ``glyphs`` are by the bits of a cell; ``shade`` are the bits that a filled area keeps.
    """

    across: int
    down: int
    glyphs: dict[str, Sequence[str]]
    shade: int


def _braille(bits: int) -> str:
    order = (0x01, 0x08, 0x02, 0x10, 0x04, 0x20, 0x40, 0x80)
    return chr(0x2800 + sum(code for index, code in enumerate(order) if bits >> index & 1))


_BRAILLE = [_braille(bits) for bits in range(256)]
_QUADRANT = list(" ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█")
RASTERS: dict[Charset, Raster] = {
    "braille": Raster(2, 4, dict.fromkeys(_ORDER, _BRAILLE), 0b00100001),
    "quadrant": Raster(2, 2, {**dict.fromkeys(_ORDER, _QUADRANT), "band": [" ", *"░" * 15]}, 0b1111),
    "ascii": Raster(
        1, 1, {"bold": list(" =##"), "dashed": list(" ~::"), "thin": list(" -|+"), "band": list(" ...")}, 0b11
    ),
}


class Canvas:
    """Cells of dots, one layer for each style; dot (0, 0) is at the upper left."""

    def __init__(self, width: int, height: int, charset: Charset) -> None:
        self.width, self.height = width, height
        self.raster = RASTERS[charset]
        self.plain = charset == "ascii"
        self.layers = {style: bytearray(width * height) for style in _ORDER}

    @property
    def dots(self) -> tuple[int, int]:
        """Number of dots across and down."""
        return self.width * self.raster.across, self.height * self.raster.down

    def level(self, style: Style, y: int, left: int, right: int) -> None:
        """A horizontal line through dots ``left`` to ``right``, both included."""
        across, full = self.raster.across, (1 << self.raster.across) - 1
        row, shift = divmod(y, self.raster.down)
        first, last = left // across, right // across
        begin, end = full << (left - first * across) & full, full >> (across - 1 - (right - last * across))
        self._stroke(style, row * self.width, 1, first, last, [mask << shift * across for mask in (begin, full, end)])

    def upright(self, style: Style, x: int, top: int, bottom: int) -> None:
        """A vertical line through dots ``top`` to ``bottom``, both included."""
        across, down = self.raster.across, self.raster.down
        column, shift = divmod(x, across)
        first, last = top // down, bottom // down
        masks = [0b10] * 3
        if not self.plain:
            rows = [1 << (each * across + shift) for each in range(down)]
            masks = [sum(rows[top - first * down :]), sum(rows), sum(rows[: bottom - last * down + 1])]
        self._stroke(style, column, self.width, first, last, masks)

    def _stroke(self, style: Style, base: int, stride: int, first: int, last: int, masks: Sequence[int]) -> None:
        """Set bits in cells ``base + stride * (first .. last)``: masks of the first, those between, and the last."""
        layer, (begin, full, end) = self.layers[style], masks
        if first == last:
            layer[base + stride * first] |= begin & end
            return
        layer[base + stride * first] |= begin
        layer[base + stride * last] |= end
        if style == "dashed":
            for cell in range(first + 1, last):
                if cell % _DASH != _DASH - 1:
                    layer[base + stride * cell] |= full
            return
        inner = slice(base + stride * (first + 1), base + stride * last, stride)
        layer[inner] = layer[inner].translate(_setting(full))  # far faster than a loop over the cells

    def shade(self, x: int, top: int, bottom: int) -> None:
        """Part of a band: one column of dots, sparsely filled."""
        self.upright("band", x, top, bottom)

    def row(self, index: int) -> list[tuple[str, str]]:
        """Glyph and style of each cell of a row; a blank has no style."""
        part = slice(index * self.width, (index + 1) * self.width)
        layers = [self.layers[style][part] for style in _ORDER]
        cells = [(" ", "")] * self.width
        for style, layer in zip(reversed(_ORDER), reversed(layers), strict=True):
            glyphs, kept = self.raster.glyphs[style], self.raster.shade if style == "band" else 255
            for column, bits in enumerate(layer) if any(layer) else ():
                if bits & kept:
                    cells[column] = (glyphs[bits & kept], style)
        return cells


@cache
def _setting(bits: int) -> bytes:
    return bytes(each | bits for each in range(256))
