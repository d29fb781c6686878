//! Keys and values.

use bytes::Bytes;
use proto::v1;
use proto::v1::kv_service_client::KvServiceClient;
use proto::v1::precondition::Row;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::error::Error;
use crate::pool::Pool;
use crate::read::{Answer, ReadOptions, write_options};
use crate::txn::Txn;

/// Calls on keys and values.
#[derive(Clone, Copy)]
pub struct Kv<'a> {
    pool: &'a Pool,
}

/// How a key is written.
///
/// ```
/// use lictor_client::PutOptions;
/// let only_if_new = PutOptions::new().flags(7).if_absent();
/// let only_if_unchanged = PutOptions::new().if_modify_index(42);
/// # let _ = (only_if_new, only_if_unchanged);
/// ```
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    datacenter: String,
    flags: u64,
    precondition: v1::Precondition,
    lock: Option<v1::put_request::Lock>,
}

impl PutOptions {
    /// Writes in any case, with flags 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes to another datacenter.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = name.into();
        self
    }

    /// Sets the number that means what its writer wants.
    pub fn flags(mut self, flags: u64) -> Self {
        self.flags = flags;
        self
    }

    /// Writes only if the key does not exist.
    pub fn if_absent(mut self) -> Self {
        self.precondition.row = Some(Row::Absent(true));
        self
    }

    /// Writes only if the key exists, in whatever state.
    pub fn if_present(mut self) -> Self {
        self.precondition.row = Some(Row::Present(true));
        self
    }

    /// Writes only if the key exists with this `modify_index`.
    pub fn if_modify_index(mut self, index: u64) -> Self {
        self.precondition.row = Some(Row::ModifyIndex(index));
        self
    }

    /// Writes only while this lock is held.
    pub fn fence(mut self, fence: v1::Fence) -> Self {
        self.precondition.fence = Some(fence);
        self
    }

    /// Takes the lock of the key for a session, or does not write.
    pub fn acquire(mut self, session_id: impl Into<String>) -> Self {
        self.lock = Some(v1::put_request::Lock::Acquire(session_id.into()));
        self
    }

    /// Takes the lock of the key from a session that holds it, or does not write.
    pub fn release(mut self, session_id: impl Into<String>) -> Self {
        self.lock = Some(v1::put_request::Lock::Release(session_id.into()));
        self
    }
}

/// How keys are removed.
///
/// ```
/// let only_if_unchanged = lictor_client::DeleteOptions::new().if_modify_index(42);
/// # let _ = only_if_unchanged;
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    datacenter: String,
    precondition: v1::Precondition,
}

impl DeleteOptions {
    /// Removes in any case.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes in another datacenter.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = name.into();
        self
    }

    /// Removes only if the key is gone already or has this `modify_index`. Not for prefixes.
    pub fn if_modify_index(mut self, index: u64) -> Self {
        self.precondition.row = Some(Row::ModifyIndex(index));
        self
    }

    /// Removes only while this lock is held.
    pub fn fence(mut self, fence: v1::Fence) -> Self {
        self.precondition.fence = Some(fence);
        self
    }
}

/// How keys are listed.
///
/// ```
/// use lictor_client::ListOptions;
/// let folders = ListOptions { keys_only: true, separator: "/".into(), ..ListOptions::default() };
/// # let _ = folders;
/// ```
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// How to read.
    pub read: ReadOptions,
    /// Leaves out the values.
    pub keys_only: bool,
    /// Folds keys that share what comes before and with the first separator after the prefix;
    /// empty folds nothing.
    pub separator: Bytes,
    /// Most entries and folders in one page; 0 leaves it to the server.
    pub page_size: u32,
    /// Most entries and folders in all; 0 is all.
    pub limit: u64,
    /// Goes on after the page that gave this token.
    pub page_token: String,
}

/// One page of a list.
pub type KvPage = v1::ListResponse;

/// The pages of a list, all from one revision.
#[derive(Debug)]
pub struct KvPages {
    pages: Streaming<v1::ListResponse>,
    timeout: std::time::Duration,
}

impl KvPages {
    /// The next page; `None` after the last one.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let mut pages = client.kv().pages("config/", Default::default()).await?;
    /// while let Some(page) = pages.next().await? {
    ///     println!("{} keys", page.entries.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Result<Option<KvPage>, Error> {
        self.pages.message().await.map_err(|status| Error::from_status(&status, "the server", self.timeout))
    }
}

