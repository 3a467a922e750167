"""Options of containers, images and storage."""

from __future__ import annotations

from services.engine.config.option import (
    BYTES,
    FEATURES,
    INTEGER,
    NRI,
    RUNTIMES,
    STRING,
    STRING_MAP,
    STRINGS,
    SWITCH,
    ULIMITS,
    Option,
)

OPTIONS = (
    Option(
        "add-runtime",
        RUNTIMES,
        "Register an additional OCI compatible runtime",
        {},
        key="runtimes",
        shown="[]",
    ),
    Option("cdi-spec-dir", STRINGS, "CDI specification directories to use", [], key="cdi-spec-dirs"),
    Option("cgroup-parent", STRING, "Set parent cgroup for all containers", "", field="cgroup_parent"),
    Option(
        "cpu-rt-period",
        INTEGER,
        "Limit the CPU real-time period in microseconds for the parent cgroup for all containers "
        "(not supported with cgroups v2)",
        0,
    ),
    Option(
        "cpu-rt-runtime",
        INTEGER,
        "Limit the CPU real-time runtime in microseconds for the parent cgroup for all containers "
        "(not supported with cgroups v2)",
        0,
    ),
    Option(
        "default-cgroupns-mode",
        STRING,
        'Default mode for containers cgroup namespace ("host" | "private")',
        "host",
        field="default_cgroupns_mode",
    ),
    Option(
        "default-ipc-mode",
        STRING,
        'Default mode for containers ipc ("shareable" | "private")',
        "private",
        field="default_ipc_mode",
    ),
    Option(
        "default-runtime",
        STRING,
        "Default OCI runtime for containers",
        "runc",
        field="default_runtime",
        reloadable=True,
    ),
    Option(
        "default-shm-size",
        BYTES,
        "Default shm size for containers",
        64 << 20,
        field="default_shm_size",
        shown="64MiB",
    ),
    Option(
        "default-stop-timeout",
        INTEGER,
        "Set the default container stop timeout in seconds (0 to terminate immediately)",
        10,
        field="default_stop_timeout",
    ),
    Option(
        "default-ulimit",
        ULIMITS,
        "Default ulimits for containers",
        [],
        field="default_ulimits",
        key="default-ulimits",
        shown="[]",
    ),
    Option(
        "exec-opt",
        STRINGS,
        "Runtime execution options",
        [],
        same=(["native.cgroupdriver=cgroupfs"],),
        key="exec-opts",
    ),
    Option("feature", FEATURES, "Enable feature in the daemon", {}, key="features", shown="map[]"),
    Option(
        "init",
        SWITCH,
        "Run an init in the container to forward signals and reap processes",
        False,
        field="init",
    ),
    Option("init-path", STRING, "Path to the docker-init binary", ""),
    Option(
        "insecure-registry", STRINGS, "Enable insecure registry communication", [], key="insecure-registries"
    ),
    Option("log-driver", STRING, "Default driver for container logs", "json-file", field="log_driver"),
    Option(
        "log-opt",
        STRING_MAP,
        "Default log driver options for containers",
        {},
        field="log_opts",
        key="log-opts",
        shown="map[]",
    ),
    Option("max-concurrent-downloads", INTEGER, "Set the max concurrent downloads", 3),
    Option("max-concurrent-uploads", INTEGER, "Set the max concurrent uploads", 5),
    Option("max-download-attempts", INTEGER, "Set the max download attempts for each pull", 5),
    Option(
        "no-new-privileges",
        SWITCH,
        "Set no-new-privileges by default for new containers",
        False,
        field="no_new_privileges",
    ),
    Option(
        "node-generic-resource", STRINGS, "Advertise user-defined resource", [], key="node-generic-resources"
    ),
    Option("nri-opts", NRI, "Node Resource Interface configuration", {}, shown="enable=false"),
    Option("registry-mirror", STRINGS, "Preferred Docker registry mirror", [], key="registry-mirrors"),
    Option("rootless", SWITCH, "Enable rootless mode; typically used with RootlessKit", False),
    Option(
        "seccomp-profile",
        STRING,
        'Path to seccomp profile. Set to "unconfined" to disable the default seccomp profile',
        "builtin",
        field="seccomp_profile",
    ),
    Option("selinux-enabled", SWITCH, "Enable selinux support", False),
    Option("storage-driver", STRING, "Storage driver to use", "", field="storage_driver", short="s"),
    Option("storage-opt", STRINGS, "Storage driver options", [], key="storage-opts"),
    Option("userns-remap", STRING, "User/Group setting for user namespaces", ""),
)
