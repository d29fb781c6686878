//! The service layer over real consensus: what a caller of any face can rely on.

mod blocking;
mod limits;
mod session;
mod watch;

use std::time::Duration;

use state::{CheckInput, Compare, LockAction, LogIndex, NodeInput, Registration, ServiceInput, Status};
use tokio::time::timeout;

use crate::answer::{Blocking, ReadOptions};
use crate::kv::Put;
use crate::testing::{dev, dev_with};
use crate::{Caller, Limits, Service};

/// Long enough for any machine; nothing here waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

fn me() -> Caller {
    Caller::default()
}

async fn put(service: &Service, key: &str, value: &str) -> LogIndex {
    let put = Put { key: key.into(), value: value.into(), flags: 0, compare: Compare::Any, lock: LockAction::Keep, fence: None };
    service.kv_put(&me(), None, put).await.unwrap().index
}

async fn register(service: &Service, node: &str, id: &str, status: Status) -> LogIndex {
    let node = NodeInput { name: node.into(), address: "10.0.0.1".into(), ..Default::default() };
    let instance = ServiceInput { id: id.into(), name: "web".into(), ..Default::default() };
    let check = CheckInput { id: format!("check-{id}").into(), name: "c".into(), status, service_id: id.into(), ..Default::default() };
    let request = Registration { node, service: Some(instance), checks: vec![check], ..Default::default() };
    service.catalog_register(&me(), None, request).await.unwrap()
}

/// Blocks on `key` from `index` on, for as long as the test has patience.
fn from(index: LogIndex) -> Option<Blocking> {
    Some(Blocking { index, wait: PATIENCE * 2 })
}
