"""libvirt's part of the path: what it makes of a host and of a domain's <cpu>, and in which words it refuses."""

from vcpuid.errors import LibvirtError
from vcpuid.libvirt.ask import Libvirt, ask, session

__all__ = ["Libvirt", "LibvirtError", "ask", "session"]
