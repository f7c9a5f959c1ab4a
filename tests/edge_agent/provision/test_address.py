"""An address is taken that a connection can be made to, and refused with what was expected."""

import httpx
import pytest

from edge_agent.provision.address import AddressError, check_url

TAKEN = [
    ("https://andon.example:8443", "https://andon.example:8443"),
    ("https://andon.example:8443/", "https://andon.example:8443"),
    ("https://andon_1.example.", "https://andon_1.example."),
    ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
    ("https://10.0.0.5", "https://10.0.0.5"),
    ("https://[fd00::5]:8443", "https://[fd00::5]:8443"),
    ("http://localhost:8420", "http://localhost:8420"),
]
REFUSED = [
    "andon.example",
    "ftp://andon.example",
    "https://",
    "https://andon.example:84x3",
    "https://andon.example:84300",
    "https://andon..example:8443",
    "https://\N{SNOWMAN}.example:8443",
    f"https://{'a' * 64}.example",
    "https://10.0.0.500",
    "https://[fd00::5",
    "https://[v1.a]",
    "https://ada:secret@andon.example",
    "https://andon.example/andon",
    "https://andon.example?site=north",
]


@pytest.mark.parametrize(("url", "root"), TAKEN)
def test_what_is_taken_can_be_asked(url: str, root: str) -> None:
    assert check_url(url, allow_plain_http=False) == root
    # As the name is looked up (socket.getaddrinfo).
    assert httpx.URL(root).raw_host.decode().encode("idna")


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(AddressError, match="not a collector's address"):
        check_url(url, allow_plain_http=True)


def test_plain_http_is_for_loopback_unless_allowed() -> None:
    with pytest.raises(AddressError, match="use https"):
        check_url("http://10.0.0.5", allow_plain_http=False)
    assert check_url("http://10.0.0.5", allow_plain_http=True) == "http://10.0.0.5"
