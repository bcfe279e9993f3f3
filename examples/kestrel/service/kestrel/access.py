"""Who may ask, and how often."""

import time

REQUESTS_PER_MINUTE = 60


class RateLimiter:
    """Counts the requests of a token in a sliding window of one minute."""

    def __init__(self):
        self.seen = {}

    def allow(self, token, now=None):
        now = time.time() if now is None else now
        recent = [moment for moment in self.seen.get(token, []) if now - moment < 60]
        self.seen[token] = [*recent, now]
        return len(recent) < REQUESTS_PER_MINUTE


def authorize(headers, tokens):
    """401 without a known API token, 200 with one."""
    token = headers.get("Authorization", "").removeprefix("Bearer ")
    return 200 if token in tokens else 401
