"""Options of networks and of the default bridge."""

from __future__ import annotations

from services.engine.config.option import (
    ADDRESS,
    ADDRESSES,
    INTEGER,
    MAP_OF_MAPS,
    POOLS,
    STRING,
    STRINGS,
    SWITCH,
    Option,
)

OPTIONS = (
    Option(
        "allow-direct-routing",
        SWITCH,
        "Allow remote access to published ports on container IP addresses",
        False,
    ),
    Option("bip", STRING, "IPv4 address for the default bridge", "", field="bip"),
    Option("bip6", STRING, "IPv6 address for the default bridge", ""),
    Option("bridge", STRING, "Attach containers to a network bridge", "", field="bridge", short="b"),
    Option(
        "bridge-accept-fwmark", STRING, "In bridge networks, accept packets with this firewall mark/mask", ""
    ),
    Option(
        "default-address-pool",
        POOLS,
        "Default address pools for node specific local networks",
        [],
        field="default_address_pools",
        key="default-address-pools",
    ),
    Option(
        "default-gateway",
        ADDRESS,
        "Default gateway IPv4 address for the default bridge network",
        "",
        field="default_gateway",
    ),
    Option("default-gateway-v6", ADDRESS, "Default gateway IPv6 address for the default bridge network", ""),
    Option(
        "default-network-opt",
        MAP_OF_MAPS,
        "Default network options",
        {},
        key="default-network-opts",
        shown="map[]",
    ),
    Option("dns", ADDRESSES, "DNS server to use", [], field="dns"),
    Option("dns-opt", STRINGS, "DNS options to use", [], field="dns_opts", key="dns-opts"),
    Option("dns-search", STRINGS, "DNS search domains to use", [], field="dns_search"),
    Option(
        "firewall-backend", STRING, "Firewall backend to use, iptables or nftables", "", same=("nftables",)
    ),
    Option("fixed-cidr", STRING, "IPv4 subnet for the default bridge network", "", field="fixed_cidr"),
    Option("fixed-cidr-v6", STRING, "IPv6 subnet for the default bridge network", ""),
    Option(
        "host-gateway-ip",
        ADDRESSES,
        "IP addresses that the special 'host-gateway' string in --add-host resolves to. "
        "Defaults to the IP addresses of the default bridge",
        [],
        field="host_gateway_ips",
        key="host-gateway-ips",
    ),
    Option(
        "icc",
        SWITCH,
        "Enable inter-container communication for the default bridge network",
        True,
        field="icc",
    ),
    Option(
        "ip", ADDRESS, "Host IP for port publishing from the default bridge network", "0.0.0.0", field="ip"
    ),
    Option("ip-forward", SWITCH, "Enable IP forwarding in system configuration", True, field="ip_forward"),
    Option(
        "ip-forward-no-drop",
        SWITCH,
        "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding",
        False,
    ),
    Option("ip-masq", SWITCH, "Enable IP masquerading for the default bridge network", True, field="ip_masq"),
    Option("ip6tables", SWITCH, "Enable addition of ip6tables rules", True),
    Option("iptables", SWITCH, "Enable addition of iptables rules", True),
    Option("ipv6", SWITCH, "Enable IPv6 networking for the default bridge network", False),
    Option("mtu", INTEGER, 'Set the MTU for the default "bridge" network', 1500, field="mtu"),
    Option("network-control-plane-mtu", INTEGER, "Network Control plane MTU", 1500),
    Option("userland-proxy", SWITCH, "Use userland proxy for loopback traffic", True, field="userland_proxy"),
    Option("userland-proxy-path", STRING, "Path to the userland proxy binary", ""),
)
