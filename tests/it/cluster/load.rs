//! Writers that go on while something else happens to the cluster, and what they were promised.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::{Node, PATIENCE, eventually};

/// Most keys of one writer, so that a test that hangs ends.
const KEYS_MAX: usize = 100_000;

/// What a writer does after a refusal.
const PAUSE: Duration = Duration::from_millis(20);

/// One writer for each node, which writes one key after the other by way of it.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    writers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Begins.
    pub(crate) fn by_way_of<'n>(nodes: impl Iterator<Item = &'n Node>) -> Load {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let write = |(writer, node): (usize, &Node)| {
            let (stop, count, http) = (stop.clone(), count.clone(), node.http());
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for n in (0..KEYS_MAX).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let key = format!("load/{writer}/{n}");
                    match http.try_send("PUT", &format!("/v1/kv/{key}"), &[], b"v") {
                        Ok(answer) if answer.status == 200 => {
                            count.fetch_add(1, Ordering::Relaxed);
                            acknowledged.push(key);
                        }
                        _ => std::thread::sleep(PAUSE),
                    }
                }
                acknowledged
            })
        };
        let writers = nodes.enumerate().map(write).collect();
        Load { stop, count, writers }
    }

    /// Waits until more writes were acknowledged.
    pub(crate) fn goes_on(&self) {
        let before = self.count.load(Ordering::Relaxed);
        eventually!(PATIENCE, self.count.load(Ordering::Relaxed) > before + 100, "writes are acknowledged");
    }

    /// Ends, and gives the keys whose writes were acknowledged.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    }
}

/// Every acknowledged key is there by way of `node`.
pub(crate) fn assert_kept(node: &Node, acknowledged: &[String]) {
    let found = node.get("/v1/kv/load/?keys").json();
    let found: HashSet<&str> = found.as_array().unwrap().iter().filter_map(|key| key.as_str()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|key| !found.contains(key.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost, such as {}", lost.len(), acknowledged.len(), lost[0]);
}
