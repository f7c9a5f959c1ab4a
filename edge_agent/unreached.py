"""Why a connection failed, in words for a technician."""

from __future__ import annotations

import errno
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import httpx

# Of OpenSSL's x509_vfy.h: not yet valid, expired; made for another name, for another address.
_OF_ANOTHER_TIME, _OF_ANOTHER_NAME = (9, 10), (62, 64)


def explain(where: str, error: BaseException | None, *, ca_file: Path | None = None) -> str:
    """``error``: of the connection to ``where``, or what httpx made of it; None: the other side ended it.
    ``ca_file``: what alone is trusted.
    """
    if isinstance(error, httpx.RemoteProtocolError):
        return f"what listens at {where} does not speak HTTP, or broke off"
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return f"{where} did not answer in time"
    if isinstance(error, httpx.TimeoutException):
        error = TimeoutError()
    elif isinstance(error, httpx.HTTPError):
        error = behind(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {where} is not accepted: {_distrust(error, ca_file)}"
    if isinstance(error, ssl.SSLError):
        if error.reason == "WRONG_VERSION_NUMBER":
            return f"what listens at {where} does not speak TLS"
        return f"no TLS with {where}: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"the name of {where} cannot be resolved: {error.strerror}"
    if isinstance(error, UnicodeError):
        return f"the name of {where} cannot be resolved: no name looks like that"
    if not isinstance(error, OSError):
        return f"{where} closed the connection"
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"{where} does not answer: switched off, or the network is down?"
    if error.errno == errno.ECONNREFUSED:
        return f"{where} refuses the connection: the service there is not running"
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return f"{where} broke off the connection"
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"there is no way to {where}: cable, switch or address?"
    if error.errno == errno.ETIMEDOUT:
        return f"{where} gave no sign of life: switched off, or the network is down?"
    return f"{where} failed: {error.strerror or error}"


def behind(error: BaseException) -> BaseException:
    """What an error of httpx began with. httpcore raises ``from None``: only the context leads there."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return behind(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _distrust(error: ssl.SSLCertVerificationError, ca_file: Path | None) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in _OF_ANOTHER_TIME:
        return f"{said}; the clock here says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if error.verify_code in _OF_ANOTHER_NAME:
        return said
    if ca_file is not None:
        return f"{said}; {ca_file} does not vouch for it"
    return f"{said}; nobody whom this machine trusts vouches for it (ca_file names a private authority)"
