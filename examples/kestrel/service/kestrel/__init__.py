"""Kestrel: from readings of receivers to tracks of birds."""
