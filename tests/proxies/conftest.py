"""Certificates, keys, the application and the proxies, each started once."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom import keyfile
from strongroom.adapters import system_clock
from tests.proxies.servers import (
    Certificates,
    Proxy,
    edge_caddy,
    edge_nginx,
    shop,
)

ONE_READER = "--no-proxy-headers"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real servers take their time, and are started once: in one worker."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and "folder" in getattr(
            item, "fixturenames", ()
        ):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("proxies"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything is kept while the servers run."""
    return tmp_path_factory.mktemp("proxies")


@pytest.fixture(scope="session")
def keys(folder: Path) -> Path:
    """The application's key file."""
    path = folder / "strongroom.keys"
    keyfile.write(path, keyfile.generate("shop", system_clock()))
    return path


@pytest.fixture(scope="session")
def certificates(folder: Path) -> Certificates:
    """An authority of our own, and its certificate for loopback."""
    now = datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    leaf = ec.generate_private_key(ec.SECP256R1())

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(
        subject: str, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("Strongroom's tests"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )
        for extension in extensions:
            builder = builder.add_extension(
                extension, critical=isinstance(extension, x509.BasicConstraints)
            )
        signed = builder.sign(authority, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    is_ca = x509.BasicConstraints(ca=True, path_length=0)
    ours = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = Certificates(folder / "ca.pem", folder / "leaf.pem", folder / "leaf.key")
    made.ca.write_bytes(certificate("Strongroom's tests", authority, is_ca, ours, usage))
    not_ca = x509.BasicConstraints(ca=False, path_length=None)
    made.leaf.write_bytes(certificate("localhost", leaf, not_ca, by, names))
    made.key.write_bytes(
        leaf.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


@pytest.fixture(scope="session")
def app(folder: Path, keys: Path) -> Iterator[int]:
    """The application as the pages say: one trusted proxy, one reader of its headers -> port."""
    with shop(folder, keys, ONE_READER, networks=["127.0.0.1"]) as started:
        yield started


@pytest.fixture(scope="session")
def nginx_edge(folder: Path, certificates: Certificates, app: int) -> Iterator[Proxy]:
    """nginx in front of it."""
    with edge_nginx(folder, certificates, app) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def caddy_edge(folder: Path, certificates: Certificates, app: int) -> Iterator[Proxy]:
    """Caddy in front of it."""
    with edge_caddy(folder, certificates, app) as proxy:
        yield proxy
