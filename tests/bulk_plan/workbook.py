"""A minimal Excel workbook by hand, so that no package is needed to write one."""

import zipfile

SITE = "http://schemas.openxmlformats.org"
MAIN = f"{SITE}/spreadsheetml/2006/main"
REL = f"{SITE}/officeDocument/2006/relationships"
PACKAGE = f"{SITE}/package/2006/relationships"
TYPES = f"{SITE}/package/2006/content-types"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


FAILED = object()
"""A cell whose formula has failed."""


NOT_YET = object()
"""A cell whose formula no spreadsheet has worked out."""
EMPTY_TEXT = object()
"""A cell whose formula gives an empty text."""


def xlsx(path, sheets, *, hidden=(), hidden_rows=(), columns="", far="", merged=""):
    """Sheets by name, rows of cells: text as inline strings, numbers as numbers, None as a missing cell.

    `hidden` are names of sheets, `columns` is what says how columns look, `far` the place of one more cell.
    `merged` are cells that are one, as `B1:C1`.
    """
    parts = {i: f"worksheets/s{i}.xml" for i in range(1, len(sheets) + 1)}
    kinds = [("workbook.xml", "sheet.main"), *((part, "worksheet") for part in parts.values())]
    state = {n: ' state="hidden"' if n in hidden else "" for n in sheets}
    names = [f'<sheet name="{n}" sheetId="{i}"{state[n]} r:id="r{i}"/>' for i, n in enumerate(sheets, 1)]
    links = [f'<Relationship Id="r{i}" Type="{REL}/worksheet" Target="{p}"/>' for i, p in parts.items()]
    with zipfile.ZipFile(path, "w") as book:
        types = [f'<Override PartName="/xl/{p}" ContentType="{KIND}.{k}+xml"/>' for p, k in kinds]
        rels = "application/vnd.openxmlformats-package.relationships+xml"
        rels = f'<Default Extension="rels" ContentType="{rels}"/>'
        book.writestr("[Content_Types].xml", f'<Types xmlns="{TYPES}">{rels}{"".join(types)}</Types>')
        top = f'<Relationship Id="r1" Type="{REL}/officeDocument" Target="xl/workbook.xml"/>'
        book.writestr("_rels/.rels", f'<Relationships xmlns="{PACKAGE}">{top}</Relationships>')
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{MAIN}" xmlns:r="{REL}"><sheets>{"".join(names)}</sheets></workbook>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{PACKAGE}">{"".join(links)}</Relationships>'
        )
        for part, rows in zip(parts.values(), sheets.values(), strict=True):
            look = dict.fromkeys(hidden_rows, ' hidden="1"')
            data = "".join(
                f'<row r="{r}"{look.get(r, "")}>{_cells(r, row)}</row>' for r, row in enumerate(rows, 1)
            )
            if far:
                number = far.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
                data += f'<row r="{number}"><c r="{far}"><v>1</v></c></row>'
            data = f"{columns}<sheetData>{data}</sheetData>"
            data += f'<mergeCells><mergeCell ref="{merged}"/></mergeCells>' if merged else ""
            book.writestr(f"xl/{part}", f'<worksheet xmlns="{MAIN}">{data}</worksheet>')
    return path


def _cells(number, row):
    text = ""
    for column, value in enumerate(row):
        at = f'r="{chr(65 + column)}{number}"'
        if value is FAILED:
            text += f'<c {at} t="e"><f>NA()</f><v>#N/A</v></c>'
        elif value is NOT_YET:
            text += f"<c {at}><f>A1</f><v></v></c>" if column % 2 else f"<c {at}><f>A1</f></c>"
        elif value is EMPTY_TEXT:
            text += f'<c {at} t="str"><f>""</f><v></v></c>'
        elif isinstance(value, str):
            text += f'<c {at} t="inlineStr"><is><t>{value}</t></is></c>'
        elif value is not None:
            text += f"<c {at}><v>{value!r}</v></c>"
    return text


ODF = "urn:oasis:names:tc:opendocument:xmlns"
SPACES = (
    f'xmlns:office="{ODF}:office:1.0" xmlns:table="{ODF}:table:1.0" xmlns:text="{ODF}:text:1.0" '
    'xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"'
)


def ods(path, sheet):
    """A sheet as LibreOffice writes it; `sheet` has the elements of its columns and rows."""
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    entry = f'<m:file-entry m:full-path="/" m:media-type="{kind}"/>'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", kind)
        book.writestr(
            "META-INF/manifest.xml", f'<m:manifest xmlns:m="{ODF}:manifest:1.0">{entry}</m:manifest>'
        )
        body = f'<office:spreadsheet><table:table table:name="S">{sheet}</table:table></office:spreadsheet>'
        book.writestr(
            "content.xml",
            f"<office:document-content {SPACES}><office:body>{body}</office:body></office:document-content>",
        )
    return path
