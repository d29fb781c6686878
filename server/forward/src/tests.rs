//! Servers that answer, hang and die, on a network and a clock that are made up.

mod carrying;
mod connections;
mod world;

use http_body_util::Empty;

use super::*;

fn request(hops: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().uri("/v1/kv/a?raw").header("connection", "close").header("x-consul-token", "t");
    if let Some(hops) = hops {
        request = request.header(HOPS, hops);
    }
    request.body(Empty::new().map_err(|never| match never {}).boxed_unsync()).unwrap()
}

#[test]
fn a_request_goes_as_it_came_but_for_its_connection() {
    let mut request = prepared(request(None)).unwrap();
    set_authority(&mut request, "10.0.0.1:8300");
    assert_eq!(request.uri().to_string(), "http://10.0.0.1:8300/v1/kv/a?raw");
    assert!(!request.headers().contains_key("connection"));
    assert_eq!((&request.headers()["x-consul-token"], &request.headers()[HOPS]), (&HeaderValue::from_static("t"), &HeaderValue::from(1)));
}

#[test]
fn a_request_comes_from_an_agent_to_another_datacenters_leader_and_does_not_go_round() {
    let mut carried = request(None);
    for _agent_then_server_then_server_there in 0..3 {
        carried = prepared(carried).unwrap();
    }
    assert!(matches!(prepared(carried), Err(Error::Loop)));
}

#[test]
fn whoever_is_further_away_from_the_answer_waits_longer() {
    let patience: Vec<_> = (1..=HOPS_MAX).map(|hop| patience_at(hop, ANSWER)).collect();
    assert!(patience.is_sorted_by(|outer, inner| *outer > *inner + Duration::from_secs(1)), "{patience:?}");
    assert_eq!(patience.last(), Some(&ANSWER));
}
