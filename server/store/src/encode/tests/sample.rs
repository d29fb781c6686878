//! Random commands, rows and changes, with every field set now and then.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use state::kv::KvHeader;
use state::{
    Autopilot, Behavior, Change, ChangeBatch, Check, CheckDefinition, CheckInput, Command, Compare, Deregistration, Fence, Instance,
    KvEntry, KvVerb, KvWrite, LockAcquire, LockAction, LogIndex, MetaRow, Millis, Node, NodeInput, Operation, Registration, RestoreStep,
    Row, RowVerb, Service, ServiceAddress, ServiceInput, ServiceSummary, Session, SessionEnd, SessionId, Status, Str, Tombstone, TxnOp,
    Waiter, Weights,
};

fn text() -> impl Strategy<Value = Str> {
    "[a-zA-Z0-9é/]{0,8}".prop_map(Str::from)
}

fn bytes() -> impl Strategy<Value = Box<[u8]>> {
    vec(any::<u8>(), 0..40).prop_map(Vec::into_boxed_slice)
}

fn index() -> impl Strategy<Value = LogIndex> {
    any::<u64>().prop_map(LogIndex)
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId)
}

fn pairs() -> impl Strategy<Value = BTreeMap<Str, Str>> {
    btree_map(text(), text(), 0..3)
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Passing), Just(Status::Warning), Just(Status::Critical)]
}

fn addresses() -> impl Strategy<Value = BTreeMap<Str, ServiceAddress>> {
    let address = (text(), any::<u32>()).prop_map(|(address, port)| ServiceAddress { address, port });
    btree_map(text(), address, 0..3)
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    (any::<u64>(), operation()).prop_map(|(at, operation)| Command { at: Millis(at), operation })
}

fn operation() -> impl Strategy<Value = Operation> {
    let fence = (bytes(), index()).prop_map(|(key, token)| Fence { key, token });
    let fenced = (fence, plain()).prop_map(|(fence, operation)| Operation::Fenced { fence, operation: Box::new(operation) });
    prop_oneof![3 => plain(), 1 => fenced]
}

fn plain() -> BoxedStrategy<Operation> {
    let deregistration =
        (text(), of(text()), of(text())).prop_map(|(node, service_id, check_id)| Deregistration { node, service_id, check_id });
    prop_oneof![
        write().prop_map(Operation::Kv),
        vec(op(), 0..4).prop_map(Operation::Txn),
        registration().prop_map(|registration| Operation::Register(Box::new(registration))),
        deregistration.prop_map(Operation::Deregister),
        any::<u64>().prop_map(|incarnation| Operation::Begin { incarnation }),
        held().prop_map(|session| Operation::SessionCreate(Box::new(session))),
        session().prop_map(Operation::SessionRenew),
        (session(), end(), any::<u64>(), any::<bool>()).prop_map(|(id, cause, term, delays)| Operation::SessionEnd {
            id,
            cause,
            term,
            delays
        }),
        wish().prop_map(|wish| Operation::LockAcquire(Box::new(wish))),
        (bytes(), session(), index()).prop_map(|(key, session, token)| Operation::LockRelease { key, session, token }),
        (any::<u64>(), restore()).prop_map(|(id, step)| Operation::Restore { id, step }),
        (autopilot(), compare()).prop_map(|(wanted, compare)| Operation::SetAutopilot { wanted, compare }),
        Just(Operation::Noop),
    ]
    .boxed()
}

