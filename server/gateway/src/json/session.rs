//! Sessions.

use state::{Behavior, Session};

use super::Json;
use crate::duration;

/// One session.
pub(crate) fn session(json: &mut Json, session: &Session) {
    let behavior = match session.behavior {
        Behavior::Release => "release",
        Behavior::Delete => "delete",
    };
    json.object(|json| {
        json.name("ID").text(&session.id.to_string());
        json.name("Name").text(&session.name);
        json.name("Node").text(&session.node);
        json.name("LockDelay").number(session.lock_delay_ms.saturating_mul(1_000_000));
        json.name("Behavior").text(behavior);
        json.name("TTL").text(&session.ttl_ms.map(duration::print_ms).unwrap_or_default());
        json.name("NodeChecks").texts(&session.node_checks);
        match session.service_checks.as_slice() {
            [] => drop(json.name("ServiceChecks").raw("null")),
            checks => drop(json.name("ServiceChecks").array(|json| {
                for id in checks {
                    json.object(|json| {
                        json.name("ID").text(id).name("Namespace").text("");
                    });
                }
            })),
        }
        json.name("CreateIndex").number(session.create_index.0);
        json.name("ModifyIndex").number(session.modify_index.0);
    });
}
