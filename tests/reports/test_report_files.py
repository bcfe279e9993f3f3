"""Reports as files: pages that load nothing, written whole, listed in an index; hostile sources stay text in them."""

import re
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from cortex_pipelines.products import PRODUCTS, build, write_report
from cortex_pipelines.reports import write as module
from cortex_pipelines.reports.html import page
from cortex_pipelines.reports.write import ReportError
from cortex_pipelines.reports.write import write_report as write
from cortex_pipelines.stairs import Work
from cortex_pipelines.store import ProjectStore
from tests.ingest.git_building import make_repository

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# What a browser fetches, runs or sends without being asked.
ACTIVE = "script, iframe, object, embed, link, img, video, audio, source, form, base, svg, applet, frame, portal"


def check_page(text: str) -> LexborHTMLParser:
    tree = LexborHTMLParser(text)
    [policy] = tree.css('meta[http-equiv="Content-Security-Policy"]')
    assert policy.attributes["content"] == POLICY
    assert tree.css(ACTIVE) == []
    assert len(tree.css("meta[http-equiv]")) == 1
    for node in tree.css("*"):
        assert not any(name.startswith("on") or name in ("src", "srcset", "style") for name in node.attributes)
    for link in tree.css("a"):
        assert re.fullmatch(r"[a-z_]+\.html", link.attributes["href"] or "")
    for style in tree.css("style"):
        assert not re.search(r"url\(|@import", style.text())
    return tree


def test_a_page_has_a_policy_that_forbids_everything_and_loads_nothing():
    tree = check_page(page("A title", "# Heading\n\ntext\n", [("atlas", "index.html")]))
    assert tree.css_first("title").text() == "A title"
    assert tree.css_first("main h1").text() == "Heading"


def test_the_policy_stands_before_anything_that_it_governs():
    text = page("A title", "x", [])
    assert text.index("Content-Security-Policy") < text.index("<title>") < text.index("<style>")


def test_html_in_markdown_is_shown_and_not_obeyed():
    tree = check_page(page("t", "<script>alert(1)</script>\n\nx <img src=http://x.example onerror=alert(1)> y\n", []))
    assert "<script>alert(1)</script>" in tree.css_first("main").text()


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_report_is_written_as_markdown_and_as_a_page_and_the_index_lists_it(tmp_path):
    path = write(tmp_path, "atlas", "gap_report", "# Gaps\n", "Gap report")
    write(tmp_path, "atlas", "ideas", "# Ideas\n", "Ideas")
    assert path == tmp_path / "atlas" / "gap_report.md"
    assert path.read_text() == "# Gaps\n"
    assert listed(tmp_path / "atlas") == ["gap_report.html", "gap_report.md", "ideas.html", "ideas.md", "index.html"]
    index = check_page((tmp_path / "atlas" / "index.html").read_text())
    links = [(link.text(), link.attributes["href"]) for link in index.css("nav a")]
    assert links == [("gap report", "gap_report.html"), ("ideas", "ideas.html")]
    report = check_page((tmp_path / "atlas" / "gap_report.html").read_text())
    assert [link.attributes["href"] for link in report.css("nav a")] == ["index.html"]
    assert report.css_first("title").text() == "Gap report: atlas"


def test_a_report_that_did_not_change_is_not_written_again(tmp_path):
    folder = tmp_path / "atlas"
    write(tmp_path, "atlas", "ideas", "# Ideas\n", "Ideas")
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}
    write(tmp_path, "atlas", "ideas", "# Ideas\n", "Ideas")
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    write(tmp_path, "atlas", "ideas", "# More ideas\n", "Ideas")
    assert (folder / "ideas.md").read_text() == "# More ideas\n"
    assert "More ideas" in (folder / "ideas.html").read_text()


