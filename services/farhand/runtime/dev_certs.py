"""A small authority to try Farhand beyond one machine: certificates and tokens in one folder.

For trials and for compose.yml; a real installation brings its own certificates. For
the server's extra only (cryptography).
"""

import datetime
import hashlib
import ipaddress
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farhand.kernel import names
from farhand.runtime.service import StartupError

_VALID = datetime.timedelta(days=365)
# Clocks of machines that just started may be a little behind.
_BACKDATED = datetime.timedelta(hours=1)
_ALWAYS = ("localhost", "127.0.0.1", "::1")


def make(folder: Path, hosts: Sequence[str], worker_groups: Sequence[str] = ("", "gpu")) -> list[Path]:
    """Write ca.crt, ca.key, server.crt, server.key, tokens.toml and a file for each token; gives their paths.

    hosts: names and IP addresses under which servers are dialled; loopback's are
    always in. worker_groups: keys; each gets a token of its own, `worker.token` for
    the default group and `worker-KEY.token` for the others. Valid for a year. Mode
    0600. StartupError where one of the files exists already.
    """
    for key in worker_groups:
        if violations := names.check_group_key("--worker-group", key) if key else []:
            raise StartupError(f"{violations[0].path}: {violations[0].description}.")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _authority(ca_key)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _server(server_key, [*_ALWAYS, *hosts], ca, ca_key)
    tokens = {name: secrets.token_urlsafe(32) for name in ("admin", "client", "service")}
    for key in worker_groups:
        tokens[_worker_name(key)] = secrets.token_urlsafe(32)
    contents = {
        "ca.crt": _pem(ca),
        "ca.key": _key_pem(ca_key),
        "server.crt": _pem(server),
        "server.key": _key_pem(server_key),
        "tokens.toml": _token_file(tokens, worker_groups).encode(),
        **{f"{name}.token": f"{token}\n".encode() for name, token in tokens.items()},
    }
    return _write(folder, contents)


def _worker_name(key: str) -> str:
    return f"worker-{key}" if key else "worker"


def _token_file(tokens: dict[str, str], worker_groups: Sequence[str]) -> str:
    groups = {_worker_name(key): key for key in worker_groups}
    lines = ["# Tokens that the servers accept, by their SHA-256. The tokens themselves are in the *.token files.", ""]
    for name, token in tokens.items():
        lines += [
            "[[token]]",
            f"name = {json.dumps(name)}",
            f"role = {json.dumps('worker' if name in groups else name)}",
            f"sha256 = {json.dumps(hashlib.sha256(token.encode()).hexdigest())}",
        ]
        if name in groups:
            lines.append(f"worker_group = {json.dumps(groups[name] or names.DEFAULT_GROUP_ID)}")
        lines.append("")
    return "\n".join(lines)


def _write(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"The folder {folder} can't be made: {error.strerror}.") from None
    there = [name for name in contents if (folder / name).exists()]
    if there:
        raise StartupError(f"{folder} already has {', '.join(there)}; nothing was changed. Choose another folder.")
    for name, content in contents.items():
        # The mode goes with the creation: there is no moment in which others can read a key.
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    return [folder / name for name in contents]


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Farhand development authority")])
    return (
        _certificate(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Farhand server")])
    alternatives = [_alternative(host) for host in dict.fromkeys(hosts)]
    return (
        _certificate(name, ca.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise StartupError(f"{host!r} is neither a host name nor an IP address.") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
