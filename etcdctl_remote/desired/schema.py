"""The shape of `inventory.yaml`: keys, types, defaults, and a sentence on each.

This is the one place where outside input enters, so the models are pydantic's. Imported only
by what reads an inventory or writes its JSON schema: pydantic is slow to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from . import versions, words
from .model import CaKeySpec, PathsSpec, PkiSpec, PortsSpec, ReleaseSpec, SshSpec

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


def _listed(value: object) -> object:
    """Take one jump host, or `none`, for a list of hops."""
    if isinstance(value, str):
        return [] if value == "none" else [part.strip() for part in value.split(",")]
    return value


def _release(text: str) -> str:
    versions.wanted(text)
    return text.removeprefix("v")


def _mapped(value: object) -> object:
    """Take a bare address for a map with only that; nothing at all for an empty map."""
    if value is None or isinstance(value, Mapping):
        return value or {}
    return {"address": value}


def _section(value: object) -> object:
    """Take a section whose keys are all commented out for an empty one."""
    return {} if value is None else value


def _pattern(regex: str) -> Any:
    """Tell editors the pattern; the message on a mismatch is the checker's own."""
    return Field(json_schema_extra={"pattern": f"^({regex})$"})


Name = Annotated[str, AfterValidator(words.name), _pattern(words.NAME.pattern)]
Release_ = Annotated[str, AfterValidator(_release), _pattern(r"v?\d+\.\d+\.\d+")]
Address = Annotated[str, AfterValidator(words.address)]
Dialled = Annotated[str, AfterValidator(words.dialled)]
Advertised = Annotated[str, AfterValidator(words.advertised)]
Alternative = Annotated[str, AfterValidator(words.alternative)]
Interface = Annotated[str, AfterValidator(words.interface), _pattern(words.INTERFACE.pattern)]
Hop = Annotated[str, AfterValidator(words.hop)]
User = Annotated[str, AfterValidator(words.user), _pattern(words.USER.pattern)]
Login = Annotated[str, AfterValidator(words.login)]
RemotePath = Annotated[str, AfterValidator(words.remote_path), _pattern("/.+")]
OwnPath = Annotated[str, AfterValidator(words.own_path), _pattern("/.+")]
Sha256 = Annotated[str, AfterValidator(words.sha256), _pattern(words.SHA256.pattern)]
Url = Annotated[str, AfterValidator(words.release_url), _pattern("https?://.+")]
Archive = Annotated[str, AfterValidator(words.archive)]
LocalPath = Annotated[str, AfterValidator(words.local_path)]
Source = Annotated[str, AfterValidator(words.source), _pattern(words.SOURCE.pattern)]
Recipient = Annotated[str, AfterValidator(words.recipient), _pattern(words.RECIPIENT.pattern)]
Argv = Annotated[list[LocalPath], Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Days = Annotated[int, Field(ge=1, le=36500)]
Seconds = Annotated[float, Field(gt=0, le=600)]
Hops = Annotated[list[Hop], BeforeValidator(_listed, json_schema_input_type=str | list[str])]
SCALAR = {"type": ["string", "number", "boolean", "null"]}
LIST = {"type": "array", "items": SCALAR}
GATES = {"type": "object", "additionalProperties": {"type": "boolean"}}
# Any here: `settings.check` and `service.check` say better what is wrong than a union does.
Setting = Annotated[Any, WithJsonSchema({"anyOf": [SCALAR, LIST, GATES]})]
Option = Annotated[Any, WithJsonSchema({"anyOf": [SCALAR, LIST]})]
Settings = Annotated[
    dict[str, Setting],
    BeforeValidator(_section),
    Field(description="etcd flags without the dashes; null takes one back to etcd's own default"),
]
Service = Annotated[
    dict[str, Option],
    BeforeValidator(_section),
    Field(description="systemd [Service] options over ours; null removes one, a list repeats it"),
]


class Ssh(BaseModel):
    """How the hosts are reached; what is not said comes from your OpenSSH configuration."""

    model_config = STRICT

    user: Login | None = Field(None, description="login name")
    port: Port | None = Field(None, description="TCP port of sshd")
    key: LocalPath | None = Field(None, description="private key file, ~ allowed")
    jump: Hops | None = Field(None, description="jump hosts, first hop first: [user@]host[:port]")
    known_hosts: LocalPath | None = Field(None, description="file of known host keys")
    host_keys: Literal["strict", "accept-new"] = Field(
        SshSpec().host_keys, description="strict: refuse unknown keys; accept-new: remember them"
    )
    timeout: Seconds = Field(SshSpec().timeout, description="seconds for connecting, and for the login")


class Release(BaseModel):
    """Where the etcd archive comes from; its checksum is always verified."""

    model_config = STRICT

    url: Url = Field(
        ReleaseSpec().url, description="the official layout or a mirror of it; http needs `sha256`"
    )
    archive: Archive | None = Field(
        None, description="a local file instead, with {version} and {arch} filled in"
    )
    sha256: dict[str, Sha256] = Field(
        default_factory=dict, description="archive file name: sum; else SHA256SUMS beside the archive"
    )


class Node(BaseModel):
    """One member of the cluster."""

    model_config = STRICT

    address: Address | None = Field(None, description="what etcd binds and advertises, IPv4 or IPv6")
    interface: Interface | None = Field(
        None, description="take the address from this network interface instead"
    )
    advertise: Advertised | None = Field(None, description="what others dial, if it differs (NAT)")
    host: Dialled | None = Field(None, description="what SSH dials, if it differs")
    names: list[Alternative] = Field(
        default_factory=list, description="more names and addresses for this node's certificates"
    )
    settings: Settings = Field(default_factory=dict)
    ssh: Annotated[Ssh, BeforeValidator(_section)] = Field(
        default_factory=Ssh, description="over the cluster's `ssh`, key by key"
    )


Member = Annotated[Node, BeforeValidator(_mapped, json_schema_input_type=Address | Node)]


class Paths(BaseModel):
    """Where things live on the nodes."""

    model_config = STRICT

    bin: RemotePath = Field(PathsSpec().bin, description="symbolic links to the programs")
    config: OwnPath = Field(PathsSpec().config, description="certificates and etcdctl.env")
    data: OwnPath = Field(PathsSpec().data, description="etcd's data directory")
    wal: OwnPath | None = Field(None, description="the write-ahead log on a disk of its own")


class Ports(BaseModel):
    """TCP ports, the same on every node."""

    model_config = STRICT

    client: Port = Field(PortsSpec().client, description="clients")
    peer: Port = Field(PortsSpec().peer, description="members among themselves")
    metrics: Port | None = Field(
        None, description="one more https listener for /metrics and /health, client certificate needed"
    )


class CaKey(BaseModel):
    """How the CA keys lie on this computer: `age` files, or in the clear for their owner only."""

    model_config = STRICT

    protect: Literal["none", "passphrase", "age"] = Field(
        CaKeySpec().protect, description="what opens a CA key: nothing, a passphrase, an age identity"
    )
    passphrase: Source = Field(
        CaKeySpec().passphrase, description="where it comes from: ask, env:NAME, fd:NUMBER"
    )
    recipients: list[Recipient] = Field(
        default_factory=list, description="age1… recipients and SSH public keys that keys are sealed for"
    )
    identity: LocalPath | None = Field(
        None, description="file with an age identity or an SSH private key that opens them"
    )


class External(BaseModel):
    """A CA whose key is not on this computer."""

    model_config = STRICT

    trust: LocalPath = Field(description="PEM file of the root CA that clients and servers trust")
    peer_trust: LocalPath | None = Field(None, description="the same for peers, with `peer_ca: separate`")
    folder: LocalPath | None = Field(
        None, description="requests are written here, and taken when they lie here signed"
    )
    command: Argv | None = Field(
        None, description="signs instead: a request on its standard input, the chain on its output"
    )
    peer_command: Argv | None = Field(None, description="for peer certificates, if it is another one")


class Pki(BaseModel):
    """What certificates look like."""

    model_config = STRICT

    peer_ca: Literal["separate", "same"] = Field(
        PkiSpec().peer_ca, description="separate: a client certificate cannot speak raft"
    )
    key: Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"] = Field(
        PkiSpec().key, description="type of every private key"
    )
    ca_days: Days = Field(PkiSpec().ca_days, description="lifetime of a CA")
    leaf_days: Days = Field(PkiSpec().leaf_days, description="lifetime of the certificates it issues")
    names: list[Alternative] = Field(
        default_factory=list, description="more names and addresses for every server and peer certificate"
    )
    ca_key: Annotated[CaKey, BeforeValidator(_section)] = Field(default_factory=CaKey)
    external: External | None = Field(None, description="who signs, if no CA key is on this computer")


class Inventory(BaseModel):
    """An etcd cluster, as `etcdctl-remote` deploys and keeps it."""

    model_config = STRICT

    cluster: Name = Field(description="the cluster's name: certificates, journal, token")
    version: Release_ = Field(description='etcd release, in quotes: "3.6.14"')
    nodes: dict[Name, Member] = Field(
        description="members by their etcd name: an address, or a map", min_length=1, max_length=50
    )
    ssh: Annotated[Ssh, BeforeValidator(_section)] = Field(default_factory=Ssh)
    release: Annotated[Release, BeforeValidator(_section)] = Field(default_factory=Release)
    settings: Settings = Field(default_factory=dict)
    service: Service = Field(default_factory=dict)
    paths: Annotated[Paths, BeforeValidator(_section)] = Field(default_factory=Paths)
    ports: Annotated[Ports, BeforeValidator(_section)] = Field(default_factory=Ports)
    user: User = Field("etcd", description="system user (and group) that etcd runs as; created if absent")
    pki: Annotated[Pki, BeforeValidator(_section)] = Field(default_factory=Pki)
