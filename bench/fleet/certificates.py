"""Certificates: what scheduler, gateways and clients of a fleet show each other, and who may take part without them."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Any

from bench.errors import RequestError, show

FILES = ("ca.pem", "cert.pem", "key.pem")
"""In a folder of certificates: the authority's, the own certificate, its key."""

VALID_DAYS = 825


def make_certificates(folder: Path) -> None:
    """Make an authority, and a certificate with its key that is signed by it. The authority's key is not kept.

    Whoever has the folder is part of the fleet, and may run code on its gateways: copy it over ssh to each of them and
    nowhere else.

    Raises:
        RequestError: one of the files is there.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    for file in FILES:
        if (folder / file).exists():
            raise RequestError(f"{folder / file}: is there already; choose another folder")

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def signed(subject: str, public: Any, *, authority: bool) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("jouletune fleet"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .sign(authority_key, hashes.SHA256())
        )

    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    contents = (
        signed("jouletune fleet", authority_key.public_key(), authority=True).public_bytes(pem),
        signed("jouletune fleet member", key.public_key(), authority=False).public_bytes(pem),
        secret,
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, content in zip(FILES, contents, strict=True):
        descriptor = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)


def security(address: str, folder: Path | None) -> Any:
    """The `distributed.Security` for an address; None for plain text, which is for this machine alone.

    Raises:
        RequestError: the address is none, would be spoken with in plain text beyond this machine, or files are missing.
    """
    protocol, separator, rest = address.partition("://")
    if not separator or protocol not in ("tcp", "tls") or not rest.rpartition(":")[2].isdigit():
        raise RequestError(
            f"--scheduler {show(address)}: expected tls://HOST:PORT, or tcp://127.0.0.1:PORT on this machine"
        )
    if protocol == "tcp":
        if not is_loopback(rest.rpartition(":")[0]):
            raise RequestError(
                f"--scheduler {show(address)}: not in plain text; `jouletune fleet certificates DIR` makes what "
                "TLS needs, then tls://HOST:PORT with --certificates DIR"
            )
        return None
    if folder is None:
        raise RequestError(
            f"--scheduler {show(address)}: --certificates is missing; `jouletune fleet certificates DIR` makes them"
        )
    lacking = [file for file in FILES if not (folder / file).is_file()]
    if lacking:
        raise RequestError(f"{folder}: has no {lacking[0]}; `jouletune fleet certificates DIR` makes it")
    distributed = library()
    ca, certificate, key = (str(folder / file) for file in FILES)
    roles = {
        f"tls_{role}_{what}": file
        for role in ("client", "worker")
        for what, file in (("cert", certificate), ("key", key))
    }
    return distributed.Security(tls_ca_file=ca, require_encryption=True, **roles)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, however its name would be resolved."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def library() -> Any:
    """The package `distributed`.

    Raises:
        RequestError: it is not installed.
    """
    try:
        import distributed
    except ImportError:
        raise RequestError("dask is not installed; pip install 'jouletune[fleet]' brings it") from None
    return distributed
