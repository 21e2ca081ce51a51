"""The text of the files that land on a node, from the templates.

Values are escaped here, once: `%` and `$` mean something to systemd, and a value with blanks
or quotes must stay one argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from . import service
from .model import ClusterSpec, NodeSpec, url

if TYPE_CHECKING:
    import jinja2

State = str
"""`new` for the bootstrap of a whole cluster, `existing` ever after."""


def templates() -> Path:
    """Find the templates: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def unit(
    cluster: ClusterSpec, node: NodeSpec, flags: Mapping[str, str], digest: str, environment: tuple[str, ...]
) -> str:
    """Render `etcd.service`."""
    paths = cluster.paths
    extra = cluster.service
    own = ("ReadWritePaths", "UnsetEnvironment", "Environment")
    return _render(
        "etcd.service.j2",
        name=node.name,
        cluster=cluster.name,
        mounts=_distinct(paths.data, paths.wal, *extra.get("ReadWritePaths", ())),
        marker=f"{paths.config}/member",
        log=flags.get("wal-dir", f"{paths.data}/member/wal"),
        user=cluster.user,
        digest=digest,
        environment=(*environment, *extra.get("Environment", ())),
        unset=(*service.UNSET, *extra.get("UnsetEnvironment", ())),
        bin=paths.bin,
        flags=dict(flags),
        service={key: lines for key, lines in extra.items() if key not in own},
    )


def etcdctl_env(cluster: ClusterSpec, node: NodeSpec) -> str:
    """Render `etcdctl.env`: this node's own endpoint only.

    `snapshot save` refuses more than one endpoint, and a list of all members would change
    with every scale-out; `--cluster` asks all of them.
    """
    endpoint = url(node.bind, cluster.ports.client)
    pki = f"{cluster.paths.config}/pki/current"
    return _render("etcdctl.env.j2", bin=cluster.paths.bin, pki=pki, endpoint=endpoint)


def etcdctl_sh(cluster: ClusterSpec) -> str:
    """Render the wrapper that a person on the node types."""
    paths = cluster.paths
    return _render("etcdctl.sh.j2", config=paths.config, bin=paths.bin, user=cluster.user)


def systemd(argument: str) -> str:
    """Write one argument of ExecStart so that systemd passes exactly this text.

    `%` starts a specifier and `$` a variable; a backslash or a quote would be taken for
    systemd's own. See systemd.service(5), "Command lines".
    """
    text = argument.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    if text and not any(char in " \t\"'\\;" for char in text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _distinct(*paths: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for path in paths if path))


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates()),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # no HTML here; systemd has its own filter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["systemd"] = systemd
    return environment


def _render(template: str, /, **values: object) -> str:
    return _environment().get_template(template).render(values)
