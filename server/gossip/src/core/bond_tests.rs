//! Who is let in where members have a tag in common.

use std::time::Duration;

use super::Core;
use crate::member::{Id, Record};
use crate::timing::Timing;

const NOW: Duration = Duration::ZERO;

/// A member that has the tag, if `cluster` is one.
fn core(number: u8, cluster: &str) -> Core {
    let tags = [("cluster", cluster)].into_iter().filter(|(_, value)| !value.is_empty());
    let me = Record {
        name: format!("m{number}").as_str().into(),
        node_id: format!("id{number}").as_str().into(),
        id: Id { address: ([10, 0, 0, number], 8301).into(), bump: 1 },
        version: 1,
        tags: tags.map(|(tag, value)| (tag.to_owned(), value.to_owned())).collect(),
        leaving: false,
        pruned: false,
    };
    let mut core = Core::new(me, Timing::lan(), "lan:dc1", None, 0, u64::from(number));
    core.set_bond("cluster");
    core
}

/// The first joins by way of the second; the refusal, from whichever side.
fn join(new: &mut Core, by: &mut Core) -> Option<String> {
    let asked = new.state(true);
    let refused = by.refuse(&asked);
    if refused.is_none() {
        by.merge(NOW, asked);
        new.merge(NOW, by.state(false));
    }
    refused
}

#[test]
fn a_server_with_another_clusters_data_is_let_in_by_nobody() {
    let (mut server, mut client, mut foreign, mut their_client) = (core(1, "a"), core(2, ""), core(7, "b"), core(8, ""));
    assert_eq!(join(&mut client, &mut server), None);
    assert_eq!(join(&mut their_client, &mut foreign), None);
    for by in [&mut server, &mut client] {
        let why = join(&mut foreign, by).expect("it is refused");
        assert!(why.contains("`m7` belongs to another cluster: `b`, and here is `a`"), "{why}");
        assert!(join(&mut their_client, by).is_some(), "nor is whoever is theirs");
        assert!(by.refuse_stranger(&foreign.state(false)).is_some(), "whoever asks");
    }
    assert_eq!(join(&mut core(9, ""), &mut client), None, "who has no data yet is");
    assert_eq!(join(&mut core(3, "a"), &mut client), None, "and who has ours");
}

#[test]
fn the_only_server_may_begin_anew() {
    let (mut server, mut client) = (core(1, "a"), core(2, ""));
    join(&mut client, &mut server);
    assert!(join(&mut core(7, "b"), &mut client).is_some());
    let mut anew = core(1, "b");
    anew.set_tags(NOW, [("cluster".to_owned(), "b".to_owned())].into()).unwrap();
    assert_eq!(anew.refuse_stranger(&client.state(true)), None, "whoever of the two calls");
    assert_eq!(join(&mut anew, &mut client), None, "its disk was replaced");
    assert_eq!(client.bond().as_deref(), Some("b"));
}

#[test]
fn servers_that_are_gone_bind_nobody_for_long() {
    let (mut server, mut client) = (core(1, "a"), core(2, ""));
    join(&mut client, &mut server);
    let down = foca::Member::down(server.state(false).from.id);
    let mut other = core(3, "");
    join(&mut other, &mut client);
    client.merge(NOW, crate::wire::State { probed: vec![down], ..other.state(false) });
    let shown = client.members().into_iter().find(|member| member.name == "m1").map(|member| member.status);
    assert_eq!(shown, Some(crate::Status::Failed));
    let mut new = core(7, "b");
    assert!(join(&mut new, &mut client).is_some(), "it may be back in a moment");
    client.tick(super::bond::KEPT);
    assert_eq!(client.refuse(&new.state(true)), None, "its servers were replaced");
    client.merge(super::bond::KEPT, new.state(true));
    assert_eq!(client.bond().as_deref(), Some("b"));
}

#[test]
fn who_has_no_value_goes_by_the_first_that_it_meets() {
    let (mut server, mut client) = (core(1, "b"), core(2, ""));
    join(&mut client, &mut server);
    let mut late = core(3, "");
    join(&mut late, &mut client);
    late.set_tags(NOW, [("cluster".to_owned(), "a".to_owned())].into()).unwrap();
    client.merge(NOW, late.state(false));
    assert_eq!(client.bond().as_deref(), Some("b"), "it has met that one first");
    assert_eq!(client.kinship(), Some(("cluster", "b".to_owned())));
}