fn wish() -> impl Strategy<Value = LockAcquire> {
    (bytes(), any::<u32>(), session(), bytes(), any::<bool>()).prop_map(|(key, slots, session, value, wait)| LockAcquire {
        key,
        slots,
        session,
        value,
        wait,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        Just(Compare::Any),
        Just(Compare::Absent),
        index().prop_map(Compare::ModifyIndex),
        Just(Compare::Present),
        session().prop_map(Compare::HeldBy)
    ]
}

fn write() -> impl Strategy<Value = KvWrite> {
    let lock = prop_oneof![Just(LockAction::Keep), session().prop_map(LockAction::Acquire), session().prop_map(LockAction::Release)];
    prop_oneof![
        (bytes(), bytes(), any::<u64>(), compare(), lock).prop_map(|(key, value, flags, compare, lock)| KvWrite::Set {
            key,
            value,
            flags,
            compare,
            lock
        }),
        (bytes(), compare()).prop_map(|(key, compare)| KvWrite::Delete { key, compare }),
        bytes().prop_map(|prefix| KvWrite::DeletePrefix { prefix }),
    ]
}

fn op() -> impl Strategy<Value = TxnOp> {
    let fence = (bytes(), index()).prop_map(|(key, token)| TxnOp::Held(Fence { key, token }));
    prop_oneof![kv_op(), catalog_op(), fence, session().prop_map(TxnOp::SessionDestroy)]
}

fn catalog_op() -> impl Strategy<Value = TxnOp> {
    use RowVerb::*;
    let verb = || prop::sample::select(vec![Set, Cas, Get, GetOrEmpty, Delete, DeleteCas, CheckIndex, CheckExists, CheckNotExists]);
    prop_oneof![
        (verb(), node(), index()).prop_map(|(verb, row, index)| TxnOp::Node { verb, node: Box::new(node_input(row)), index }),
        (verb(), text(), service(), index()).prop_map(|(verb, node, row, index)| {
            let service = Box::new(service_input(row));
            TxnOp::Service { verb, node, service, index }
        }),
        (verb(), text(), check(), index()).prop_map(|(verb, node, row, index)| {
            let check = Box::new(check_input(row));
            TxnOp::Check { verb, node, check, index }
        }),
    ]
}

fn kv_op() -> impl Strategy<Value = TxnOp> {
    use KvVerb::*;
    let verb = prop::sample::select(vec![
        Set,
        Cas,
        Lock,
        Unlock,
        Get,
        GetOrEmpty,
        GetTree,
        CheckIndex,
        CheckSession,
        CheckNotExists,
        Delete,
        DeleteTree,
        DeleteCas,
    ]);
    (verb, bytes(), bytes(), any::<u64>(), index(), of(session())).prop_map(|(verb, key, value, flags, index, session)| TxnOp::Kv {
        verb,
        key,
        value,
        flags,
        index,
        session,
    })
}

fn registration() -> impl Strategy<Value = Registration> {
    (node(), any::<bool>(), of(service()), vec(check(), 0..3)).prop_map(|(node, skip_node_update, service, checks)| Registration {
        node: node_input(node),
        skip_node_update,
        service: service.map(service_input),
        checks: checks.into_iter().map(check_input).collect(),
    })
}

fn node_input(node: Node) -> NodeInput {
    let Node { id, name, address, datacenter, tagged_addresses, meta, .. } = node;
    NodeInput { id, name, address, datacenter, tagged_addresses, meta }
}

fn service_input(service: Service) -> ServiceInput {
    ServiceInput {
        id: service.id,
        name: service.name,
        tags: service.tags,
        address: service.address,
        port: service.port,
        socket_path: service.socket_path,
        meta: service.meta,
        tagged_addresses: service.tagged_addresses,
        weights: service.weights,
        enable_tag_override: service.enable_tag_override,
        kind: service.kind,
    }
}

fn check_input(check: Check) -> CheckInput {
    CheckInput {
        id: check.id,
        name: check.name,
        status: check.status,
        notes: check.notes,
        output: check.output,
        service_id: check.service_id,
        kind: check.kind,
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        definition: check.definition,
    }
}

fn node() -> impl Strategy<Value = Node> {
    (text(), text(), text(), text(), pairs(), pairs(), index(), index()).prop_map(
        |(id, name, address, datacenter, tagged_addresses, meta, create_index, modify_index)| Node {
            id,
            name,
            address,
            datacenter,
            tagged_addresses,
            meta,
            create_index,
            modify_index,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let first = (text(), text(), text(), vec(text(), 0..3), text(), any::<u32>(), text());
    let second = (pairs(), addresses(), any::<[u32; 2]>(), any::<bool>(), text(), index(), index());
    (first, second).prop_map(|((node, id, name, tags, address, port, socket_path), rest)| {
        let (meta, tagged_addresses, [passing, warning], enable_tag_override, kind, create_index, modify_index) = rest;
        Service {
            node,
            id,
            name,
            tags,
            address,
            port,
            socket_path,
            meta,
            tagged_addresses,
            weights: Weights { passing, warning },
            enable_tag_override,
            kind,
            create_index,
            modify_index,
        }
    })
}

fn check() -> impl Strategy<Value = Check> {
    let first = (text(), text(), text(), status(), text(), text(), text(), text());
    let second = (vec(text(), 0..3), text(), of(any::<u64>()), of(any::<u64>()), definition(), index(), index());
    (first, second).prop_map(|((node, id, name, status, notes, output, service_id, service_name), rest)| {
        let (service_tags, kind, interval_ms, timeout_ms, definition, create_index, modify_index) = rest;
        Check {
            node,
            id,
            name,
            status,
            notes,
            output,
            service_id,
            service_name,
            service_tags,
            kind,
            interval_ms,
            timeout_ms,
            definition,
            create_index,
            modify_index,
        }
    })
}

fn definition() -> impl Strategy<Value = CheckDefinition> {
    let headers = btree_map(text(), vec(text(), 0..3), 0..2);
    let flags = any::<[bool; 5]>();
    let texts = prop::array::uniform14(of(text()));
    let numbers = (prop::array::uniform4(of(any::<u64>())), of(any::<u32>()), any::<[u32; 3]>());
    let set = (headers, flags, vec(text(), 0..3), texts, numbers).prop_map(|(headers, flags, script_args, texts, numbers)| {
        let [disable_redirects, tls_skip_verify, tcp_use_tls, grpc_use_tls, h2ping_use_tls] = flags;
        let [
            http,
            method,
            body,
            tls_server_name,
            tcp,
            udp,
            grpc,
            h2ping,
            docker_container_id,
            shell,
            alias_node,
            alias_service,
            os_service,
            session_name,
        ] = texts;
        let ([ttl_ms, interval_ms, timeout_ms, deregister_critical_after_ms], output_max_bytes, counts) = numbers;
        let [success_before_passing, failures_before_warning, failures_before_critical] = counts;
        CheckDefinition {
            http,
            method,
            headers,
            body,
            disable_redirects,
            tls_server_name,
            tls_skip_verify,
            tcp,
            tcp_use_tls,
            udp,
            grpc,
            grpc_use_tls,
            h2ping,
            h2ping_use_tls,
            script_args,
            docker_container_id,
            shell,
            alias_node,
            alias_service,
            os_service,
            session_name,
            ttl_ms,
            interval_ms,
            timeout_ms,
            deregister_critical_after_ms,
            output_max_bytes,
            success_before_passing,
            failures_before_warning,
            failures_before_critical,
        }
    });
    prop_oneof![Just(CheckDefinition::default()), set]
}

fn entry() -> impl Strategy<Value = KvEntry> {
    (bytes(), bytes(), any::<u64>(), index(), index(), any::<u64>(), of((session(), index()))).prop_map(
        |(key, value, flags, create_index, modify_index, lock_index, holder)| {
            let (session, fence) = (holder.map(|(session, _)| session), holder.map_or(LogIndex::ZERO, |(_, fence)| fence));
            KvEntry::new(&key, &value, KvHeader { flags, create_index, modify_index, lock_index, session, fence })
        },
    )
}

fn held() -> BoxedStrategy<Session> {
    let times = (of(any::<u64>()), any::<u64>(), any::<u64>(), index(), index());
    let names = (text(), text(), vec(text(), 0..3), vec(text(), 0..3));
    (session(), names, any::<bool>(), times)
        .prop_map(|(id, (name, node, node_checks, service_checks), delete, times)| {
            let (ttl_ms, lock_delay_ms, renewed, create_index, modify_index) = times;
            let behavior = if delete { Behavior::Delete } else { Behavior::Release };
            let renewed = Millis(renewed);
            Session { id, name, node, behavior, ttl_ms, lock_delay_ms, node_checks, service_checks, renewed, create_index, modify_index }
        })
        .boxed()
}

fn end() -> impl Strategy<Value = SessionEnd> {
    use SessionEnd::*;
    proptest::sample::select(vec![Destroyed, Expired, NodeRemoved, CheckCritical, CheckRemoved])
}

fn tombstone() -> impl Strategy<Value = Tombstone> {
    (index(), any::<u64>()).prop_map(|(index, at)| Tombstone { index, at: Millis(at) })
}

fn tables() -> impl Strategy<Value = MetaRow> {
    any::<[u64; 15]>().prop_map(|n| MetaRow {
        applied: LogIndex(n[0]),
        clock: Millis(n[1]),
        kv_index: LogIndex(n[2]),
        nodes_index: LogIndex(n[3]),
        services_index: LogIndex(n[4]),
        checks_index: LogIndex(n[5]),
        reaped: LogIndex(n[6]),
        extinct_reaped: LogIndex(n[7]),
        incarnation: n[8],
        sessions_index: LogIndex(n[9]),
        offset: n[10],
        restored: LogIndex(n[11]),
        restoring: n[12],
        restoring_at: Millis(n[13]),
        cluster: n[14],
    })
}

fn autopilot() -> impl Strategy<Value = Autopilot> {
    (any::<bool>(), any::<[u64; 3]>(), any::<u32>(), index(), index()).prop_map(
        |(cleanup_dead_servers, n, min_quorum, create_index, modify_index)| Autopilot {
            cleanup_dead_servers,
            last_contact_threshold_ms: n[0],
            max_trailing_logs: n[1],
            server_stabilization_ms: n[2],
            min_quorum,
            create_index,
            modify_index,
        },
    )
}

fn restore() -> impl Strategy<Value = RestoreStep> {
    let stage = (any::<u64>(), vec(state_row(), 0..3)).prop_map(|(sequence, rows)| RestoreStep::Stage { sequence, rows: rows.into() });
    let commit = any::<[u64; 3]>().prop_map(|[parts, rows, incarnation]| RestoreStep::Commit { parts, rows, incarnation });
    prop_oneof![Just(RestoreStep::Begin), stage, commit, Just(RestoreStep::Abandon)]
}

pub(super) fn row() -> BoxedStrategy<Row> {
    let staged = (any::<u64>(), vec(state_row(), 0..3)).prop_map(|(sequence, rows)| Row::Staged(sequence, rows.into()));
    prop_oneof![9 => state_row(), 1 => staged].boxed()
}

/// Any row of the state itself.
pub(crate) fn state_row() -> BoxedStrategy<Row> {
    prop_oneof![
        entry().prop_map(Row::Kv),
        (bytes(), any::<bool>(), tombstone()).prop_map(|(key, prefix, tombstone)| Row::Tombstone { key: key.into(), prefix, tombstone }),
        (node(), index()).prop_map(|(node, index)| Row::Node(Arc::new(node), index)),
        service().prop_map(|service| Row::Service(Arc::new(service))),
        check().prop_map(|check| Row::Check(Arc::new(check))),
        (text(), index(), of(any::<u64>())).prop_map(|(name, index, gone)| Row::ServiceIndex { name, index, gone: gone.map(Millis) }),
        tables().prop_map(Row::Meta),
        held().prop_map(|session| Row::Session(Arc::new(session))),
        (bytes(), any::<u64>()).prop_map(|(key, until)| Row::LockDelay(key.into(), Millis(until))),
        (bytes(), any::<u32>()).prop_map(|(key, slots)| Row::LockQueue(key.into(), slots)),
        (bytes(), index(), session(), bytes())
            .prop_map(|(key, ticket, session, value)| Row::LockWaiter(key.into(), Arc::new(Waiter { ticket, session, value }))),
        autopilot().prop_map(Row::Autopilot),
    ]
    .boxed()
}

/// Both sides of a change, at least one of them set.
fn sides<T: Clone + std::fmt::Debug>(row: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = (Option<Arc<T>>, Option<Arc<T>>)> {
    let one = row.clone().prop_map(Arc::new);
    prop_oneof![
        one.clone().prop_map(|row| (Some(row), None)),
        one.clone().prop_map(|row| (None, Some(row))),
        (one.clone(), one).prop_map(|(before, after)| (Some(before), Some(after))),
    ]
}

fn instance() -> impl Strategy<Value = Instance> {
    (node(), service(), vec(check().prop_map(Arc::new), 0..2))
        .prop_map(|(node, service, checks)| Instance::new(Arc::new(node), Arc::new(service), checks))
}

fn summary() -> impl Strategy<Value = ServiceSummary> {
    (text(), vec(text(), 0..3)).prop_map(|(name, tags)| ServiceSummary { name, tags })
}

fn change() -> BoxedStrategy<Change> {
    prop_oneof![
        entry().prop_map(|entry| Change::KvPut { entry }),
        entry().prop_map(|entry| Change::KvDelete { entry }),
        sides(node().boxed()).prop_map(|(before, after)| Change::Node { before, after }),
        sides(instance().boxed()).prop_map(|(before, after)| Change::Instance { before, after }),
        sides(check().boxed()).prop_map(|(before, after)| Change::Check { before, after }),
        sides(summary().boxed()).prop_map(|(before, after)| Change::Service { before, after }),
        (sides(held()), of(end())).prop_map(|((before, after), end)| Change::Session { before, after, end }),
    ]
    .boxed()
}

pub(super) fn batch() -> impl Strategy<Value = ChangeBatch> {
    (index(), vec(change(), 0..3)).prop_map(|(index, changes)| ChangeBatch { index, changes })
}

/// One change of each kind.
pub(super) fn every_change() -> Vec<Change> {
    let instance = Instance::new(Arc::default(), Arc::default(), vec![Arc::default()]);
    let entry = KvEntry::new(b"key", b"value", KvHeader::default());
    let session = Session {
        id: SessionId([7; 16]),
        name: "lock".into(),
        node: "n1".into(),
        behavior: Behavior::Delete,
        ttl_ms: Some(10_000),
        lock_delay_ms: 0,
        node_checks: vec![],
        service_checks: vec![],
        renewed: Millis(1),
        create_index: LogIndex(1),
        modify_index: LogIndex(1),
    };
    vec![
        Change::KvPut { entry: entry.clone() },
        Change::KvDelete { entry },
        Change::Node { before: None, after: Some(Arc::default()) },
        Change::Instance { before: Some(Arc::new(instance)), after: None },
        Change::Check { before: Some(Arc::default()), after: Some(Arc::default()) },
        Change::Service { before: None, after: Some(Arc::new(ServiceSummary { name: "web".into(), tags: vec![] })) },
        Change::Session { before: Some(Arc::new(session)), after: None, end: Some(SessionEnd::Expired) },
    ]
}
