//! What is refused, and in which words.

use super::*;

/// What a definition is refused with; `None` if it is taken.
fn fault(definition: &ServiceDefinition) -> Option<Error> {
    validate::service(&options(Scripts::Disabled), definition, Source::Api).err()
}

fn options(scripts: Scripts) -> AgentOptions {
    let identity = crate::Identity {
        node_name: NODE.into(),
        node_id: "".into(),
        datacenter: "dc1".into(),
        address: "10.1.1.1".into(),
        server: true,
        server_port: 8300,
        wan_port: 0,
        raft_id: 1,
        expect: 1,
        version: "0.0.0",
    };
    AgentOptions { scripts, ..AgentOptions::new(identity, NodeInput { name: NODE.into(), ..Default::default() }) }
}

fn service(change: impl FnOnce(&mut ServiceInput)) -> ServiceDefinition {
    let mut definition = web();
    change(&mut definition.service);
    definition
}

fn check(definition: CheckDefinition) -> ServiceDefinition {
    with_checks([CheckRegistration { definition, ..Default::default() }])
}

#[test]
fn a_service_that_cannot_be_is_refused() {
    let tagged = |tag: &str, address: &str| {
        let address = state::ServiceAddress { address: address.into(), port: 1 };
        service(|service| drop(service.tagged_addresses.insert(tag.into(), address)))
    };
    let meta = |key: &str, value: &str| service(|service| drop(service.meta.insert(key.into(), value.into())));
    let weights = |passing, warning| service(|service| service.weights = state::Weights { passing, warning });
    for (definition, text) in [
        (ServiceDefinition::default(), "Missing service name"),
        (service(|service| service.address = "0.0.0.0".into()), "Invalid service address"),
        (service(|service| service.address = "::".into()), "Invalid service address"),
        (service(|service| service.port = 65_536), "Invalid service port: `65536`"),
        (service(|service| service.id = "consul".into()), "service ID `consul` is kept"),
        (tagged("lan_ipv4", "::1"), "Service tagged address \"lan_ipv4\" must be a valid ipv4 address"),
        (tagged("wan_ipv6", "10.0.0.1"), "Service tagged address \"wan_ipv6\" must be a valid ipv6 address"),
        (tagged("lan", "0.0.0.0"), "Service tagged address \"lan\" must not be"),
        (meta("", "v"), "the key is empty"),
        (meta("a.b", "v"), "pair `a.b`: the key may contain"),
        (meta("consul-x", "v"), "reserved"),
        (meta(&"k".repeat(129), "v"), "the key is longer than 128 characters"),
        (meta("k", &"v".repeat(513)), "the value is longer than 512 characters"),
        (weights(0, 1), "Invalid Weights"),
        (weights(1, 65_536), "Invalid Weights"),
    ] {
        let error = fault(&definition).unwrap_or_else(|| panic!("taken, but should be refused: {text}"));
        assert!(error.message.contains(text), "{} instead of {text}", error.message);
        assert_eq!(error.reason, Reason::InvalidArgument);
    }
    let crowded = service(|service| service.meta = (0..65).map(|n| (n.to_string().into(), "".into())).collect());
    assert!(fault(&crowded).unwrap().message.contains("65 pairs are more than the 64 allowed"));
}

#[test]
fn a_service_that_is_unusual_is_taken() {
    for definition in [
        service(|service| service.name = "under_score and spaces".into()),
        service(|service| service.port = 0),
        service(|service| service.address = "db.example.com".into()),
        service(|service| service.id = "".into()),
        service(|service| service.weights = state::Weights { passing: 65_535, warning: 0 }),
        service(|service| service.meta = (0..64).map(|n| (n.to_string().into(), "".into())).collect()),
    ] {
        assert!(fault(&definition).is_none(), "{definition:?}");
    }
}

#[test]
fn addresses_that_follow_from_a_literal_one_do_not_replace_those_given() {
    let own = state::ServiceAddress { address: "192.0.2.1".into(), port: 8080 };
    let definition = service(|service| drop(service.tagged_addresses.insert("wan_ipv4".into(), own.clone())));
    let (service, _) = validate::service(&options(Scripts::Disabled), &definition, Source::Api).unwrap();
    assert_eq!(service.row.tagged_addresses["wan_ipv4"], own);
    assert_eq!(&*service.row.tagged_addresses["lan_ipv4"].address, "10.2.2.2");
}

