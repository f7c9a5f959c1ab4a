"""Why a connection failed, in words for a technician. One trouble has one text, however often it is met: what
changed is told, what did not is not.
"""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

import httpx

# Of OpenSSL's x509_vfy.h: not yet valid, expired; and all that mean that who signed it is not trusted.
_OF_ANOTHER_TIME = (9, 10)
_OF_ANOTHER_AUTHORITY = (2, 18, 19, 20, 21)
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH)


def explain(where: str, error: BaseException | None, *, ca_file: Path | None = None) -> str:
    """``error``: of the connection to ``where``, or what httpx made of it; None: the other side ended it.
    ``ca_file``: what alone is trusted.
    """
    if isinstance(error, httpx.HTTPError):
        return _of_http(where, error, ca_file)
    if error is None:
        return f"{where} closed the connection"
    if isinstance(error, ssl.SSLError):
        return _of_tls(where, error, ca_file)
    if isinstance(error, socket.gaierror):
        return f"the name of {where} cannot be resolved: {error.strerror}"
    if isinstance(error, UnicodeError):
        return f"the name of {where} cannot be resolved: no name looks like that"
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"{where} does not answer: switched off, or the network is down?"
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ECONNREFUSED:
        return f"{where} refuses the connection: the service there is not running"
    if code in (errno.ECONNRESET, errno.EPIPE):
        return f"{where} broke off the connection"
    if code in _NO_WAY:
        return f"there is no way to {where}: cable, switch or address?"
    if code == errno.ETIMEDOUT:
        return f"{where} gave no sign of life: switched off, or the network is down?"
    return f"{where} failed: {getattr(error, 'strerror', None) or error}"


def behind(error: BaseException) -> BaseException:
    """What an error of httpx began with. httpcore raises ``from None``: only the context leads there."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if not isinstance(error, BaseExceptionGroup):
        return error
    # One for each address of a name: that there is no way to one of them says least.
    found = [behind(one) for one in error.exceptions]
    return next((one for one in found if getattr(one, "errno", None) not in _NO_WAY), found[-1])


def _of_http(where: str, error: httpx.HTTPError, ca_file: Path | None) -> str:
    if isinstance(error, httpx.RemoteProtocolError):
        return f"what listens at {where} does not speak HTTP, or broke off"
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return f"{where} did not answer in time"
    if isinstance(error, httpx.TimeoutException):
        return explain(where, TimeoutError())
    cause = behind(error)
    if isinstance(cause, OSError | UnicodeError):
        return explain(where, cause, ca_file=ca_file)
    return f"{where} closed the connection" if isinstance(error, httpx.NetworkError) else f"{where}: {error}"


def _of_tls(where: str, error: ssl.SSLError, ca_file: Path | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {where} is not accepted: {_distrust(error, ca_file)}"
    if isinstance(error, ssl.SSLEOFError):
        return f"{where} broke off while TLS was agreed on"
    if error.reason == "WRONG_VERSION_NUMBER":
        return f"what listens at {where} does not speak TLS"
    return f"no TLS with {where}: {error.reason or error}"


def _distrust(error: ssl.SSLCertVerificationError, ca_file: Path | None) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in _OF_ANOTHER_TIME:
        return f"{said}; is the clock of this machine right?"
    if error.verify_code not in _OF_ANOTHER_AUTHORITY:
        return said
    if ca_file is not None:
        return f"{said}; {ca_file} does not vouch for it"
    return f"{said}; nobody whom this machine trusts vouches for it (ca_file names a private authority)"
