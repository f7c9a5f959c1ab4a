from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from edge_agent.unreached import explain

CA_FILE = Path("/etc/andon/ca.pem")
WHERE = "https://andon.example"


def os_error(code: int) -> OSError:
    return OSError(code, "what the system says")


def raised(error: BaseException, *behind: BaseException) -> BaseException:
    """As httpx raises it: each made of the one after it, the causes left out."""
    found = error
    for one in behind:
        error.__context__ = one
        error = one
    return found


def distrusted(code: int, said: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, said
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, f"{WHERE} closed the connection"),
        (os_error(errno.ECONNREFUSED), f"{WHERE} refuses the connection: the service there is not running"),
        (os_error(errno.ECONNRESET), f"{WHERE} broke off the connection"),
        (os_error(errno.ENETUNREACH), f"there is no way to {WHERE}: cable, switch or address?"),
        (os_error(errno.ETIMEDOUT), f"{WHERE} gave no sign of life: switched off, or the network is down?"),
        (TimeoutError(), f"{WHERE} does not answer: switched off, or the network is down?"),
        (os_error(errno.EACCES), f"{WHERE} failed: what the system says"),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            f"the name of {WHERE} cannot be resolved: Name or service not known",
        ),
        (UnicodeError("label too long"), f"the name of {WHERE} cannot be resolved: no name looks like that"),
        (ssl.SSLEOFError(8, "EOF"), f"{WHERE} broke off while TLS was agreed on"),
        (httpx.ConnectTimeout(""), f"{WHERE} does not answer: switched off, or the network is down?"),
        (httpx.ReadTimeout(""), f"{WHERE} did not answer in time"),
        (httpx.RemoteProtocolError(""), f"what listens at {WHERE} does not speak HTTP, or broke off"),
        (raised(httpx.ReadError(""), EOFError()), f"{WHERE} closed the connection"),
        (httpx.LocalProtocolError("Illegal header value"), f"{WHERE}: Illegal header value"),
        (
            raised(httpx.ConnectError("All attempts failed"), os_error(errno.ECONNREFUSED)),
            f"{WHERE} refuses the connection: the service there is not running",
        ),
    ],
)
def test_why_a_connection_failed_is_told_in_words(error: BaseException | None, words: str) -> None:
    assert explain(WHERE, error, ca_file=CA_FILE) == words


@pytest.mark.parametrize(
    "codes", [(errno.ENETUNREACH, errno.ECONNREFUSED), (errno.ECONNREFUSED, errno.ENETUNREACH)]
)
def test_of_the_addresses_of_a_name_the_one_that_answered_tells_most(codes: tuple[int, int]) -> None:
    group = ExceptionGroup("multiple connection attempts failed", [os_error(code) for code in codes])
    error = raised(httpx.ConnectError("All attempts failed"), OSError("All attempts failed"), group)
    assert explain(WHERE, error).startswith(f"{WHERE} refuses the connection")


def test_where_no_address_of_a_name_can_be_reached_that_is_said() -> None:
    group = ExceptionGroup("both", [os_error(errno.ENETUNREACH), os_error(errno.EHOSTUNREACH)])
    assert explain(WHERE, raised(httpx.ConnectError(""), group)).startswith("there is no way to")


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (20, "unable to get local issuer certificate", f"; {CA_FILE} does not vouch for it"),
        (18, "self-signed certificate", f"; {CA_FILE} does not vouch for it"),
        (9, "certificate is not yet valid", "; is the clock of this machine right?"),
        (10, "certificate has expired", "; is the clock of this machine right?"),
        (62, "Hostname mismatch, certificate is not valid for 'x'.", ""),
        (89, "Basic Constraints of CA cert not marked critical", ""),
    ],
)
def test_a_certificate_that_is_not_accepted_is_told_by_what_is_wrong_with_it(
    code: int, said: str, words: str
) -> None:
    told = explain(WHERE, raised(httpx.ConnectError(said), distrusted(code, said)), ca_file=CA_FILE)
    assert told == f"the certificate of {WHERE} is not accepted: {said.rstrip('.')}{words}"
