"""Markdown and HTML from what is published. Whatever came from a document, a name or a model is escaped."""

from cortex_pipelines.reports.analysis import render_code_analyses, render_deep_ingest_audits
from cortex_pipelines.reports.ingest import render_documents, render_rag_index, render_repositories
from cortex_pipelines.reports.markdown import excerpt
from cortex_pipelines.reports.planning import (
    render_compliance_report,
    render_gap_report,
    render_ideas,
    render_roadmap,
)
from cortex_pipelines.reports.sarif import render_sarif
from cortex_pipelines.reports.write import write_report

__all__ = [
    "excerpt",
    "render_code_analyses",
    "render_compliance_report",
    "render_deep_ingest_audits",
    "render_documents",
    "render_gap_report",
    "render_ideas",
    "render_rag_index",
    "render_repositories",
    "render_roadmap",
    "render_sarif",
    "write_report",
]
