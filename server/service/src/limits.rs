//! The bounds that requests are held to. Every one is told to clients by the status service.

use std::time::Duration;

/// Bounds, with their defaults.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest key, in bytes.
    pub key_bytes_max: usize,
    /// Largest value of a key, in bytes.
    pub value_bytes_max: usize,
    /// Most operations in one transaction.
    pub txn_ops_max: usize,
    /// Largest transaction, in bytes of keys and values.
    pub txn_bytes_max: usize,
    /// Largest page of a list.
    pub page_size_max: usize,
    /// Wait of a blocking query that names none.
    pub blocking_wait_default: Duration,
    /// Longest wait of a blocking query.
    pub blocking_wait_max: Duration,
    /// Most watches on one stream.
    pub watches_per_stream_max: usize,
    /// Changes that may wait for a slow reader on one stream before it must catch up from the
    /// history.
    pub watch_backlog_max: usize,
    /// How often an idle watch is told how far it has seen.
    pub bookmark_interval: Duration,
    /// Changes kept for watches that resume.
    pub history_changes_max: usize,
    /// Bytes of changes kept for watches that resume.
    pub history_bytes_max: usize,
    /// Largest check output kept, in bytes.
    pub check_output_bytes_max: usize,
    /// Most meta pairs on a node or service.
    pub meta_pairs_max: usize,
    /// Largest value that is written with the grant of a lock, in bytes: each one that waits keeps it.
    pub lock_value_bytes_max: usize,
    /// Shortest TTL of a session.
    pub session_ttl_min: Duration,
    /// Longest TTL of a session.
    pub session_ttl_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes_max: 1024,
            value_bytes_max: 512 * 1024,
            txn_ops_max: 128,
            txn_bytes_max: 512 * 1024,
            page_size_max: 1000,
            blocking_wait_default: Duration::from_secs(300),
            blocking_wait_max: Duration::from_secs(600),
            watches_per_stream_max: 10_000,
            watch_backlog_max: 1024,
            bookmark_interval: Duration::from_secs(5),
            history_changes_max: 65_536,
            history_bytes_max: 16 * 1024 * 1024,
            check_output_bytes_max: 4096,
            meta_pairs_max: 64,
            lock_value_bytes_max: 4096,
            session_ttl_min: Duration::from_secs(10),
            session_ttl_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}
