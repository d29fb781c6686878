//! Pools over real sockets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::{Key, KeyOperation, Keyring, NewEvent, Options, Pool, Sockets, Status, Timing};

pub(crate) fn options(name: &str) -> Options {
    Options {
        name: name.into(),
        node_id: format!("id-of-{name}"),
        advertise: "127.0.0.1:0".parse().unwrap(),
        tags: BTreeMap::from([("role".to_owned(), "node".to_owned())]),
        label: "lan:dc1".into(),
        bond: None,
        timing: Timing::local(),
        keyring: None,
        memory: None,
        keyring_file: None,
        rejoin_after_leave: false,
    }
}

pub(crate) async fn start(options: Options) -> Pool {
    let sockets = Sockets::bind(&net::Network::host(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    Pool::start(options, sockets).unwrap()
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} in time");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn status(pool: &Pool, name: &str) -> Option<Status> {
    pool.members().into_iter().find(|member| member.name == name).map(|member| member.status)
}

pub(crate) fn address(pool: &Pool) -> Vec<String> {
    vec![pool.address().to_string()]
}

#[tokio::test]
async fn who_joins_knows_everybody_at_once_and_is_known_by_all() {
    let (a, b, c) = (start(options("a")).await, start(options("b")).await, start(options("c")).await);
    assert_eq!(b.join(&address(&a)).await.joined, 1);
    assert_eq!(c.join(&address(&b)).await.joined, 1);
    assert_eq!(c.members().len(), 3, "known when the call returns");
    until("the others learn of it", || a.members().len() == 3).await;
    assert!(a.members().iter().all(|member| member.status == Status::Alive && member.tags["role"] == "node"));
    a.set_tags(BTreeMap::from([("version".into(), "2".into())])).unwrap();
    until("tags spread", || c.members().iter().any(|member| member.name == "a" && member.tags.contains_key("version"))).await;
}

#[tokio::test]
async fn a_member_that_stops_fails_and_one_that_leaves_has_left() {
    let (a, b, c) = (start(options("a")).await, start(options("b")).await, start(options("c")).await);
    for pool in [&b, &c] {
        assert_eq!(pool.join(&address(&a)).await, crate::JoinReport { joined: 1, ..crate::JoinReport::default() });
    }
    until("all see all", || [&a, &b, &c].iter().all(|pool| pool.members().len() == 3)).await;
    b.leave().await;
    until("it has left", || status(&a, "b") == Some(Status::Left) && status(&c, "b") == Some(Status::Left)).await;
    c.stop().await;
    until("it has failed", || status(&a, "c") == Some(Status::Failed)).await;
    assert!(a.force_leave("nobody", false).is_err());
    a.force_leave("c", false).unwrap();
    until("it is told to be gone", || status(&a, "c") == Some(Status::Left)).await;
    a.force_leave("c", true).unwrap();
    until("it is forgotten", || status(&a, "c").is_none()).await;
}

#[tokio::test]
async fn a_name_or_a_node_id_of_a_living_member_is_not_given_twice() {
    let a = start(options("a")).await;
    let twin = start(Options { node_id: "another".into(), ..options("a") }).await;
    let report = twin.join(&address(&a)).await;
    assert!(report.failed[0].1.contains("the name `a` belongs to a living node"), "{report:?}");
    let copy = start(Options { node_id: "id-of-a".into(), ..options("b") }).await;
    let report = copy.join(&address(&a)).await;
    assert!(report.failed[0].1.contains("the node id id-of-a belongs to the living node `a`"), "{report:?}");
    assert_eq!(a.members().len(), 1);
}

#[tokio::test]
async fn who_advertises_the_address_of_a_living_member_is_told_so_by_it_and_by_the_others() {
    let (a, b) = (start(options("a")).await, start(options("b")).await);
    assert_eq!(b.join(&address(&a)).await.joined, 1);
    until("they see each other", || a.members().len() == 2).await;
    let intruder = start(Options { advertise: a.address(), ..options("c") }).await;
    for by in [&a, &b] {
        let report = intruder.join(&address(by)).await;
        let told = report.failed.iter().any(|(_, why)| why.contains(&format!("{} belongs to the living node `a`", a.address())));
        assert!(told && report.joined == 0 && report.own.is_empty(), "{report:?}");
    }
    assert_eq!((status(&b, "a"), status(&b, "c")), (Some(Status::Alive), None));
    // A node that was renamed is the same one, and takes its place at once.
    let place = a.address();
    a.stop().await;
    drop(a);
    let sockets = Sockets::bind(&net::Network::host(), place).await.unwrap();
    let renamed = Pool::start(Options { node_id: "id-of-a".into(), advertise: place, ..options("d") }, sockets).unwrap();
    assert_eq!(renamed.join(&address(&b)).await.joined, 1);
    until("it has left its old name", || status(&b, "a") == Some(Status::Left) && status(&b, "d") == Some(Status::Alive)).await;
}

#[tokio::test]
async fn a_node_that_comes_back_with_an_empty_disk_takes_its_place_and_living_ones_elsewhere_keep_theirs() {
    let (a, b, c) = (start(options("a")).await, start(options("b")).await, start(options("c")).await);
    for pool in [&b, &c] {
        assert_eq!(pool.join(&address(&a)).await.joined, 1);
    }
    until("all see all", || [&a, &b, &c].iter().all(|pool| pool.members().len() == 3)).await;
    let place = b.address();
    b.stop().await;
    drop(b);
    let sockets = Sockets::bind(&net::Network::host(), place).await.unwrap();
    let fresh = Options { node_id: "another".into(), advertise: place, ..options("b") };
    let b = Pool::start(fresh, sockets).unwrap();
    let report = b.join(&address(&a)).await;
    assert_eq!(report.joined, 1, "it is let in before anybody has missed it: {report:?}");
    let known = |pool: &Pool| {
        let members = pool.members().into_iter();
        members.filter(|member| member.name == "b" && member.status == Status::Alive).map(|member| member.node_id).collect::<Vec<_>>()
    };
    until("everybody knows it as what it is now", || [&a, &b, &c].iter().all(|pool| known(pool) == ["another"])).await;
    let twin = start(Options { node_id: "a third".into(), ..options("b") }).await;
    let report = twin.join(&address(&a)).await;
    assert!(report.failed[0].1.contains(&format!("the name `b` belongs to a living node at {place}")), "{report:?}");
}

#[tokio::test]
async fn another_pool_and_nobody_are_refused_with_the_reason() {
    let a = start(options("a")).await;
    let stranger = start(Options { label: "lan:dc2".into(), ..options("b") }).await;
    let report = stranger.join(&address(&a)).await;
    assert!(report.failed[0].1.contains("this is the pool `lan:dc1`"), "{report:?}");
    let report = stranger.join(&["127.0.0.1:1".to_owned()]).await;
    assert_eq!((report.joined, report.failed.len()), (0, 1));
    let sealed = start(Options { keyring: Some(Keyring::new(Key::generate())), ..options("c") }).await;
    let report = sealed.join(&address(&a)).await;
    assert!(report.failed[0].1.contains("not sealed"), "{report:?}");
    let report = a.join(&address(&sealed)).await;
    assert!(report.failed[0].1.contains("none of its keys"), "{report:?}");
}

#[tokio::test]
async fn an_event_reaches_every_member_once() {
    let pools = [start(options("a")).await, start(options("b")).await, start(options("c")).await];
    let mut listeners: Vec<_> = pools.iter().map(Pool::subscribe).collect();
    for pool in &pools[1..] {
        pool.join(&address(&pools[0])).await;
    }
    until("all see all", || pools.iter().all(|pool| pool.members().len() == 3)).await;
    let first = pools[1].fire(NewEvent { name: "deploy".into(), payload: b"42".to_vec(), ..NewEvent::default() }).unwrap();
    for listener in &mut listeners {
        let event = tokio::time::timeout(Duration::from_secs(10), listener.next()).await.unwrap();
        assert_eq!(*event, first);
    }
    let second = pools[2].fire(NewEvent { name: "again".into(), ..NewEvent::default() }).unwrap();
    assert!(second.ltime > first.ltime, "fired after the first was seen");
    for listener in &mut listeners {
        let event = tokio::time::timeout(Duration::from_secs(10), listener.next()).await.unwrap();
        assert_eq!(event.name, "again", "the first one came once");
    }
    let late = start(options("d")).await;
    late.join(&address(&pools[0])).await;
    let found = late.events_since(0);
    assert_eq!((found.events.len(), found.last, found.missed), (2, 2, 0), "who comes late finds them");
    assert!(found.events.iter().all(|event| !event.news), "and does not act on them");
}

#[tokio::test]
async fn keys_are_changed_on_every_member() {
    let old = Key::generate();
    let dir = TempDir::new().unwrap();
    let sealed =
        |name: &str| Options { keyring: Some(Keyring::new(old.clone())), keyring_file: Some(dir.path().join(name)), ..options(name) };
    let (a, b) = (start(sealed("a")).await, start(sealed("b")).await);
    assert_eq!(b.join(&address(&a)).await.joined, 1);
    let new = Key::generate();
    for operation in [KeyOperation::Install(new.clone()), KeyOperation::Use(new.clone()), KeyOperation::Remove(old.clone())] {
        let answers = a.keys(operation).await.unwrap();
        assert!(answers.len() == 2 && answers.values().all(Result::is_ok), "{answers:?}");
    }
    let answers = b.keys(KeyOperation::List).await.unwrap();
    assert!(answers.values().all(|keys| keys.as_ref().unwrap() == std::slice::from_ref(&new)), "{answers:?}");
    let kept: Vec<String> = serde_json::from_slice(&std::fs::read(dir.path().join("b")).unwrap()).unwrap();
    assert_eq!(kept, [new.to_base64()]);
    assert!(start(options("c")).await.keys(KeyOperation::List).await.is_err());
}

#[tokio::test]
async fn a_restarted_member_finds_the_others_by_itself() {
    let dir = TempDir::new().unwrap();
    let remembering = Options { memory: Some(dir.path().join("local.snapshot")), ..options("b") };
    let a = start(options("a")).await;
    let b = start(remembering.clone()).await;
    b.join(&address(&a)).await;
    b.fire(NewEvent { name: "x".into(), ..NewEvent::default() }).unwrap();
    b.stop().await;
    let b = start(remembering.clone()).await;
    until("it is back", || b.members().len() == 2 && status(&a, "b") == Some(Status::Alive)).await;
    assert_eq!(b.fire(NewEvent { name: "y".into(), ..NewEvent::default() }).unwrap().ltime, 2, "the clock went on");
    b.leave().await;
    let b = start(remembering).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(b.members().len(), 1, "who has left in good order stays away");
}

#[tokio::test]
async fn a_member_that_has_lost_everybody_finds_them_after_any_number_of_starts() {
    let dir = TempDir::new().unwrap();
    let remembering = Options { memory: Some(dir.path().join("local.snapshot")), ..options("b") };
    let (a, b) = (start(options("a")).await, start(remembering.clone()).await);
    b.join(&address(&a)).await;
    let place = a.address();
    a.stop().await;
    drop(a);
    until("it has failed", || status(&b, "a") == Some(Status::Failed)).await;
    b.stop().await;
    for _ in 0..2 {
        // Nobody is there who could be found.
        start(remembering.clone()).await.stop().await;
    }
    let sockets = Sockets::bind(&net::Network::host(), place).await.unwrap();
    let a = Pool::start(Options { advertise: place, ..options("a") }, sockets).unwrap();
    let b = start(remembering).await;
    until("they are together again", || status(&b, "a") == Some(Status::Alive) && status(&a, "b") == Some(Status::Alive)).await;
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let (a, b) = (start(options("a")).await, start(options("b")).await);
    b.join(&address(&a)).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let good = crate::wire::wrap(crate::wire::digest("lan:dc1"), None, crate::wire::Kind::Datagram, b"\xff\xff\xff\xff nonsense");
    for garbage in [&b""[..], b"L", b"GET / HTTP/1.1\r\n", &good, &vec![0x4c; 60_000]] {
        let _ = socket.send_to(garbage, a.address()).await;
        let mut stream = tokio::net::TcpStream::connect(a.address()).await.unwrap();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &[&u32::MAX.to_be_bytes()[..], garbage].concat()).await;
    }
    let c = start(options("c")).await;
    assert_eq!(c.join(&address(&a)).await.joined, 1);
    until("everybody is there", || a.members().iter().filter(|member| member.status == Status::Alive).count() == 3).await;
}
