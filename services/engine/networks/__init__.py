"""Networks: bridges, addresses, published ports and rules, by netlink. The door is the controller."""

from services.engine.networks.controller import NetworkController
from services.engine.networks.model import SCHEMA, NetworkSettings

__all__ = ["SCHEMA", "NetworkController", "NetworkSettings"]
