"""Files sealed by a passphrase as age writes them, at a cost of milliseconds: the file itself says how much it is.

The format: https://age-encryption.org/v1. What opens them in the tests is the real thing.
"""

from __future__ import annotations

import base64
import os

import pyrage
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

REAL = pyrage.passphrase.encrypt
COST = 4
"""Of the work that is real, this many doublings."""
CHUNK = 1 << 16


def encrypt(content: bytes, passphrase: str) -> bytes:
    """Seal, with the interface of `pyrage.passphrase.encrypt`."""
    key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    label = b"age-encryption.org/v1/scrypt"
    wrap = Scrypt(salt=label + salt, length=32, n=1 << COST, r=8, p=1).derive(passphrase.encode())
    wrapped = ChaCha20Poly1305(wrap).encrypt(bytes(12), key, None)
    stanza = b"-> scrypt %s %d\n%s\n" % (_encoded(salt), COST, _encoded(wrapped))
    header = b"age-encryption.org/v1\n" + stanza + b"---"
    mac = HMAC(_derived(key, b"", b"header"), hashes.SHA256())
    mac.update(header)
    stream = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    chunks = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)] or [b""]
    numbered = ((number, number == len(chunks) - 1, chunk) for number, chunk in enumerate(chunks))
    sealed = (stream.encrypt(n.to_bytes(11) + bytes([last]), chunk, None) for n, last, chunk in numbered)
    return b"%s %s\n" % (header, _encoded(mac.finalize())) + nonce + b"".join(sealed)


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def _encoded(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")
