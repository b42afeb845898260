"""Documents of a few hundred bytes, written by hand: PDF, DOCX, EPUB."""

import io
import zipfile
from collections.abc import Sequence

# (left, baseline, text) in points, on a page of 612 x 792; written in 10-point Helvetica.
Placed = tuple[float, float, str]


def pdf(pages: Sequence[Sequence[Placed]], *, locked: bool = False, picture: bool = False) -> bytes:
    """A PDF of these lines; `locked` asks for a password, `picture` puts an image on each page."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>", font]
    for number, lines in enumerate(pages):
        drawn = "".join(f"BT /F 10 Tf {x} {y} Td ({_escaped(text)}) Tj ET\n" for x, y, text in lines)
        if picture:
            drawn += "q 500 0 0 700 50 50 cm BI /W 1 /H 1 /CS /G /BPC 8 ID x EI Q\n"
        facts = "/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F 3 0 R >> >>"
        objects.append(f"<< {facts} /Contents {5 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}endstream")
    out, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n"
    key = "0" * 64
    lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4 >> /ID [<00> <00>] " if locked else ""
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< {lock}/Size {size} /Root 1 0 R >>\n"
    return (out + f"startxref\n{out.index('xref')}\n%%EOF\n").encode("cp1252")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def zipped(members: dict[str, str | bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def epub(chapters: dict[str, str], *, package: str = "") -> bytes:
    """`chapters`: file name to HTML; the spine has them in this order."""
    items = "".join(
        f'<item id="c{number}" href="{name}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(chapters)))
    package = package or f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>"
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="O/p.opf"/></rootfiles></container>',
            "O/p.opf": package,
            # In another order than the spine's.
            **{f"O/{name}": html for name, html in sorted(chapters.items())},
        }
    )


def docx() -> bytes:
    import docx as word

    document = word.Document()
    document.add_heading("Terms", level=1)
    document.add_paragraph("The tenant pays on the first of each month.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Rent", "900"
    document.add_heading("Pets", level=2)
    inserted = document.add_paragraph("Cats are ")
    run = document.add_paragraph("welcome.").runs[0]._r
    # As tracked changes have it.
    wrapper = inserted._p.makeelement("{http://schemas.openxmlformats.org/wordprocessingml/2006/main}ins", {})
    wrapper.append(run)
    inserted._p.append(wrapper)
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()
