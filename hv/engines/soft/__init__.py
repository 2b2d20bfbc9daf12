"""The software CPU core (`accel`) behind the `Engine` protocol. Nothing else imports `accel`.

Turns status codes into exceptions and `accel_exit` records into the dataclasses of `hv.exits`.
"""

from hv.engines.soft.engine import SoftEngine

__all__ = ["SoftEngine"]
