//! Every figure that the agent keeps, by the name under which Prometheus reads it.
//!
//! All of them are registered at the start, so that a dashboard finds each one at zero instead of
//! missing. Names are those that dashboards for Consul know where the figure means the same.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in milliseconds, shown with their median, 90th and 99th percentile.
    Summary,
}

/// One figure.
pub(crate) struct Series {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it behaves.
    pub(crate) kind: Kind,
    /// The labels that tell its rows apart; with labels there is no row until something happens.
    pub(crate) labels: &'static [&'static str],
    /// What it means.
    pub(crate) help: &'static str,
}

const fn series(kind: Kind, name: &'static str, help: &'static str) -> Series {
    Series { name, kind, labels: &[], help }
}

use Kind::{Counter, Gauge, Summary};

/// The figures.
pub(crate) const CATALOG: &[Series] = &[
    // writes
    series(Summary, "consul_kvs_apply", "Time to apply a write of a key, in milliseconds"),
    series(Summary, "consul_txn_apply", "Time to apply a transaction, in milliseconds"),
    series(Summary, "consul_catalog_register", "Time to register in the catalog, in milliseconds"),
    series(Summary, "consul_catalog_deregister", "Time to deregister from the catalog, in milliseconds"),
    series(Summary, "consul_session_apply", "Time to begin, renew or end a session, in milliseconds"),
    series(Summary, "consul_lock_apply", "Time to take a lock or a place in its queue, or to give them back, in milliseconds"),
    // consensus
    series(Counter, "consul_raft_apply", "Commands handed to the log"),
    series(Summary, "consul_raft_commitTime", "Time from proposing a command to its commit, in milliseconds"),
    series(Summary, "consul_raft_fsm_apply", "Time to apply a group of commands to the tables, in milliseconds"),
    series(Counter, "consul_raft_state_leader", "Times this server became leader"),
    series(Counter, "consul_raft_state_candidate", "Times this server stood for election"),
    series(Counter, "consul_raft_leader_ended", "Times the leader's process was found to have ended"),
    series(Gauge, "consul_raft_leader_lastContact", "Milliseconds since the leader was last heard from"),
    series(Gauge, "consul_raft_last_index", "Last index in the log"),
    series(Gauge, "consul_raft_applied_index", "Last index applied"),
    series(Gauge, "consul_raft_term", "Current term"),
    series(Counter, "consul_raft_snapshot_create", "Snapshots made"),
    series(Counter, "consul_raft_snapshot_damaged", "Pieces and heads of snapshots that were damaged on the way from the leader"),
    series(Counter, "consul_raft_snapshot_sent_bytes", "Bytes of snapshots sent to followers"),
    series(Counter, "consul_raft_snapshot_received_bytes", "Bytes of snapshots received from a leader"),
    series(Counter, "consul_raft_snapshot_reused_bytes", "Bytes of snapshots that were here already and did not have to be sent"),
    series(Counter, "consul_raft_snapshot_install", "States that were taken over as a whole from a leader"),
    series(Gauge, "consul_autopilot_healthy", "1 while every server is healthy, as the leader sees it"),
    series(Gauge, "consul_autopilot_failure_tolerance", "How many voters may fail before the quorum is lost, on the leader"),
    series(Counter, "consul_snapshot_saves", "Snapshots saved"),
    series(Counter, "consul_snapshot_restores", "Snapshots restored"),
    series(Counter, "consul_snapshot_refused", "Snapshots that were damaged, cut or of another release"),
    series(Counter, "consul_leader_foreign_servers", "Attempts to take in a server with another cluster's data"),
    series(Gauge, "consul_server_isLeader", "1 on the leader, 0 elsewhere"),
    // requests carried elsewhere
    series(Counter, "consul_forward_requests", "Requests carried to another server"),
    series(Counter, "consul_forward_failures", "Requests that none of the servers known answered"),
    // gossip
    series(Counter, "consul_gossip_datagrams_sent", "Datagrams sent"),
    series(Counter, "consul_gossip_datagrams_received", "Datagrams received"),
    Series {
        name: "consul_gossip_dropped",
        kind: Counter,
        labels: &["reason"],
        help: "What was dropped: malformed, oversized, replayed, of another pool, sealed with an unknown key, out of bounds (parts of a packet as well), or one connection too many from an address (crowded)",
    },
    series(Counter, "consul_gossip_joins_failed", "Addresses that this node was to join by, in vain"),
    series(Counter, "consul_gossip_joins_refused", "Members that were not let in"),
    series(Counter, "consul_gossip_name_conflicts", "Times that a node used a living one's name or node id"),
    series(Counter, "consul_gossip_probes_failed", "Probes that were not answered in time"),
    series(Counter, "consul_gossip_probes_by_stream", "Probes that were answered over TCP alone: UDP does not get through"),
    series(Counter, "consul_gossip_suspected", "Times that another node told this one that it suspects it"),
    series(Counter, "consul_gossip_refutations", "Times that this node was held for dead and said that it lives"),
    series(
        Counter,
        "consul_gossip_events_refused",
        "Events that were refused when they were fired: too large, too many on their way, or wrong",
    ),
    series(Counter, "consul_gossip_events_late", "Events dropped because they came so late that they may have come before"),
    series(
        Counter,
        "consul_gossip_events_held",
        "Events not passed on because too many were on their way: others hear of them when they compare",
    ),
    series(Counter, "consul_gossip_events_missed", "Events that came faster than this agent read them, and are not listed here"),
    Series { name: "consul_gossip_health", kind: Gauge, labels: &["pool"], help: "How this node rates its own health: 0 is well" },
    // requests
    series(Counter, "consul_rpc_query", "Reads, by any face"),
    series(Counter, "consul_rpc_consistentRead", "Linearizable reads"),
    series(
        Counter,
        "consul_rpc_connections_refused",
        "Connections to the gRPC port or the servers' port that were closed because there were too many",
    ),
    series(Gauge, "consul_rpc_queries_blocking", "Blocking queries that wait now"),
    // DNS
    series(Counter, "consul_dns_query", "DNS queries"),
    series(Counter, "consul_dns_overloaded", "DNS queries refused because too many others were waiting"),
    series(Counter, "consul_dns_stale_queries", "DNS answers from a server that had lost the leader"),
    // state
    series(Gauge, "consul_state_nodes", "Nodes registered"),
    series(Gauge, "consul_state_services", "Services by name"),
    series(Gauge, "consul_state_service_instances", "Instances of services"),
    series(Gauge, "consul_state_kv_entries", "Keys"),
    // watches
    series(Gauge, "consul_watch_streams", "Streams that carry watches"),
    series(Gauge, "consul_watch_watchers", "Watches open now"),
    series(Counter, "consul_watch_resets", "Watches that had to begin anew with a snapshot"),
    // the process
    series(Gauge, "consul_runtime_sys_bytes", "Resident memory in bytes"),
    series(Gauge, "consul_runtime_threads", "Threads"),
    series(Gauge, "consul_runtime_open_files", "Open files and sockets"),
    Series { name: "consul_version", kind: Gauge, labels: &["version"], help: "1 for the running version" },
];

/// Makes each figure known to the recorder that is installed, at zero.
pub(crate) fn register() {
    for series in CATALOG {
        match series.kind {
            Counter => describe_counter!(series.name, series.help),
            Gauge => describe_gauge!(series.name, series.help),
            Summary => describe_histogram!(series.name, Unit::Milliseconds, series.help),
        }
        if !series.labels.is_empty() {
            continue;
        }
        match series.kind {
            Counter => counter!(series.name).absolute(0),
            Gauge => gauge!(series.name).set(0.0),
            Summary => drop(histogram!(series.name)),
        }
    }
}
