"""`invoke TASK` in a checkout; the installed `etcdctl-remote TASK` runs the same collection."""

from etcdctl_remote.tasks import namespace as ns

__all__ = ["ns"]
