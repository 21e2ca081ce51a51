"""Real nodes on one machine: containers with systemd and sshd, and the releases for them.

Off the floors: only the `lab.*` tasks and the tests use it, and only it knows docker.
"""
