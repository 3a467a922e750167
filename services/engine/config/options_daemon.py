"""Options of the daemon itself: where it listens, logs and keeps its files."""

from __future__ import annotations

from services.engine.config.option import INTEGER, LABELS, STRING, STRINGS, SWITCH, Option
from services.protocol.settings import DEFAULT_DATA_ROOT, DEFAULT_EXEC_ROOT

OPTIONS = (
    Option("authorization-plugin", STRINGS, "Authorization plugins to load", [], key="authorization-plugins"),
    Option(
        "config-file",
        STRING,
        "Daemon configuration file",
        "/etc/docker/daemon.json",
        field="config_file",
        only_flag=True,
    ),
    Option("containerd", STRING, "containerd grpc address", ""),
    Option("containerd-namespace", STRING, "Containerd namespace to use", "moby"),
    Option("containerd-plugins-namespace", STRING, "Containerd namespace to use for plugins", "plugins.moby"),
    Option("cri-containerd", SWITCH, "start containerd with cri", False),
    Option(
        "data-root", STRING, "Root directory of persistent Docker state", DEFAULT_DATA_ROOT, field="data_root"
    ),
    Option("debug", SWITCH, "Enable debug mode", False, field="debug", short="D", reloadable=True),
    Option(
        "exec-root", STRING, "Root directory for execution state files", DEFAULT_EXEC_ROOT, field="exec_root"
    ),
    Option("experimental", SWITCH, "Enable experimental features", False, field="experimental"),
    Option("group", STRING, "Group for the unix socket", "docker", field="group", short="G"),
    Option("help", SWITCH, "Print usage", False, only_flag=True),
    Option("host", STRINGS, "Daemon socket(s) to connect to", [], field="hosts", short="H", key="hosts"),
    Option("http-proxy", STRING, "HTTP proxy URL to use for outgoing traffic", "", field="http_proxy"),
    Option("https-proxy", STRING, "HTTPS proxy URL to use for outgoing traffic", "", field="https_proxy"),
    Option(
        "label",
        LABELS,
        "Set key=value labels to the daemon",
        [],
        field="labels",
        key="labels",
        reloadable=True,
    ),
    Option(
        "live-restore",
        SWITCH,
        "Enable live restore of docker when containers are still running",
        False,
        field="live_restore",
        reloadable=True,
    ),
    Option("log-format", STRING, 'Set the logging format ("text"|"json")', "text"),
    Option(
        "log-level",
        STRING,
        'Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")',
        "info",
        field="log_level",
        short="l",
        reloadable=True,
    ),
    Option("metrics-addr", STRING, "Set default address and port to serve the metrics api on", ""),
    Option(
        "no-proxy",
        STRING,
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
        "",
        field="no_proxy",
    ),
    Option(
        "pidfile",
        STRING,
        "Path to use for daemon PID file",
        f"{DEFAULT_EXEC_ROOT}/wharfd.pid",
        field="pidfile",
        short="p",
    ),
    Option("raw-logs", SWITCH, "Full timestamps without ANSI coloring", False),
    Option(
        "shutdown-timeout",
        INTEGER,
        "Set the default shutdown timeout",
        15,
        field="shutdown_timeout",
        reloadable=True,
    ),
    Option(
        "swarm-default-advertise-addr",
        STRING,
        "Set default address or interface for swarm advertised address",
        "",
    ),
    Option("tls", SWITCH, "Use TLS; implied by --tlsverify", False),
    Option("tlscacert", STRING, "Trust certs signed only by this CA", "/root/.docker/ca.pem"),
    Option("tlscert", STRING, "Path to TLS certificate file", "/root/.docker/cert.pem"),
    Option("tlskey", STRING, "Path to TLS key file", "/root/.docker/key.pem"),
    Option("tlsverify", SWITCH, "Use TLS and verify the remote", False),
    Option("validate", SWITCH, "Validate daemon configuration and exit", False, only_flag=True),
    Option("version", SWITCH, "Print version information and quit", False, short="v", only_flag=True),
)
