"""Base of the API documents: snake_case here, Docker's PascalCase on the wire."""

from __future__ import annotations

import msgspec

_SPECIAL = {
    "id": "Id",
    "uts_mode": "UTSMode",
    "oom_killed": "OOMKilled",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "container_id_file": "ContainerIDFile",
    "ip_address": "IPAddress",
    "ip_prefix_len": "IPPrefixLen",
    "ipv6_gateway": "IPv6Gateway",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
    "network_id": "NetworkID",
    "endpoint_id": "EndpointID",
    "sandbox_id": "SandboxID",
    "dns_names": "DNSNames",
    "ipam_config": "IPAMConfig",
    "ipam": "IPAM",
    "ip_range": "IPRange",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs",
    "enable_ipv4": "EnableIPv4",
    "enable_ipv6": "EnableIPv6",
    "exec_ids": "ExecIDs",
    "root_fs": "RootFS",
    "rootfs_type": "Type",
    "cpu_set": "CPUSet",
    "image_id": "ImageID",
    "container_id": "ContainerID",
    "device_ids": "DeviceIDs",
    "exec_id": "ID",
    "rw": "RW",
    "ips_in_use": "IPsInUse",
    "dynamic_ips_available": "DynamicIPsAvailable",
    "ip": "IP",
    "host_ip": "HostIp",
}


def docker_name(field: str) -> str:
    """``cpu_shares`` -> ``CpuShares``, with the API's irregular names."""
    field = field.rstrip("_")
    return _SPECIAL.get(field) or "".join(part[:1].upper() + part[1:] for part in field.split("_"))


class Model(msgspec.Struct, rename=docker_name):
    """Mutable document; unknown fields are ignored when decoded."""
