use std::sync::Arc;
use std::time::Duration;

use super::ring::KEPT;
use super::subscription::Told;
use super::*;

fn arrived(number: u64, ltime: u64, name: &str) -> Arrived {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let event = Event {
        id,
        ltime,
        name: name.into(),
        payload: Vec::new(),
        node_filter: String::new(),
        service_filter: String::new(),
        tag_filter: String::new(),
    };
    Arrived { number, news: true, event: Arc::new(event) }
}

fn book() -> Arc<Book> {
    let book = Arc::new(Book::default());
    book.ring.lock().open();
    book
}

fn come(book: &Book, events: impl IntoIterator<Item = Arrived>) {
    for arrived in events {
        let number = arrived.number;
        assert!(book.ring.lock().take([arrived].into(), number, false));
        book.changes.send_replace(number);
    }
}

/// What is told without waiting: Lamport times, and after which of them there was a gap.
async fn told(events: &mut Subscription) -> (Vec<u64>, Vec<u64>) {
    let (mut times, mut gaps) = (Vec::new(), Vec::new());
    while let Ok(Told { event, gap }) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        gaps.extend(gap.then_some(event.ltime));
        times.push(event.ltime);
    }
    (times, gaps)
}

#[tokio::test]
async fn who_follows_is_told_each_event_once_also_one_that_comes_late() {
    let book = book();
    come(&book, [arrived(1, 5, "a")]);
    let mut events = Subscription::begin(book.clone(), "", None);
    come(&book, [arrived(2, 8, "a"), arrived(3, 6, "a"), arrived(4, 8, "b")]);
    assert_eq!(told(&mut events).await, (vec![8, 6, 8], vec![]));
    let mut again = Subscription::begin(book.clone(), "", Some(arrived(2, 8, "a").event.id));
    come(&book, [arrived(5, 7, "a")]);
    assert_eq!(told(&mut again).await, (vec![6, 8, 7], vec![]), "it goes on where it was, in the order in which they came");
    assert_eq!(told(&mut events).await, (vec![7], vec![]));
    let mut named = Subscription::begin(book.clone(), "b", Some(arrived(2, 8, "a").event.id));
    assert_eq!(told(&mut named).await, (vec![8], vec![]), "one of another name is no gap");
}

#[tokio::test]
async fn who_falls_behind_gets_what_is_kept_once_and_knows_of_the_gap() {
    let book = book();
    let mut events = Subscription::begin(book.clone(), "", None);
    let kept = KEPT as u64;
    come(&book, (1..=kept).map(|at| arrived(at, at, "a")));
    assert_eq!(told(&mut events).await, ((1..=kept).collect(), vec![]), "as many as are kept are no gap");
    come(&book, (kept + 1..=3 * kept).map(|at| arrived(at, at, "a")));
    assert_eq!(told(&mut events).await, ((2 * kept + 1..=3 * kept).collect(), vec![2 * kept + 1]));
    come(&book, [arrived(3 * kept + 1, 1, "a")]);
    assert_eq!(told(&mut events).await, (vec![1], vec![]), "afterwards nothing is missing");
    book.ring.lock().take([arrived(4 * kept, 2000, "a")].into(), 4 * kept, true);
    assert_eq!(told(&mut events).await, (vec![2000], vec![2000]), "some came faster than they were read");
}

#[tokio::test]
async fn who_goes_on_after_an_event_that_is_forgotten_is_told_so_with_the_first_one_even_if_that_comes_later() {
    let book = book();
    let mut early = Subscription::begin(book.clone(), "", Some([7; 16]));
    come(&book, [arrived(1, 1, "a"), arrived(2, 2, "a")]);
    assert_eq!(told(&mut early).await, (vec![1, 2], vec![1]));
    let mut late = Subscription::begin(book.clone(), "", Some([7; 16]));
    assert_eq!(told(&mut late).await, (vec![1, 2], vec![1]));
}

#[tokio::test]
async fn history_is_told_to_those_only_who_go_on_from_it() {
    let book = book();
    let history = |number, ltime| Arrived { news: false, ..arrived(number, ltime, "a") };
    let mut live = Subscription::begin(book.clone(), "", None);
    come(&book, [history(1, 1), history(2, 2), arrived(3, 3, "a"), history(4, 2), arrived(5, 5, "a")]);
    assert_eq!(told(&mut live).await.0, [3, 5]);
    for (after, times) in [([0; 16], vec![3, 5]), (history(1, 1).event.id, vec![2, 3, 2, 5]), (arrived(3, 3, "a").event.id, vec![5])] {
        let mut events = Subscription::begin(book.clone(), "", Some(after));
        assert_eq!(told(&mut events).await, (times, vec![]), "after {after:?}");
    }
}
