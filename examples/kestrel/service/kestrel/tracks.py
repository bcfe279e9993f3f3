"""Tracks of birds, built from the readings of their tags."""

import json

GAP_HOURS = 24


class TrackBuilder:
    """Joins the readings of one tag into tracks, a new one after a long gap."""

    def __init__(self, store):
        self.store = store

    def build(self, tag):
        tracks = []
        last = None
        for receiver, second, dbm in self.store.of_tag(tag):
            if last is None or second - last > GAP_HOURS * 3600:
                tracks.append([])
            tracks[-1].append((receiver, second, dbm))
            last = second
        return tracks


def to_geojson(track, positions):
    """A track as a GeoJSON line."""
    coordinates = [positions[receiver] for receiver, _, _ in track]
    return json.dumps({"type": "Feature", "geometry": {"type": "LineString", "coordinates": coordinates}})