@pytest.mark.parametrize("name", ["ideas.html", "index.html", "ideas.md"])
def test_a_write_that_fails_leaves_what_was_there_and_is_made_up_for_by_the_next(tmp_path, monkeypatch, name):
    folder = tmp_path / "atlas"
    write(tmp_path, "atlas", "ideas", "# Ideas\n", "Ideas")
    write(tmp_path, "atlas", "roadmap", "# Roadmap\n", "Roadmap")
    (folder / "index.html").write_text("an old index")
    before = (folder / name).read_text()
    replace = Path.replace

    def full(self, target):
        if Path(target).name == name:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(module.Path, "replace", full)
        with pytest.raises(ReportError, match=r"atlas cannot be written \(No space left on device\)"):
            write(tmp_path, "atlas", "ideas", "# More ideas\n", "Ideas")
    assert (folder / name).read_text() == before
    assert [found for found in listed(folder) if found.startswith(".")] == []
    write(tmp_path, "atlas", "ideas", "# More ideas\n", "Ideas")
    assert "More ideas" in (folder / "ideas.md").read_text()
    assert "More ideas" in (folder / "ideas.html").read_text()
    assert "roadmap.html" in (folder / "index.html").read_text()


def test_nobody_sees_half_a_report(tmp_path, monkeypatch):
    write(tmp_path, "atlas", "ideas", "# Ideas\n", "Ideas")
    seen = []
    replace = Path.replace

    def looked_at(self, target):
        whole = self.read_text().endswith(("</html>", "# More ideas\n"))
        seen.append((Path(target).name, (tmp_path / "atlas" / "ideas.md").read_text(), whole))
        return replace(self, target)

    monkeypatch.setattr(module.Path, "replace", looked_at)
    write(tmp_path, "atlas", "ideas", "# More ideas\n", "Ideas")
    # The Markdown, by which a report is known to be written, comes last, and each file arrives whole.
    assert seen == [("ideas.html", "# Ideas\n", True), ("ideas.md", "# Ideas\n", True)]


def test_a_reports_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path):
    (tmp_path / "reports").write_text("a file where the folder should be")
    with pytest.raises(ReportError, match="set CORTEX_REPORTS"):
        write(tmp_path / "reports", "atlas", "ideas", "# Ideas\n", "Ideas")


IMAGE = "![x](http:evil.example)"
DOCUMENT = f"""# <script>alert('title')</script> {IMAGE}

## Requirements

- **X-1** The gate must <img src=http://evil.example onerror=alert(1)> log [every](javascript:alert(1)) visit | twice.
- **X-2** The `gate` must </code></pre><script>alert(2)</script> be fast.
- The {IMAGE} must be kept for 30 days. TBD
"""
CHAT = """# Chat

**<b onclick=alert(1)>Ana</b>** (2026-03-02 10:14): @Jonas please [write](javascript:alert(1)) <script>alert(3)</script>

**Jonas** (2026-03-02 10:16): What if we used ![pixels](http://evil.example/p.png)?

```html
<script>alert(4)</script>
```
"""
CODE = "# FIXME: <script>alert(5)</script> `|` [x](javascript:alert(1))\neval('<img src=http://evil.example>|``')\n"


def test_no_report_of_a_hostile_project_holds_an_element_or_a_link_of_its_sources(settings):
    folder = settings.inbox / "atlas"
    folder.mkdir()
    (folder / f"prd <img src=x onerror=alert(1)> {IMAGE}|`x`.md").write_text(DOCUMENT)
    (folder / "chat &lt;script&gt;.md").write_text(CHAT)
    (folder / "<svg onload=alert(1)>.bin").write_bytes(b"\0\1\2")
    (folder / "server.log").write_text("ERROR <script>alert(6)</script>\n" * 40_000)
    make_repository(folder / "r <i>[x](javascript:1)", {f"<b>{IMAGE}|`.py": CODE, "b.py": "print(1)\n"})
    work = Work("atlas", settings, ProjectStore(settings.store, "atlas", settings.state))
    for product in PRODUCTS:
        write_report(product, work, build(product, work))
    pages = sorted((settings.reports / "atlas").glob("*.html"))
    assert [path.stem for path in pages] == sorted([*(product.name for product in PRODUCTS), "index"])
    text = ""
    for path in pages:
        tree = check_page(path.read_text())
        assert tree.css("main b, main i, main svg") == []
        assert tree.css("main a") == []
        text += tree.css_first("main").text()
    # It is all there to be read.
    for told in ("alert('title')", f"<b>{IMAGE}|`.py", "<svg onload=alert(1)>.bin", "r <i>[x](javascript:1)"):
        assert told in text
    assert "<img src=http://evil.example onerror=alert(1)> log [every](javascript:alert(1)) visit | twice" in text
    assert "<script>alert(5)</script> `|`" in text