#[test]
fn the_rules_of_a_check_are_tested_in_their_order() {
    let http = Some(Str::from("http://x/"));
    let alias = Some(Str::from("other"));
    let (ms, none) = (Some(1000), CheckDefinition::default);
    for (definition, text) in [
        (
            CheckDefinition { http: http.clone(), interval_ms: ms, ttl_ms: ms, ..none() },
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            CheckDefinition { http: http.clone(), ..none() },
            "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (
            CheckDefinition { http: http.clone(), interval_ms: Some(0), ..none() },
            "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (
            CheckDefinition { alias_service: alias.clone(), interval_ms: ms, ..none() },
            "Invalid check: Interval cannot be set for Alias checks",
        ),
        (CheckDefinition { alias_service: alias, ttl_ms: ms, ..none() }, "Invalid check: TTL must be not be set for Alias checks"),
        (none(), "Invalid check: TTL must be > 0 for TTL checks"),
        (CheckDefinition { interval_ms: ms, ..none() }, "Invalid check: TTL must be > 0 for TTL checks"),
        (
            CheckDefinition { ttl_ms: ms, failures_before_warning: 2, failures_before_critical: 1, ..none() },
            "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
    ] {
        assert_eq!(fault(&check(definition)).unwrap().message, text);
    }
    for url in ["localhost:5000", "http://", "ftp://x/", "http://a b/"] {
        let error = fault(&check(CheckDefinition { http: Some(url.into()), interval_ms: ms, ..none() })).unwrap();
        assert!(error.message.contains(&format!("`{url}` is not a URL")), "{}", error.message);
    }
}

#[test]
fn kinds_that_cannot_be_run_here_are_named() {
    let ms = Some(1000);
    let script = CheckDefinition { script_args: vec!["true".into()], interval_ms: ms, ..Default::default() };
    let windows = CheckDefinition { os_service: Some("x".into()), interval_ms: ms, ..Default::default() };
    let asked = |definition: &CheckDefinition, scripts, source| {
        validate::service(&options(scripts), &check(definition.clone()), source).unwrap_err()
    };
    let error = asked(&windows, Scripts::Disabled, Source::Api);
    assert_eq!(error.reason, Reason::NotImplemented);
    assert!(error.message.contains("`os_service`"), "{}", error.message);
    assert_eq!(asked(&script, Scripts::Disabled, Source::Config).reason, Reason::ScriptsDisabled);
    assert_eq!(asked(&script, Scripts::Local, Source::Api).reason, Reason::ScriptsDisabled);
    for (scripts, source) in [(Scripts::Local, Source::Config), (Scripts::Enabled, Source::Api)] {
        assert!(validate::service(&options(scripts), &check(script.clone()), source).is_ok());
    }
    let tcp = CheckDefinition { tcp: Some("nowhere".into()), interval_ms: ms, ..Default::default() };
    let error = asked(&tcp, Scripts::Disabled, Source::Api);
    assert!(error.message.contains("`nowhere` is not of the form `host:port`"), "{}", error.message);
}

#[test]
fn times_that_are_too_short_are_raised() {
    let definition = CheckDefinition {
        http: Some("http://x/".into()),
        interval_ms: Some(10),
        deregister_critical_after_ms: Some(10),
        ..Default::default()
    };
    let (_, checks) = validate::service(&options(Scripts::Disabled), &check(definition), Source::Api).unwrap();
    assert_eq!((checks[0].row.interval_ms, checks[0].row.definition.deregister_critical_after_ms), (Some(1000), Some(1000)));
}

#[test]
fn checks_need_names_and_ids_of_their_own() {
    let twice = with_checks([CheckRegistration { id: "x".into(), ..ttl("") }, CheckRegistration { id: "x".into(), ..ttl("") }]);
    assert!(fault(&twice).unwrap().message.contains("id `x` is given to two checks"));
    let reserved = with_checks([CheckRegistration { id: "serfHealth".into(), ..ttl("") }]);
    assert!(fault(&reserved).unwrap().message.contains("`serfHealth` is kept"));
    let error = validate::check(&options(Scripts::Disabled), &ttl(""), Source::Api).unwrap_err();
    assert_eq!(error.message, "Missing check name");
}
