"""Alerts about receivers that fell silent."""

SILENT_HOURS = 6


def silent_receivers(last_seen, now):
    """The receivers that have been silent for too long."""
    return [receiver for receiver, second in last_seen if now - second > SILENT_HOURS * 3600]


def send_email(receiver, warden):
    # TODO: the observatory's mail server is not decided yet
    pass
