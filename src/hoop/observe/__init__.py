"""Look into a running program: what blocks its loops."""

from hoop.observe.stalls import Stall

__all__ = ["Stall"]
