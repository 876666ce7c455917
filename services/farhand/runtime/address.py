"""HOST:PORT as people write it, and whether it stays on this machine."""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name or IP, IPv6 without brackets) and a port, 0 to 65535."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From HOST:PORT or [IPv6]:PORT; ValueError says what is accepted."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host.strip("[]") or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address; write HOST:PORT, e.g. 127.0.0.1:7401")
        if ":" in host and not bracketed:
            raise ValueError(f"{text!r} is not an address; write an IPv6 host in brackets: [::1]:7401")
        return cls(host[1:-1] if bracketed else host, int(port))

    @property
    def loopback(self) -> bool:
        """Only processes of this machine can be at the other end."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
