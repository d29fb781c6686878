//! Keys and transactions.

use lictor_client::{DeleteOptions, ErrorReason, ListOptions, PutOptions, ReadOptions, Txn};
use proto::v1;
use proto::v1::kv_service_client::KvServiceClient;
use tonic::Code;

use super::{Server, refused, soon};

#[tokio::test]
async fn a_key_is_written_read_and_removed() {
    let server = Server::start().await;
    let client = server.client().await;
    let kv = client.kv();
    let written = soon(kv.put_with("a", "1", PutOptions::new().flags(7))).await.unwrap();
    let found = soon(kv.get("a")).await.unwrap();
    let entry = found.value.clone().expect("it was written");
    assert_eq!((&entry.value[..], entry.flags, entry.modify_index), (&b"1"[..], 7, written.revision()));
    assert_eq!(found.meta.datacenter, "dc1");
    assert_eq!(found.revision(), written.revision());

    let again = soon(kv.put_with("a", "1", PutOptions::new().flags(7))).await.unwrap();
    assert_eq!(again.value.modify_index, written.revision(), "what stands there already is not changed");

    assert!(soon(kv.delete("a")).await.unwrap().value);
    assert!(!soon(kv.delete("a")).await.unwrap().value);
    let gone = soon(kv.get("a")).await.unwrap();
    assert!(gone.value.is_none() && gone.revision() > written.revision());
}

#[tokio::test]
async fn a_precondition_that_does_not_hold_writes_nothing_and_says_why() {
    let server = Server::start().await;
    let client = server.client().await;
    let kv = client.kv();
    let first = soon(kv.put_with("a", "1", PutOptions::new().if_absent())).await.unwrap();
    let error = soon(kv.put_with("a", "2", PutOptions::new().if_absent())).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::FailedPrecondition, Some(ErrorReason::PreconditionFailed)));
    assert_eq!(error.detail("modify_index"), Some(&*first.revision().to_string()));
    let options = DeleteOptions::new().if_modify_index(first.revision() + 1);
    assert_eq!(soon(kv.delete_with("a", options)).await.unwrap_err().reason(), Some(ErrorReason::PreconditionFailed));
    assert_eq!(soon(kv.get("a")).await.unwrap().value.unwrap().value, "1");
}

