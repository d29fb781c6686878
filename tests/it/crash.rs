//! `kill -9` in the middle of a write load, again and again: every acknowledged write is there
//! afterwards, and a watch that resumes by its cursor has told every write once, in order.

mod load;
mod told;

use std::time::{Duration, Instant};

use harness::{Node, PATIENCE, eventually};
use load::Model;
use told::Told;

const ROUNDS: usize = 50;
const WRITERS: usize = 12;
/// So often the server is left in peace until it has written its state and dropped the log before.
const ROUNDS_PER_FLUSH: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_a_watch_has_no_gap() {
    let begun = Instant::now();
    let mut node = Node::durable();
    let (mut model, mut told) = (Model::default(), Told::begin(&node.client().await).await);
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let client = node.client().await;
        let watching = told.watch(&client);
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(load::write(client.clone(), round, writer))).collect();
        tokio::time::sleep(Duration::from_millis(40 + (round as u64 * 37) % 210)).await;
        node.kill();
        for writer in writers {
            let history = writer.await.unwrap();
            model.add(history);
        }
        told = watching.await.unwrap();

        node.restart();
        slowest = slowest.max(node.ready_after());
        let client = node.client().await;
        let found = client.kv().list("").await.unwrap();
        model.settle(&found.value, round);
        told = told.catch_up(&client, round).await;
        model.compare(&told);
        if round % ROUNDS_PER_FLUSH == 0 {
            await_flush(&node);
        }
    }
    let acknowledged = model.acknowledged();
    println!("{ROUNDS} kills, {acknowledged} acknowledged writes, {:?}, slowest start {slowest:?}", begun.elapsed());
    assert!(acknowledged > ROUNDS * WRITERS, "only {acknowledged} writes were acknowledged: there was no load");
    assert!(node.stop().success());
}

/// Waits until the server has written its state, which it does once nobody writes any more.
fn await_flush(node: &Node) {
    let state = node.setup().data_dir().join("state/data.mdb");
    let written = || std::fs::metadata(&state).and_then(|file| file.modified()).unwrap();
    let before = written();
    eventually!(PATIENCE, written() > before, "the state is written");
}

/// How long a round's watch may take to tell what was written before its last write.
const CATCH_UP: Duration = PATIENCE;
