//! `kill -9` in the middle of a write load, again and again: every acknowledged write is there
//! afterwards, and a watch that resumes by its cursor has told every write once, in order.

mod load;
mod told;

use std::time::{Duration, Instant};

use harness::{Node, PATIENCE};
use load::Model;
use told::Told;

const ROUNDS: usize = 50;
const WRITERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_a_watch_has_no_gap() {
    let begun = Instant::now();
    let mut node = Node::durable();
    let (mut model, mut told) = (Model::default(), Told::default());
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let client = node.client().await;
        let watching = told.watch(&client);
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(load::write(client.clone(), round, writer))).collect();
        tokio::time::sleep(Duration::from_millis(20 + (round as u64 * 37) % 130)).await;
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
    }
    let acknowledged = model.acknowledged();
    println!("{ROUNDS} kills, {acknowledged} acknowledged writes, {:?}, slowest start {slowest:?}", begun.elapsed());
    assert!(acknowledged > ROUNDS * WRITERS, "only {acknowledged} writes were acknowledged: there was no load");
    assert!(node.stop().success());
}

/// How long a round's watch may take to tell what was written before its last write.
const CATCH_UP: Duration = PATIENCE;
