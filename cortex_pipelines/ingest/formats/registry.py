"""Parsers by media type. What a format's library costs to import is paid by the first file of it."""

from collections.abc import Callable, Mapping

from cortex_pipelines.ingest.formats import containers, html, images, mail, markup, notebooks, office, pdf, sniffing
from cortex_pipelines.ingest.parsing import Parsed

# From bytes.
BINARY: Mapping[str, Callable[[str, bytes], Parsed]] = {
    "application/pdf": pdf.parse_pdf,
    "application/rtf": office.parse_rtf,
    "application/mbox": mail.parse_mbox,
    "message/rfc822": mail.parse_mail,
    sniffing.ZIP: containers.parse_zip,
    sniffing.OLE: containers.parse_ole,
    sniffing.ARCHIVE: containers.refuse_archive,
    **dict.fromkeys(images.MEDIA_TYPES, images.parse_image),
}
# From their text; any other is plain.
TEXT: Mapping[str, Callable[[str, str], Parsed]] = {
    "text/html": html.parse_html,
    "text/markdown": markup.parse_markdown,
    "text/x-rst": markup.parse_rst,
    "text/asciidoc": markup.parse_asciidoc,
    "text/x-tex": markup.parse_latex,
    "application/x-ipynb+json": notebooks.parse_notebook,
}
