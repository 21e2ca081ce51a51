"""Kinds of hosts that operators really have; `faults.reset` makes a node plain again."""

from __future__ import annotations

from .hosts import execute
from .model import Node


def login_shell(node: Node, shell: str, user: str = "ops") -> None:
    """Give a user another login shell: `/bin/dash`, `/bin/tcsh`."""
    execute(node, 'usermod -s "$1" "$2"', shell, user)


def umask_077(node: Node) -> None:
    """Make 077 the umask of every login, as hardened hosts have it."""
    execute(
        node,
        """sed -i 's/^UMASK.*/UMASK 077/' /etc/login.defs
        printf 'session optional pam_umask.so umask=0077\\n' >>/etc/pam.d/sshd
        printf 'Defaults umask=0077, umask_override\\n' >/etc/sudoers.d/lab-umask
        printf 'umask 077\\n' | tee -a /etc/profile /etc/bash.bashrc /etc/csh.cshrc >/dev/null""",
    )


def no_sftp(node: Node) -> None:
    """Take the sftp subsystem away."""
    execute(node, "sed -i '/^Subsystem/d' /etc/ssh/sshd_config && systemctl restart ssh")


def foreign_locale(node: Node, name: str = "de_DE.UTF-8") -> None:
    """Make another language the default of every login."""
    execute(
        node, 'printf "LANG=%s\\nLC_ALL=%s\\n" "$1" "$1" | tee /etc/default/locale >>/etc/environment', name
    )


def proxies(node: Node) -> None:
    """Set proxy variables for every login, as firms' images do; nothing listens there."""
    execute(
        node,
        """for name in http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY; do
            printf '%s=http://127.0.0.1:9\\n' "$name"; done >>/etc/environment""",
    )


def architecture(node: Node, machine: str) -> None:
    """Have a node say that it is of another architecture, `aarch64`: see `machine.emulate`."""
    execute(
        node,
        r"""printf '#!/bin/sh\n[ "$*" = -m ] && exec echo %s\nexec /usr/bin/uname "$@"\n' "$1" >/usr/local/bin/uname
        chmod 755 /usr/local/bin/uname""",
        machine,
    )
