"""Writes a one-page PDF of plain lines, enough for any PDF reader.

It must not know what the lines are about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER: Final = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
_CATALOG: Final = b"<< /Type /Catalog /Pages 2 0 R >>"
_PAGES: Final = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
_PAGE: Final = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
    b" /Resources << /Font << /F1 5 0 R >> >> >>"
)
_FONT: Final = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def write_pdf(lines: Sequence[str]) -> bytes:
    """Lay the lines out on one page; what Latin-1 cannot say becomes a question mark."""
    drawn = b"".join(b"(" + _escape(line) + b") Tj T*\n" for line in lines)
    text = b"BT /F1 12 Tf 16 TL 72 720 Td\n" + drawn + b"ET\n"
    stream = b"<< /Length %d >>\nstream\n%sendstream" % (len(text), text)
    out = bytearray(_HEADER)
    offsets: list[int] = []
    for number, content in enumerate((_CATALOG, _PAGES, _PAGE, stream, _FONT), start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table_at = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(offsets) + 1)
    out += b"startxref\n%d\n%%%%EOF\n" % table_at
    return bytes(out)


def _escape(line: str) -> bytes:
    raw = line.encode("latin-1", errors="replace")
    return raw.replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)")