impl<'a> Kv<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Kv { pool }
    }

    /// Reads one key, linearizable. A key that does not exist is `None`.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// if let Some(entry) = client.kv().get("config/colour").await?.value {
    ///     println!("{:?} since revision {}", entry.value, entry.modify_index);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Answer<Option<v1::Entry>>, Error> {
        self.get_with(key, &ReadOptions::default()).await
    }

    /// As [`Kv::get`], as current as `read` asks.
    pub async fn get_with(&self, key: impl AsRef<[u8]>, read: &ReadOptions) -> Result<Answer<Option<v1::Entry>>, Error> {
        let request = v1::GetRequest { options: read.wire(), key: copied(key) };
        let send = |channel, request| async move { self.stub(channel).get(request).await };
        let v1::GetResponse { meta, entry } = self.pool.call(request, send).await?;
        Answer::new(entry, meta)
    }

    /// Reads all keys under a prefix, in bytewise order, into memory.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// for entry in client.kv().list("config/").await?.value {
    ///     println!("{:?}", entry.key);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list(&self, prefix: impl AsRef<[u8]>) -> Result<Answer<Vec<v1::Entry>>, Error> {
        let (entries, _, meta) = self.collect(prefix, ListOptions::default()).await?;
        Answer::new(entries, meta)
    }

    /// Reads the keys under a prefix without their values. With a separator, keys that have it
    /// after the prefix are folded: `a/b` and `a/c` become `a/`.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.kv().keys("config/", "/").await?.value);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn keys(&self, prefix: impl AsRef<[u8]>, separator: impl Into<Bytes>) -> Result<Answer<Vec<Bytes>>, Error> {
        let options = ListOptions { keys_only: true, separator: separator.into(), ..ListOptions::default() };
        let (entries, folders, meta) = self.collect(prefix, options).await?;
        let mut keys: Vec<Bytes> = entries.into_iter().map(|entry| entry.key).chain(folders).collect();
        keys.sort_unstable();
        Answer::new(keys, meta)
    }

    /// Reads the keys under a prefix page by page, all of them from one revision.
    pub async fn pages(&self, prefix: impl AsRef<[u8]>, options: ListOptions) -> Result<KvPages, Error> {
        let ListOptions { read, keys_only, separator, page_size, limit, page_token } = options;
        let (prefix, options) = (copied(prefix), read.wire());
        let request = v1::ListRequest { options, prefix, keys_only, separator, page_size, page_token, limit };
        let send = |channel, request| async move { self.stub(channel).list(request).await };
        Ok(KvPages { pages: self.pool.stream(request, send).await?, timeout: self.pool.request_timeout() })
    }

    /// Writes one key. Durable when answered.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let written = client.kv().put("config/colour", "green").await?;
    /// println!("written at revision {}", written.revision());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Answer<v1::PutResponse>, Error> {
        self.put_with(key, value, PutOptions::default()).await
    }

    /// As [`Kv::put`], with flags, a precondition or a lock.
    pub async fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<Answer<v1::PutResponse>, Error> {
        let PutOptions { datacenter, flags, precondition, lock } = options;
        let options = write_options(&datacenter);
        let precondition = unless_empty(precondition);
        let request = v1::PutRequest { options, key: copied(key), value: value.into(), flags, precondition, lock };
        let send = |channel, request| async move { self.stub(channel).put(request).await };
        let mut response: v1::PutResponse = self.pool.call(request, send).await?;
        let meta = response.meta.take();
        Answer::new(response, meta)
    }

    /// Removes one key; the value tells whether it existed.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let existed = client.kv().delete("config/colour").await?.value;
    /// # let _ = existed;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Answer<bool>, Error> {
        self.delete_with(key, DeleteOptions::default()).await
    }

    /// As [`Kv::delete`], with a precondition.
    pub async fn delete_with(&self, key: impl AsRef<[u8]>, options: DeleteOptions) -> Result<Answer<bool>, Error> {
        let DeleteOptions { datacenter, precondition } = options;
        let options = write_options(&datacenter);
        let request = v1::DeleteRequest { options, key: copied(key), precondition: unless_empty(precondition) };
        let send = |channel, request| async move { self.stub(channel).delete(request).await };
        let v1::DeleteResponse { meta, deleted } = self.pool.call(request, send).await?;
        Answer::new(deleted, meta)
    }

    /// Removes every key under a prefix in one step; the value tells how many. An empty prefix
    /// removes all there are.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let removed = client.kv().delete_prefix("config/").await?.value;
    /// # let _ = removed;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Answer<u64>, Error> {
        self.delete_prefix_with(prefix, DeleteOptions::default()).await
    }

    /// As [`Kv::delete_prefix`], with a fence.
    pub async fn delete_prefix_with(&self, prefix: impl AsRef<[u8]>, options: DeleteOptions) -> Result<Answer<u64>, Error> {
        let DeleteOptions { datacenter, precondition } = options;
        let (prefix, options) = (copied(prefix), write_options(&datacenter));
        let everything = prefix.is_empty();
        let request = v1::DeletePrefixRequest { options, prefix, everything, fence: precondition.fence };
        let send = |channel, request| async move { self.stub(channel).delete_prefix(request).await };
        let v1::DeletePrefixResponse { meta, deleted } = self.pool.call(request, send).await?;
        Answer::new(deleted, meta)
    }

    /// Compares, writes and reads several keys at one revision: all of it, or none. A comparison
    /// that fails is an answer with `committed` false, not an error.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::Txn;
    ///
    /// let swap = Txn::new().check_modify_index("a", 42).put("a", "new").delete("b");
    /// let done = client.kv().txn(swap).await?.value;
    /// println!("committed: {}, failures: {:?}", done.committed, done.failures);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn txn(&self, txn: Txn) -> Result<Answer<v1::TxnResponse>, Error> {
        let send = |channel, request| async move { self.stub(channel).txn(request).await };
        let mut response: v1::TxnResponse = self.pool.call(txn.wire(), send).await?;
        let meta = response.meta.take();
        Answer::new(response, meta)
    }

    async fn collect(
        &self,
        prefix: impl AsRef<[u8]>,
        options: ListOptions,
    ) -> Result<(Vec<v1::Entry>, Vec<Bytes>, Option<v1::ResponseMeta>), Error> {
        let mut pages = self.pages(prefix, options).await?;
        let (mut entries, mut folders, mut last) = (Vec::new(), Vec::new(), None);
        while let Some(page) = pages.next().await? {
            let v1::ListResponse { meta, entries: more, folders: more_folders, next_page_token: _ } = page;
            entries.extend(more);
            folders.extend(more_folders);
            last = meta;
        }
        Ok((entries, folders, last))
    }

    fn stub(&self, channel: Channel) -> KvServiceClient<Channel> {
        KvServiceClient::new(channel).max_decoding_message_size(self.pool.message_bytes_max())
    }
}

fn copied(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

/// A precondition that asks for nothing is left out.
fn unless_empty(precondition: v1::Precondition) -> Option<v1::Precondition> {
    (precondition != v1::Precondition::default()).then_some(precondition)
}
