"""Chunks with exact places, vectors, fused search and answers that cite."""
