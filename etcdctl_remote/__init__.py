"""Deploy an etcd cluster over SSH and keep it for life."""

__version__ = "0.1.0"
