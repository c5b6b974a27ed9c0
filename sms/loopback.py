"""Which addresses are this machine's own: what goes there in clear crosses no network."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine, as far as its name tells."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