#[tokio::test]
async fn keys_are_listed_in_pages_from_one_revision() {
    let server = Server::start().await;
    let client = server.client().await;
    let kv = client.kv();
    for number in 0..7 {
        soon(kv.put(format!("p/{number}"), "v")).await.unwrap();
    }
    soon(kv.put("q", "v")).await.unwrap();
    let options = ListOptions { page_size: 3, ..Default::default() };
    let mut pages = soon(kv.pages("p/", options)).await.unwrap();
    let first = soon(pages.next()).await.unwrap().unwrap();
    soon(kv.delete_prefix("p/")).await.unwrap();
    let (mut sizes, mut revisions) = (vec![first.entries.len()], vec![first.meta.unwrap().revision]);
    while let Some(page) = soon(pages.next()).await.unwrap() {
        sizes.push(page.entries.len());
        revisions.push(page.meta.unwrap().revision);
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert!(revisions.iter().all(|revision| *revision == revisions[0]), "{revisions:?}");
    assert!(soon(kv.list("p/")).await.unwrap().value.is_empty(), "an empty list is an answer");
}

#[tokio::test]
async fn a_list_goes_on_after_a_page_token_and_stops_at_its_limit() {
    let server = Server::start().await;
    let client = server.client().await;
    let kv = client.kv();
    for key in ["p/a/1", "p/a/2", "p/b", "p/c/1", "p/d"] {
        soon(kv.put(key, "v")).await.unwrap();
    }
    let mut told = Vec::new();
    let mut page_token = String::new();
    loop {
        let options = ListOptions { keys_only: true, separator: "/".into(), limit: 1, page_token, ..Default::default() };
        let mut pages = soon(kv.pages("p/", options)).await.unwrap();
        let page = soon(pages.next()).await.unwrap().unwrap();
        assert!(soon(pages.next()).await.unwrap().is_none(), "one row is all that was asked for");
        told.extend(page.entries.into_iter().map(|entry| entry.key).chain(page.folders));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(told, ["p/a/", "p/b", "p/c/", "p/d"]);
    assert_eq!(soon(kv.keys("p/", "/")).await.unwrap().value, told);
}

#[tokio::test]
async fn everything_is_only_removed_by_those_who_say_so() {
    let server = Server::start().await;
    let client = server.client().await;
    soon(client.kv().put("a", "1")).await.unwrap();
    let mut raw = KvServiceClient::new(server.channel().await);
    let careless = soon(raw.delete_prefix(v1::DeletePrefixRequest::default())).await.unwrap_err();
    assert_eq!(refused(&careless), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    assert_eq!(soon(client.kv().delete_prefix("")).await.unwrap().value, 1);
}

#[tokio::test]
async fn a_transaction_takes_place_whole_or_not_at_all() {
    let server = Server::start().await;
    let client = server.client().await;
    let kv = client.kv();
    let create = Txn::new().check_absent("a").put("a", "1").put("b/1", "2").list("b/").get("c");
    let done = soon(kv.txn(create)).await.unwrap();
    assert!(done.value.committed);
    let told: Vec<_> = done.value.results.iter().map(|result| (result.operation, result.row.is_some())).collect();
    assert_eq!(told, [(1, true), (2, true), (3, true), (4, false)]);

    let again = Txn::new().check_absent("a").delete("b/1").check_modify_index("c", 9);
    let undone = soon(kv.txn(again)).await.unwrap().value;
    assert!(!undone.committed && undone.results.is_empty());
    assert_eq!(undone.failures.iter().map(|failure| failure.operation).collect::<Vec<_>>(), [0, 2]);
    assert!(soon(kv.get("b/1")).await.unwrap().value.is_some());

    let read = soon(kv.txn(Txn::new().get("a").list("b/"))).await.unwrap().value;
    assert_eq!(read.results.len(), 2);
}

#[tokio::test]
async fn a_transaction_reaches_over_keys_and_the_catalog_and_tells_the_reason_of_each_failure() {
    let server = Server::start().await;
    let client = server.client().await;
    let kv = client.kv();
    let node = v1::Node { name: "n1".into(), address: "10.0.0.1".into(), ..Default::default() };
    let service = || v1::Service { id: "w1".into(), name: "web".into(), port: 80, ..Default::default() };
    let check = v1::Check { node: "n1".into(), check_id: "c".into(), service_id: "w1".into(), ..Default::default() };
    let create = Txn::new().put_node(node).put_service("n1", service()).put_check(check.clone()).put("deployed", "w1");
    let done = soon(kv.txn(create)).await.unwrap();
    assert!(done.value.committed, "{done:?}");
    let Some(v1::txn_result::Row::Service(row)) = &done.value.results[1].row else { panic!("{done:?}") };
    assert_eq!((row.port, row.modify_index), (80, done.revision()));

    let session = "00000000-0000-4000-8000-000000000001";
    let acquire = v1::txn_kv_put::Lock::Acquire(session.into());
    let lock = v1::TxnKvPut { key: "lock".into(), lock: Some(acquire), ..Default::default() };
    let lock = v1::TxnOperation { operation: Some(v1::txn_operation::Operation::KvPut(lock)), ..Default::default() };
    let stray = v1::Check { service_id: "w9".into(), ..check };
    let fail = Txn::new().operation(lock).put_service("n9", service()).put_check(stray).check_absent("deployed").delete_node("n1");
    let undone = soon(kv.txn(fail)).await.unwrap().value;
    let reasons: Vec<_> = undone.failures.iter().map(|failure| failure.refusal.as_ref().unwrap().reason()).collect();
    use ErrorReason::*;
    assert_eq!(reasons, [UnknownSession, UnknownNode, UnknownService, PreconditionFailed], "{undone:?}");
    assert_eq!(undone.failures[0].refusal.as_ref().unwrap().metadata["session"], session);
    assert_eq!(soon(client.catalog().instances("web", Default::default())).await.unwrap().value.len(), 1);
    let error = soon(kv.txn(Txn::new().put("a", "1").put_service("", service()))).await.unwrap_err();
    assert_eq!((error.reason(), error.detail("operation")), (Some(InvalidArgument), Some("1")));
}

#[tokio::test]
async fn a_lock_fences_transactions_and_the_catalog() {
    let server = Server::start().await;
    let client = server.client().await;
    let (kv, catalog) = (client.kv(), client.catalog());
    let mut sessions = v1::session_service_client::SessionServiceClient::new(server.channel().await);
    let asked = v1::SessionServiceCreateRequest { ignore_node_failure: true, ..Default::default() };
    let session = soon(sessions.create(asked)).await.unwrap().into_inner().session.unwrap().id;
    let acquire = v1::TxnKvPut { key: "lock".into(), lock: Some(v1::txn_kv_put::Lock::Acquire(session.clone())), ..Default::default() };
    let acquire = v1::TxnOperation { operation: Some(v1::txn_operation::Operation::KvPut(acquire)), ..Default::default() };
    let granted = soon(kv.txn(Txn::new().operation(acquire))).await.unwrap();
    let fence = granted.value.results[0].fence.clone().expect("the lock was taken");
    assert_eq!((&fence.key[..], fence.token), (&b"lock"[..], granted.revision()));
    let node = v1::Node { name: "n1".into(), address: "10.0.0.1".into(), ..Default::default() };
    let register = || v1::RegisterRequest { node: Some(node.clone()), fence: Some(fence.clone()), ..Default::default() };
    soon(catalog.register(register())).await.unwrap();
    assert!(soon(kv.txn(Txn::new().fence(fence.clone()).put("a", "1"))).await.unwrap().value.committed);

    let destroy = v1::TxnOperation { operation: Some(v1::txn_operation::Operation::SessionDestroy(session)), ..Default::default() };
    assert!(soon(kv.txn(Txn::new().fence(fence.clone()).operation(destroy))).await.unwrap().value.committed);
    let late = soon(kv.txn(Txn::new().fence(fence.clone()).put("a", "2"))).await.unwrap().value;
    assert_eq!(late.failures[0].refusal.as_ref().unwrap().reason(), ErrorReason::StaleFence);
    assert_eq!(soon(catalog.register(register())).await.unwrap_err().reason(), Some(ErrorReason::StaleFence));
    let gone = v1::DeregisterRequest { node: "n1".into(), fence: Some(fence), ..Default::default() };
    assert_eq!(soon(catalog.deregister(gone)).await.unwrap_err().reason(), Some(ErrorReason::StaleFence));
    assert_eq!(soon(kv.get("a")).await.unwrap().value.unwrap().value, "1");
}

#[tokio::test]
async fn a_read_waits_for_the_revision_that_it_asks_for() {
    let server = Server::start().await;
    let client = server.client().await;
    let written = soon(client.kv().put("a", "1")).await.unwrap();
    let read = ReadOptions::stale().at_least(written.revision());
    assert!(soon(client.kv().get_with("a", &read)).await.unwrap().value.is_some());
}

#[tokio::test]
async fn another_datacenter_is_not_answered_for() {
    let server = Server::start().await;
    let client = server.client().await;
    let read = ReadOptions::default().datacenter("mars");
    let error = soon(client.kv().get_with("a", &read)).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::NotFound, Some(ErrorReason::UnknownDatacenter)));
    assert_eq!(error.detail("datacenter"), Some("mars"));
}
