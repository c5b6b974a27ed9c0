"""A letter as a PDF ready for the printer: A4, its font embedded, the address in the window.

The window is that of a French DL envelope on the right (NF Z 10-011): on the sheet, folded in
three, the address stands within 105 to 190 mm from the left and 45 to 85 mm from the top.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import TTFFont

from shared.errors import SettingsError, StoreError

FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")  # Debian's fonts-dejavu-core
FAMILY = "DejaVu"
POINTS = 11

# Millimetres from the top left corner of the sheet.
MARGIN = 25
SENDER_TOP = 20
WINDOW_LEFT, WINDOW_TOP, WINDOW_WIDTH, WINDOW_BOTTOM = 105, 45, 85, 85
TEXT_TOP, TEXT_BOTTOM = 105, 275
LINE = 5


class PageError(StoreError):
    """The letter can't be printed: too long, or a character that the font lacks."""


@dataclass(frozen=True, repr=False)
class Letter:
    """What is on the page, already in words; nothing of it shows when it is printed or logged."""

    sender: list[str]
    recipient: list[str]
    date: str
    subject: str
    text: str


def check_font() -> None:
    """Raise SettingsError if the font is not on this machine."""
    if not FONT.exists():
        raise SettingsError(f"{FONT}: absent ; installez le paquet Debian fonts-dejavu-core")


def render(letter: Letter, made_at: datetime) -> bytes:
    """Give the PDF, one page; PageError if it does not fit or can't be written."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(made_at)
    pdf.set_auto_page_break(False)
    pdf.set_margins(MARGIN, SENDER_TOP, MARGIN)
    pdf.add_font(FAMILY, fname=FONT)
    font = pdf.fonts[FAMILY.lower()]
    assert isinstance(font, TTFFont)  # noqa: S101 - what FONT is
    with closing(font):  # fpdf2 leaves its file open
        _check_characters(font, letter)
        _fill(pdf, letter)
        return bytes(pdf.output())


def _fill(pdf: FPDF, letter: Letter) -> None:
    pdf.add_page()
    pdf.set_font(FAMILY, size=POINTS)
    _write(pdf, MARGIN, SENDER_TOP, letter.sender)
    _write(pdf, WINDOW_LEFT, WINDOW_TOP, letter.recipient, WINDOW_WIDTH)
    if pdf.get_y() > WINDOW_BOTTOM:
        raise PageError("the address does not fit the window")
    _write(pdf, MARGIN, TEXT_TOP, [letter.date, "", f"Objet : {letter.subject}", "", letter.text])
    if pdf.get_y() > TEXT_BOTTOM:
        raise PageError("the text does not fit the page")


def _write(pdf: FPDF, left: float, top: float, blocks: Iterable[str], width: float = 0) -> None:
    """Write blocks of lines one below the other; without a width, up to the right margin."""
    pdf.set_xy(left, top)
    for block in blocks:
        pdf.set_x(left)
        pdf.multi_cell(width, LINE, block or " ", align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _check_characters(font: TTFFont, letter: Letter) -> None:
    """Refuse what the font would print as an empty box: a name must arrive as it is."""
    written = "".join([*letter.sender, *letter.recipient, letter.date, letter.subject, letter.text])
    if any(ord(character) not in font.cmap for character in written.replace("\n", "")):
        raise PageError("a character that the font lacks")
