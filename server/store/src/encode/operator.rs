//! What an operator does with the cluster as a whole: restores, and the way in which servers are looked after.

use proto::storage::v1 as pb;
use state::{Autopilot, LogIndex, RestoreStep};

use crate::encode::{Malformed, row};

pub(super) fn from_autopilot(row: &Autopilot) -> pb::Autopilot {
    pb::Autopilot {
        cleanup_dead_servers: row.cleanup_dead_servers,
        last_contact_threshold_ms: row.last_contact_threshold_ms,
        max_trailing_logs: row.max_trailing_logs,
        min_quorum: row.min_quorum,
        server_stabilization_ms: row.server_stabilization_ms,
        create_index: row.create_index.0,
        modify_index: row.modify_index.0,
    }
}

pub(super) fn to_autopilot(row: &pb::Autopilot) -> Autopilot {
    Autopilot {
        cleanup_dead_servers: row.cleanup_dead_servers,
        last_contact_threshold_ms: row.last_contact_threshold_ms,
        max_trailing_logs: row.max_trailing_logs,
        min_quorum: row.min_quorum,
        server_stabilization_ms: row.server_stabilization_ms,
        create_index: LogIndex(row.create_index),
        modify_index: LogIndex(row.modify_index),
    }
}

pub(super) fn from_restore(id: u64, step: &RestoreStep) -> pb::Restore {
    use pb::restore::Step;
    let step = match step {
        RestoreStep::Begin => Step::Begin(pb::RestoreBegin {}),
        RestoreStep::Stage { sequence, rows } => Step::Stage(row::from_staged(*sequence, rows)),
        RestoreStep::Commit { parts, rows, incarnation } => {
            Step::Commit(pb::RestoreCommit { parts: *parts, rows: *rows, incarnation: *incarnation })
        }
        RestoreStep::Abandon => Step::Abandon(pb::RestoreAbandon {}),
    };
    pb::Restore { id, step: Some(step) }
}

pub(super) fn to_restore(restore: pb::Restore) -> Result<(u64, RestoreStep), Malformed> {
    use pb::restore::Step;
    let step = match restore.step.ok_or(Malformed::Unknown("step"))? {
        Step::Begin(pb::RestoreBegin {}) => RestoreStep::Begin,
        Step::Stage(staged) => {
            let (sequence, rows) = row::to_staged(staged)?;
            RestoreStep::Stage { sequence, rows }
        }
        Step::Commit(commit) => RestoreStep::Commit { parts: commit.parts, rows: commit.rows, incarnation: commit.incarnation },
        Step::Abandon(pb::RestoreAbandon {}) => RestoreStep::Abandon,
    };
    Ok((restore.id, step))
}
