"""Parsers of documents, one module a format or a family of them."""
