"""Throw-away certificates, for a plan: what nobody has signed yet looks like these.

They are never saved. Where the real signer is elsewhere, or its key is sealed, a plan costs
neither a request nor a passphrase so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from .authority import Authority, Credential
from .profiles import Profile


@dataclass
class StandIns:
    """Signs in the place of CAs that cannot sign just now."""

    now: datetime
    made: dict[bytes, Authority] = field(default_factory=dict)
    """The throw-away CA for each real one, by its certificate."""

    def issue(self, ca: Authority, profile: Profile) -> Credential:
        """Make a leaf with the names and dates that the real one will have."""
        ca.refuse_outside_lifetime(self.now)
        return self.of(ca).issue(profile, self.now)

    def of(self, ca: Authority) -> Authority:
        """Return the throw-away CA in the place of this one."""
        if ca.certificate not in self.made:
            end = ca.not_after
            self.made[ca.certificate] = Authority.until("stand-in", "ecdsa-p256", self.now, end)
        return self.made[ca.certificate]

    @property
    def trust(self) -> bytes:
        """PEM of the throw-away CAs: for a handshake between two who show stand-ins."""
        return b"".join(ca.certificate for ca in self.made.values())
