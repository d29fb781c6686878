//! `PUT /v1/txn`: several operations, all or none.

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::Value;
use service::{Consistency, Error, Reason};
use state::{KvVerb, LogIndex, Refusal, RowVerb, TxnOp, TxnResult, TxnRow};

use crate::Gateway;
use crate::decode::{self, Object};
use crate::definition;
use crate::json::{Json, catalog, check, kv};
use crate::reply::Reply;
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// How much larger the text of a transaction may be than its keys and values: base64 and names.
const TEXT_FACTOR: usize = 2;

/// Runs a transaction. Whatever makes one fail is told for each operation, with 409.
pub(crate) async fn run(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let limits = gateway.service.limits();
    let body_max = limits.txn_bytes_max.max(limits.value_bytes_max).saturating_mul(TEXT_FACTOR);
    let body = request::read(&ask.headers, body, body_max).await?;
    let items = parse(&body).map_err(|error| Fault::bad(format!("Failed to parse body: {error}")))?;
    if items.len() > limits.txn_ops_max {
        let text = format!("Transaction contains too many operations ({} > {})", items.len(), limits.txn_ops_max);
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let mut ops = Vec::with_capacity(items.len());
    let mut failures = Vec::new();
    for (op_index, item) in items.into_iter().enumerate() {
        match item {
            Item::Op(op) => {
                check_size(&op, limits.value_bytes_max)?;
                ops.push(op);
            }
            Item::Failure(what) => failures.push((op_index, what)),
        }
    }
    if !failures.is_empty() {
        return Ok(failed(gateway, ask, &failures));
    }
    let only_reads = ops.iter().all(TxnOp::is_read);
    let (options, _) = ask.reading()?;
    match gateway.service.txn(&ask.caller, &options, ops).await {
        Ok(done) => {
            let reply = succeeded(gateway, ask, &done.results);
            Ok(if only_reads { with_contact(gateway, reply, options.consistency) } else { reply })
        }
        Err(error) => refused(gateway, ask, error),
    }
}

fn refused(gateway: &Gateway, ask: &Ask, error: Error) -> Outcome<Reply> {
    if let Some(Refusal::Txn { failures }) = error.refusal.as_deref() {
        let failures: Vec<_> = failures.iter().map(|failure| (failure.op_index, failure.what.clone())).collect();
        return Ok(failed(gateway, ask, &failures));
    }
    let at = error.details.iter().find(|(name, _)| *name == "operation").and_then(|(_, at)| at.parse().ok());
    let what = match error.reason {
        Reason::PermissionDenied => format!("Permission denied: {}", error.message),
        Reason::InvalidArgument if at.is_some() => error.message,
        _ => return Err(error.into()),
    };
    Ok(failed(gateway, ask, &[(at.unwrap_or_default(), what)]))
}

/// Says that a leader stands behind an answer that was read without the log. How old a stale answer
/// of a follower may be is not known here, so that nothing is said of one.
fn with_contact(gateway: &Gateway, reply: Reply, consistency: Consistency) -> Reply {
    let status = gateway.service.consensus_status();
    let fresh = consistency != Consistency::Stale || status.state == "leader";
    if fresh { reply.contact(status.leader.is_some(), 0) } else { reply }
}

fn succeeded(gateway: &Gateway, ask: &Ask, results: &[TxnResult]) -> Reply {
    let mut json = Json::with_capacity(192 * results.len() + 64);
    json.object(|json| {
        json.name("Results").array(|json| {
            for result in results {
                json.object(|json| row(json, &result.row));
            }
        });
        json.name("Errors").raw("null");
    });
    gateway.json(ask, json)
}

fn row(json: &mut Json, row: &TxnRow) {
    match row {
        TxnRow::Kv { entry, with_value } => kv::entry(json.name("KV"), entry, *with_value),
        TxnRow::Node(row) => catalog::node(json.name("Node"), row),
        TxnRow::Service(row) => catalog::node_service(json.name("Service"), row),
        TxnRow::Check(row) => check::check(json.name("Check"), row),
        // Only asked for on gRPC: here, to read what does not exist fails.
        TxnRow::Nothing => {}
    }
}

fn failed(gateway: &Gateway, ask: &Ask, failures: &[(usize, String)]) -> Reply {
    let mut json = Json::new();
    json.object(|json| {
        json.name("Results").raw("null").name("Errors").array(|json| {
            for (op_index, what) in failures {
                json.object(|json| {
                    json.name("OpIndex").number(*op_index as u64).name("What").text(what);
                });
            }
        });
    });
    gateway.json(ask, json).status(StatusCode::CONFLICT)
}

/// One operation as it was read.
enum Item {
    Op(TxnOp),
    /// It can't be done, and makes the whole fail.
    Failure(String),
}

fn parse(body: &[u8]) -> Result<Vec<Item>, String> {
    match decode::parse(body)? {
        Value::Array(items) => items.into_iter().map(|item| read(Object::from_value(item, "operation")?)).collect(),
        Value::Null => Ok(Vec::new()),
        _ => Err("json: the body must be a list of operations".into()),
    }
}

fn read(mut fields: Object) -> Result<Item, String> {
    let item = if let Some(kv) = fields.object("KV")? {
        kv_op(kv)?
    } else if let Some(node) = fields.object("Node")? {
        node_op(node)?
    } else if let Some(service) = fields.object("Service")? {
        service_op(service)?
    } else if let Some(check) = fields.object("Check")? {
        check_op(check)?
    } else {
        Item::Failure("the operation is empty; it needs one of the objects KV, Node, Service and Check".into())
    };
    fields.finish()?;
    Ok(item)
}

fn kv_op(mut fields: Object) -> Result<Item, String> {
    let name = fields.text("Verb")?;
    let key = fields.text("Key")?;
    let value = STANDARD.decode(fields.text("Value")?.as_bytes()).map_err(|error| format!("illegal base64 data: {error}"))?;
    let (flags, index) = (fields.number("Flags")?, LogIndex(fields.number("Index")?));
    let session = fields.text("Session")?;
    fields.no_enterprise()?;
    fields.finish()?;
    let Some(verb) = verb(&name) else { return Ok(Item::Failure(format!("unknown KV verb \"{name}\""))) };
    if key.is_empty() && verb != KvVerb::DeleteTree {
        return Ok(Item::Failure("Must provide key".into()));
    }
    let session = match (&*session, session.parse()) {
        ("", _) => None,
        (_, Ok(id)) => Some(id),
        (text, Err(_)) => return Ok(Item::Failure(format!("invalid session \"{text}\""))),
    };
    let (key, value) = (key.as_bytes().into(), value.into_boxed_slice());
    Ok(Item::Op(TxnOp::Kv { verb, key, value, flags, index, session }))
}

fn node_op(mut fields: Object) -> Result<Item, String> {
    let name = fields.text("Verb")?;
    let (node, index) = definition::node_row(fields.object("Node")?.ok_or("the operation lacks its Node")?)?;
    fields.finish()?;
    Ok(match row_verb(&name) {
        Some(verb) => Item::Op(TxnOp::Node { verb, node: Box::new(node), index }),
        None => Item::Failure(format!("unknown Node verb \"{name}\"")),
    })
}

fn service_op(mut fields: Object) -> Result<Item, String> {
    let (name, node) = (fields.text("Verb")?, fields.text("Node")?);
    let (service, index) = definition::service_row(fields.object("Service")?.ok_or("the operation lacks its Service")?)?;
    fields.no_enterprise()?;
    fields.finish()?;
    Ok(match row_verb(&name) {
        Some(verb) => Item::Op(TxnOp::Service { verb, node, service: Box::new(service), index }),
        None => Item::Failure(format!("unknown Service verb \"{name}\"")),
    })
}

fn check_op(mut fields: Object) -> Result<Item, String> {
    let name = fields.text("Verb")?;
    let (check, node, index) = definition::check_row(fields.object("Check")?.ok_or("the operation lacks its Check")?)?;
    fields.finish()?;
    Ok(match row_verb(&name) {
        Some(verb) => Item::Op(TxnOp::Check { verb, node, check: Box::new(check), index }),
        None => Item::Failure(format!("unknown check verb \"{name}\"")),
    })
}

fn row_verb(name: &str) -> Option<RowVerb> {
    Some(match name {
        "get" => RowVerb::Get,
        "set" => RowVerb::Set,
        "cas" => RowVerb::Cas,
        "delete" => RowVerb::Delete,
        "delete-cas" => RowVerb::DeleteCas,
        _ => return None,
    })
}

fn verb(name: &str) -> Option<KvVerb> {
    Some(match name {
        "set" => KvVerb::Set,
        "cas" => KvVerb::Cas,
        "lock" => KvVerb::Lock,
        "unlock" => KvVerb::Unlock,
        "get" => KvVerb::Get,
        "get-or-empty" => KvVerb::GetOrEmpty,
        "get-tree" => KvVerb::GetTree,
        "check-index" => KvVerb::CheckIndex,
        "check-session" => KvVerb::CheckSession,
        "check-not-exists" => KvVerb::CheckNotExists,
        "delete" => KvVerb::Delete,
        "delete-tree" => KvVerb::DeleteTree,
        "delete-cas" => KvVerb::DeleteCas,
        _ => return None,
    })
}

fn check_size(op: &TxnOp, limit: usize) -> Outcome<()> {
    let TxnOp::Kv { key, value, .. } = op else { return Ok(()) };
    if value.len() <= limit {
        return Ok(());
    }
    let key = String::from_utf8_lossy(key);
    let text = format!("Value for key \"{key}\" is too large ({} > {limit} bytes)", value.len());
    Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, text))
}
