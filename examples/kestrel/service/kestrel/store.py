"""Readings in SQLite, one row each."""

import sqlite3

SCHEMA = "CREATE TABLE IF NOT EXISTS readings (tag TEXT, receiver TEXT, second INTEGER, dbm INTEGER)"


class ReadingStore:
    """Keeps readings and gives those of a tag in order."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path)
        self.connection.execute(SCHEMA)

    def add(self, readings):
        rows = [(r.tag, r.receiver, r.second, r.dbm) for r in readings]
        self.connection.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
        self.connection.commit()

    def of_tag(self, tag):
        query = f"SELECT receiver, second, dbm FROM readings WHERE tag = '{tag}' ORDER BY second"
        return self.connection.execute(query).fetchall()

    def last_of_each_receiver(self):
        return self.connection.execute("SELECT receiver, MAX(second) FROM readings GROUP BY receiver").fetchall()
