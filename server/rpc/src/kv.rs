//! `KvService`: keys and values.

mod pages;

use proto::v1;
use proto::v1::kv_service_server::KvService;
use proto::v1::kv_service_watch_request::Target as WatchTarget;
use service::watch::Target;
use service::{Error, Reason};
use state::{LockAction, LogIndex, Refusal};
use tonic::{Request, Response, Status};

use crate::caller::open;
use crate::convert::common::{consistency, fence as proof, local_meta, meta, read_options, write_meta, write_to};
use crate::convert::txn::Plan;
use crate::convert::{kv, watch as convert};
use crate::serve::Face;
use crate::status::{answer, invalid};
use crate::watch::{self, Wrapped};

#[tonic::async_trait]
impl KvService for Face {
    type ListStream = pages::PageStream;
    type WatchStream = Wrapped<v1::KvServiceWatchResponse>;

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        answer(async {
            let (caller, v1::GetRequest { options, key }) = open(request)?;
            let found = self.service.kv_get(&caller, &read_options(options)?, None, &key).await?;
            Ok(v1::GetResponse { entry: found.value.as_ref().map(kv::entry), meta: Some(meta(found.meta)) })
        })
        .await
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        answer(async {
            let (caller, v1::ListRequest { options, prefix, keys_only, separator, page_size, page_token, limit }) = open(request)?;
            let shape = pages::Shape::new(&prefix, keys_only, separator, page_size, &page_token, limit, self.service.limits())?;
            let range = self.service.kv_list(&caller, &read_options(options)?, None, &prefix).await?;
            Ok(pages::stream(range.value, shape, meta(range.meta)))
        })
        .await
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let (options, put) = kv::put(request)?;
            let locked = matches!(put.lock, LockAction::Acquire(_)).then(|| put.key.clone().into());
            let written = self.service.kv_put(&caller, write_to(options).as_deref(), put).await?;
            let fence = locked.zip(written.entry.as_ref()).map(|(key, entry)| v1::Fence { key, token: entry.fence().0 });
            let modify_index = written.entry.as_ref().map_or(written.index, |entry| entry.modify_index()).0;
            Ok(v1::PutResponse { meta: Some(write_meta(&self.service, written.index)), modify_index, fence })
        })
        .await
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        answer(async {
            let (caller, v1::DeleteRequest { options, key, precondition }) = open(request)?;
            let condition = kv::condition(precondition)?;
            let written = self.service.kv_delete(&caller, write_to(options).as_deref(), &key, condition).await?;
            Ok(v1::DeleteResponse { meta: Some(write_meta(&self.service, written.index)), deleted: written.removed > 0 })
        })
        .await
    }

    async fn delete_prefix(&self, request: Request<v1::DeletePrefixRequest>) -> Result<Response<v1::DeletePrefixResponse>, Status> {
        answer(async {
            let (caller, v1::DeletePrefixRequest { options, prefix, everything, fence }) = open(request)?;
            let fence = proof(fence)?;
            if prefix.is_empty() && !everything {
                return Err(invalid("everything", "an empty prefix removes every key; set `everything` if that is meant"));
            }
            let written = self.service.kv_delete_prefix(&caller, write_to(options).as_deref(), &prefix, fence).await?;
            Ok(v1::DeletePrefixResponse { meta: Some(write_meta(&self.service, written.index)), deleted: written.removed })
        })
        .await
    }

    async fn txn(&self, request: Request<v1::TxnRequest>) -> Result<Response<v1::TxnResponse>, Status> {
        answer(async {
            let (caller, v1::TxnRequest { options, operations, consistency: wanted }) = open(request)?;
            let mut read = service::ReadOptions::with(consistency(wanted)?);
            read.datacenter = write_to(options).map(Into::into);
            self.service.check_txn_operations(operations.len())?;
            let mut plan = Plan::new(operations)?;
            match self.service.txn(&caller, &read, plan.take_ops()).await {
                Ok(done) => Ok(committed(self, &plan, done.index, &done.results)),
                Err(error) => undone(self, &plan, error),
            }
        })
        .await
    }

    async fn watch(&self, request: Request<v1::KvServiceWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        answer(async {
            let (caller, v1::KvServiceWatchRequest { options, target, resume_from, skip_snapshot }) = open(request)?;
            let target = match target.ok_or_else(|| invalid("target", "it is missing; give a key or a prefix"))? {
                WatchTarget::Key(key) => convert::kv_key(&key)?,
                WatchTarget::Prefix(prefix) => Target::KvPrefix((*prefix).into()),
            };
            let start = convert::start(&resume_from, skip_snapshot)?;
            watch::single(self, &caller, target, &read_options(options)?, start).await
        })
        .await
    }
}

fn committed(face: &Face, plan: &Plan, index: LogIndex, results: &[state::TxnResult]) -> v1::TxnResponse {
    let (results, failures) = (plan.results(results), Vec::new());
    v1::TxnResponse { meta: Some(write_meta(&face.service, index)), committed: true, results, failures }
}

/// A comparison that failed is an answer; any other refusal stays one.
fn undone(face: &Face, plan: &Plan, error: Error) -> Result<v1::TxnResponse, Error> {
    match error.refusal.as_deref() {
        Some(Refusal::Txn { failures }) if error.reason == Reason::TxnFailed => {
            let (results, failures) = (Vec::new(), plan.failures(failures));
            Ok(v1::TxnResponse { meta: Some(local_meta(&face.service)), committed: false, results, failures })
        }
        _ => Err(plan.locate(error)),
    }
}
