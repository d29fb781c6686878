//! News of commits that ride with the entries after them.
//!
//! As soon as a quorum has an entry, the Raft library tells every follower so in a request that holds
//! nothing else. Under load another request with entries follows at once and says the same again; for a lone
//! writer, such requests are half of all that servers say to each other. So one that only tells of a commit
//! is kept back a moment, and dropped when another overtakes it. It is not kept back when somebody at another
//! server waits for the commit, and never for longer than [`KEPT`].
//!
//! Dropping is sound: the library counts every request up to the index that an answer confirms as answered.

use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::types::TypeConfig;

/// How long news are kept back at most, above what the timer's resolution adds.
const KEPT: Duration = Duration::from_millis(1);

/// The last index that somebody at another server waits for. It is committed.
#[derive(Clone)]
pub(crate) struct Awaited(watch::Sender<u64>);

impl Awaited {
    pub(crate) fn new() -> Self {
        Awaited(watch::Sender::new(0))
    }

    /// Somebody waits until `index` is applied at another server.
    pub(crate) fn wait_for(&self, index: u64) {
        self.0.send_if_modified(|awaited| std::mem::replace(awaited, index.max(*awaited)) < index);
    }
}

type Append = AppendEntriesRequest<TypeConfig>;

/// What is under way on one stream.
struct Pacing<S> {
    requests: S,
    awaited: watch::Receiver<u64>,
    /// The last commit that was told.
    told: u64,
    /// A request that only tells of a commit, and until when it is kept back.
    kept: Option<(Append, Instant)>,
    begun: bool,
}

/// The requests that are worth sending.
pub(crate) fn paced<S>(requests: S, awaited: &Awaited) -> impl Stream<Item = Append> + Send + use<S>
where
    S: Stream<Item = Append> + Send + Unpin + 'static,
{
    // What was kept back is told after the last request: by then the stream has ended, and is asked once more.
    let pacing = Pacing { requests: requests.fuse(), awaited: awaited.0.subscribe(), told: 0, kept: None, begun: false };
    futures::stream::unfold(pacing, |mut pacing| async move {
        let request = pacing.next().await?;
        pacing.told = pacing.told.max(commit(&request));
        Some((request, pacing))
    })
}

fn commit(request: &Append) -> u64 {
    request.leader_commit.map_or(0, |id| id.index)
}

impl<S: Stream<Item = Append> + Unpin> Pacing<S> {
    async fn next(&mut self) -> Option<Append> {
        loop {
            let Some((kept, until)) = self.kept.take() else {
                let request = self.requests.next().await?;
                // The first request of a stream may be a question where the logs part.
                let first = !std::mem::replace(&mut self.begun, true);
                if first || !request.entries.is_empty() {
                    return Some(request);
                }
                self.kept = Some((request, Instant::now() + KEPT));
                continue;
            };
            let awaited = *self.awaited.borrow_and_update();
            if awaited > self.told && commit(&kept) >= awaited {
                return Some(kept);
            }
            tokio::select! {
                biased;
                request = self.requests.next() => match request {
                    Some(request) if request.entries.is_empty() => self.kept = Some((request, until)),
                    // After the last request nothing overtakes.
                    None => return Some(kept),
                    request => return request,
                },
                () = sleep_until(until) => return Some(kept),
                // Without a sender consensus has stopped.
                _ = self.awaited.changed() => self.kept = Some((kept, until)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use openraft::EntryPayload;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;
    use crate::encode;
    use crate::types::{Entry, Vote};

    fn request(last: u64, commit: u64, entries: u64) -> Append {
        let id = |index| (index > 0).then(|| encode::log_id(1, index));
        let entry = |index| Entry { log_id: encode::log_id(1, index), payload: EntryPayload::Blank };
        Append {
            vote: Vote::new_committed(1, 1),
            prev_log_id: id(last - entries),
            entries: (last - entries + 1..=last).map(entry).collect(),
            leader_commit: id(commit),
        }
    }

    /// What is put in, what comes out, and who waits. A stream of its own tells that `1` is committed first.
    async fn stream() -> (mpsc::Sender<Append>, impl Stream<Item = Append> + Unpin, Awaited) {
        let (sender, receiver) = mpsc::channel(8);
        let awaited = Awaited::new();
        let mut out = Box::pin(paced(ReceiverStream::new(receiver), &awaited));
        sender.send(request(1, 1, 0)).await.unwrap();
        assert_eq!(commit(&out.next().await.unwrap()), 1, "the first one is never kept back");
        (sender, out, awaited)
    }

    /// What there is without waiting.
    async fn at_once(out: &mut (impl Stream<Item = Append> + Unpin)) -> Option<(u64, usize)> {
        let next = out.next().now_or_never()??;
        Some((commit(&next), next.entries.len()))
    }

    #[tokio::test(start_paused = true)]
    async fn news_of_a_commit_ride_with_the_entries_that_follow() {
        let (sender, mut out, _awaited) = stream().await;
        sender.send(request(2, 1, 1)).await.unwrap();
        assert_eq!(at_once(&mut out).await, Some((1, 1)));
        sender.send(request(2, 2, 0)).await.unwrap();
        sender.send(request(3, 2, 1)).await.unwrap();
        assert_eq!(at_once(&mut out).await, Some((2, 1)), "the request without entries is not sent");
        drop(sender);
        assert!(out.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn news_that_nothing_overtakes_are_told_a_moment_later() {
        let (sender, mut out, _awaited) = stream().await;
        let before = Instant::now();
        sender.send(request(2, 1, 0)).await.unwrap();
        sender.send(request(2, 2, 0)).await.unwrap();
        assert_eq!(at_once(&mut out).await, None);
        assert_eq!(out.next().await.map(|last| commit(&last)), Some(2), "the latest of them");
        assert!(before.elapsed() <= 2 * KEPT);
    }

    #[tokio::test(start_paused = true)]
    async fn news_that_somebody_waits_for_are_told_at_once() {
        let (sender, mut out, awaited) = stream().await;
        sender.send(request(2, 2, 0)).await.unwrap();
        assert_eq!(at_once(&mut out).await, None);
        awaited.wait_for(2);
        assert_eq!(at_once(&mut out).await, Some((2, 0)), "while it is kept back");
        awaited.wait_for(3);
        sender.send(request(3, 3, 0)).await.unwrap();
        assert_eq!(at_once(&mut out).await, Some((3, 0)), "before it comes");
        sender.send(request(4, 4, 0)).await.unwrap();
        assert_eq!(at_once(&mut out).await, None, "what was waited for is told already");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_news_of_a_stream_are_told() {
        // A stream that must not be asked after its end, as the library's is.
        let requests = futures::stream::unfold(1, |next| async move { (next <= 2).then(|| (request(next, next, 0), next + 1)) });
        let mut out = Box::pin(paced(Box::pin(requests), &Awaited::new()));
        assert_eq!(out.next().await.map(|first| commit(&first)), Some(1));
        assert_eq!(out.next().await.map(|last| commit(&last)), Some(2));
        assert!(out.next().await.is_none());
    }
}
