//! The configuration as operators write it.

use std::fs;
use std::path::Path;

use super::*;

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn dev() -> AgentFlags {
    AgentFlags { dev: Some(true), node: Some("n1".into()), ..AgentFlags::default() }
}

fn hcl(text: &str) -> Result<Config, ConfigError> {
    Config::load(&AgentFlags { hcl: vec![text.into()], ..dev() })
}

#[test]
fn dev_needs_nothing_else() {
    let config = Config::load(&dev()).unwrap();
    assert!(config.dev && config.server && config.data_dir.is_none());
    assert_eq!(config.bind_addr.to_string(), "127.0.0.1");
    assert_eq!(config.advertise_addr.to_string(), "127.0.0.1");
    assert_eq!(config.listen.http, ["127.0.0.1:8500".parse().unwrap()]);
    assert_eq!(config.listen.grpc, ["127.0.0.1:8502".parse().unwrap()]);
    assert_eq!(config.listen.dns, ["127.0.0.1:8600".parse().unwrap()]);
    assert_eq!((config.datacenter.as_str(), config.dns.domain.as_str()), ("dc1", "consul"));
    assert_eq!(config.warnings, [] as [&str; 0]);
}

#[test]
fn later_sources_count_over_earlier_ones() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("conf.d");
    fs::create_dir(&directory).unwrap();
    let first = file(
        home.path(),
        "first.hcl",
        "datacenter = \"a\"\nrecursors = [\"10.0.0.2\"]\nnode_meta { x = 1, y = 1 }\nports { http = 1, dns = 1 }",
    );
    file(&directory, "b.json", r#"{"datacenter": "c", "recursors": ["10.0.0.4"], "node_meta": {"y": "3"}}"#);
    file(&directory, "a.hcl", "datacenter = \"b\"\nrecursors = [\"10.0.0.3\"]\nnode_meta { y = 2 }\nports { http = 2 }");
    file(&directory, "notes.txt", "not configuration");
    let flags = AgentFlags {
        config_paths: vec![first, directory],
        recursor: vec!["10.0.0.1".into()],
        http_port: Some(3),
        node_meta: vec!["z:4:5".into()],
        hcl: vec!["log_level = \"warn\"".into(), "log_level = \"ERR\"".into()],
        ..dev()
    };
    let config = Config::load(&flags).unwrap();
    assert_eq!(config.datacenter, "c");
    let recursors: Vec<String> = config.dns.recursors.iter().map(|place| place.ip().to_string()).collect();
    assert_eq!(recursors, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    let meta: Vec<(&str, &str)> = config.node_meta.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(meta, [("x", "1"), ("y", "3"), ("z", "4:5")]);
    assert_eq!((config.listen.http[0].port(), config.listen.dns[0].port()), (3, 1));
    assert_eq!(config.log.level, LogLevel::Error);
    assert!(config.warnings.iter().any(|warning| warning.contains("notes.txt")), "{:?}", config.warnings);
}

#[test]
fn every_foundation_key_is_read() {
    let config = hcl(r#"
        server = true  bootstrap_expect = 1  datacenter = "DC-9"  node_id = "8F5A7C0E-2d3b-4c1a-9e6f-0123456789ab"
        bind_addr = "127.0.0.1"  advertise_addr = "10.0.0.9"  client_addr = "127.0.0.1 ::1"
        addresses { dns = "127.0.0.2" }  ports { http = 0, grpc = -1, server = -1 }
        log_json = true  log_file = "/tmp/x.log"  pid_file = "/tmp/x.pid"  domain = "Example."  alt_domain = "lictor."
        dns_config { node_ttl = "5s" service_ttl { "*" = "1s", "web*" = "2s" } only_passing = true udp_answer_limit = 5
                     recursor_strategy = "random" soa { min_ttl = 30 } }
        default_query_time = "10s"  max_query_time = "20s"
        limits { kv_max_value_size = 1048576  txn_max_req_len = 2048  http_max_conns_per_client = 7 }
        watch_history { changes_max = 10  bytes_max = 1000 }
        http_config { response_headers { "X-Frame-Options" = "DENY" } }
        telemetry { metrics_prefix = "consul" }
        service { name = "web" port = 80 }  checks = [{ name = "disk", ttl = "1m" }]
        disable_update_check = true
    "#)
    .unwrap();
    assert_eq!((config.datacenter.as_str(), config.node_id.as_deref()), ("dc-9", Some("8f5a7c0e-2d3b-4c1a-9e6f-0123456789ab")));
    assert_eq!(config.listen.http, ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    assert_eq!((config.listen.grpc.len(), config.listen.server), (0, None));
    assert_eq!(config.listen.dns, ["127.0.0.2:8600".parse().unwrap()]);
    assert_eq!((config.dns.domain.as_str(), config.dns.alt_domain.as_deref()), ("example", Some("lictor")));
    assert_eq!((config.dns.service_ttl["web*"].as_secs(), config.dns.soa_min_ttl.as_secs(), config.dns.recursor_random), (2, 30, true));
    assert_eq!(
        (config.limits.kv_max_value_size, config.limits.txn_max_req_len, config.limits.http_max_conns_per_client),
        (1_048_576, 2048, 7)
    );
    assert_eq!((config.watch_history.changes_max, config.watch_history.bytes_max), (10, 1000));
    assert_eq!(config.http.response_headers["X-Frame-Options"], "DENY");
    assert_eq!((config.services.len(), config.checks.len()), (1, 1));
}

#[test]
fn mistakes_say_what_and_what_to_do() {
    let cases = [
        ("prots { http = 1 }", "-hcl fragment 1:1: unknown key `prots`; did you mean `ports`?"),
        ("\nports {\n htp = 1 }", "-hcl fragment 1:3: unknown key `ports.htp`; did you mean `ports.http`?"),
        ("acl { enabled = true }", "`acl` is not part of this version; remove it"),
        ("encrypt = \"abc\"", "a key is 16, 24 or 32 bytes in base64"),
        ("encrypt = \"AAAA\"", "this one has 3; make one with `lictor keygen`"),
        ("retry_join = [\"provider=aws\"]", "`provider=aws` is no address to join"),
        ("limits { request_limits { mode = \"enforcing\" } }", "`limits.request_limits` is not part of this version"),
        ("server = false\nbootstrap = true", "are for servers; add `-server`"),
        ("server = false\nbootstrap = false\nretry_join_wan = [\"10.0.0.1\"]", "only servers take part in the pool between datacenters"),
        ("bootstrap = true\nbootstrap_expect = 3", "`bootstrap` begins a cluster alone and `bootstrap_expect` with others"),
        ("bootstrap_expect = -1\nbootstrap = false", "`bootstrap_expect` is a number of servers, not `-1`"),
        ("datacenter = \"a b\"", "`datacenter` must be"),
        ("node_name = \"a b\"", "the node name `a b`"),
        ("node_id = \"x\"", "`node_id` is a UUID"),
        ("bind_addr = \"{{ GetInterfaceIP \\\"none0\\\" }}\"", "fits no address of this machine"),
        ("advertise_addr_wan = \"{{ GetNothing }}\"", "`GetNothing` is no source of addresses"),
        ("client_addr = \"unix:///x\"", "Unix sockets are not part of this version"),
        ("advertise_addr = \"0.0.0.0\"", "cannot be a wildcard"),
        ("ports { http = 70000 }", "`ports.http` is a port from 0 to 65535, or -1"),
        ("ports { https = 8501 }", "TLS is not part of this version"),
        ("ports { http = 9, grpc = 9 }", "`ports.http` and `ports.grpc` are both 9"),
        ("log_level = \"loud\"", "unknown log level `loud`"),
        ("domain = \"a..b\"", "`domain` is a DNS name"),
        ("max_query_time = \"1s\"", "`max_query_time` must not be shorter"),
        ("node_meta { \"consul-x\" = \"1\" }", "kept for the system"),
        ("a = ", "-hcl fragment 1:1: a value is expected"),
    ];
    for (text, part) in cases {
        let error = hcl(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = hcl("quux = 1\ndatacenter = \"!\"\nlog_level = \"loud\"").unwrap_err();
    assert_eq!(error.0.len(), 3, "{error}");
}

#[test]
fn a_durable_server_needs_a_directory() {
    let flags = AgentFlags {
        server: Some(true),
        bootstrap_expect: Some(1),
        bind: Some("127.0.0.1".into()),
        node: Some("n".into()),
        ..AgentFlags::default()
    };
    let error = Config::load(&flags).unwrap_err().to_string();
    assert!(error.contains("add `-data-dir=DIR`"), "{error}");
    let config = Config::load(&AgentFlags { data_dir: Some("/d".into()), ..flags.clone() }).unwrap();
    assert_eq!(config.data_dir, Some("/d".into()));
    let waiting = Config::load(&AgentFlags { bootstrap_expect: None, data_dir: Some("/d".into()), ..flags }).unwrap();
    assert_eq!(waiting.bootstrap_expect, 0, "it waits to be taken into a quorum");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let home = tempfile::tempdir().unwrap();
    let odd = file(home.path(), "agent.conf", "datacenter = \"x\"");
    for (path, part) in
        [(home.path().join("none.hcl"), "cannot read configuration"), (odd.clone(), "ends neither in `.hcl` nor in `.json`")]
    {
        let error = Config::load(&AgentFlags { config_paths: vec![path], ..dev() }).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let forced = AgentFlags { config_paths: vec![odd], config_format: Some("hcl".into()), ..dev() };
    assert_eq!(Config::load(&forced).unwrap().datacenter, "x");
}

#[test]
fn harmless_keys_of_consul_only_warn() {
    let config = hcl("ui_config { enabled = true }\nenable_debug = true\nautopilot { redundancy_zone_tag = \"z\" }").unwrap();
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
    assert!(hcl("acl { enabled = false }\nconnect { enabled = false }\nverify_incoming = false").unwrap().warnings.is_empty());
}

#[test]
fn servers_are_looked_after_as_the_files_say() {
    assert_eq!(hcl("").unwrap().autopilot, None);
    let config =
        hcl("autopilot {\n last_contact_threshold = \"1s\"\n min_quorum = 3\n}\nautopilot { cleanup_dead_servers = false }").unwrap();
    let expected = Autopilot { last_contact_threshold_ms: 1000, min_quorum: 3, cleanup_dead_servers: false, ..Autopilot::default() };
    assert_eq!(config.autopilot, Some(expected));
    assert_eq!(config.warnings, [] as [&str; 0]);
    for (wrong, key) in [
        ("cleanup_dead_servers = \"perhaps\"", "cleanup_dead_servers"),
        ("last_contact_threshold = \"0s\"", "last_contact_threshold"),
        ("last_contact_threshold = \"25h\"", "last_contact_threshold"),
        ("max_trailing_logs = -1", "max_trailing_logs"),
        ("min_quorum = -1", "min_quorum"),
        ("server_stabilization_time = 10", "server_stabilization_time"),
        ("server_stabilisation_time = \"10s\"", "server_stabilisation_time"),
    ] {
        let error = hcl(&format!("autopilot {{\n {wrong}\n}}")).unwrap_err();
        let field = format!("autopilot.{key}");
        let named = error.0.iter().find(|mistake| mistake.place.as_ref().is_some_and(|place| place.line == 2));
        assert!(named.is_some_and(|mistake| mistake.to_string().contains(&field)), "{error}");
    }
}

#[test]
fn addresses_may_be_templates() {
    let config = hcl(r#"
        client_addr = "{{ GetAllInterfaces | include \"flags\" \"loopback\" | include \"type\" \"IPv4\" | attr \"address\" }} ::1"
        serf_lan = "127.0.0.2"  serf_wan = "127.0.0.3"  advertise_addr_wan = "203.0.113.9"  advertise_addr_ipv6 = "fd00::9"
        retry_join = ["{{ GetAllInterfaces | include \"name\" \"^lo$\" | include \"type\" \"IPv4\" | attr \"address\" }}:8301"]
    "#)
    .unwrap();
    assert_eq!(config.listen.http, ["127.0.0.1:8500".parse().unwrap(), "[::1]:8500".parse().unwrap()]);
    assert_eq!((config.listen.serf_lan, config.listen.serf_wan), ("127.0.0.2:8301".parse().ok(), "127.0.0.3:8302".parse().ok()));
    let Advertise { wan, lan_ipv4, lan_ipv6, wan_ipv4, wan_ipv6 } = config.advertise;
    assert_eq!((wan.to_string().as_str(), wan_ipv4, wan_ipv6), ("203.0.113.9", Some(wan), lan_ipv6));
    assert_eq!((lan_ipv4, lan_ipv6), (Some(config.advertise_addr), "fd00::9".parse().ok()));
    assert_eq!(config.cluster.retry_join, ["127.0.0.1:8301"]);
}

#[test]
fn a_mistake_is_told_with_file_line_and_key() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a.hcl", "datacenter = \"ok\"\n\nlimits {\n  kv_max_value_size = 0\n}\nservice {\n  prot = 1\n}\n");
    let name = path.display().to_string();
    let error = Config::load(&AgentFlags { config_paths: vec![path], ..dev() }).unwrap_err();
    let places: Vec<_> = error.0.iter().map(|mistake| (mistake.place.clone(), mistake.field.as_deref())).collect();
    let at = |line| Some(Place { file: name.clone(), line });
    assert!(places.contains(&(at(7), Some("service.prot"))), "{error}");
    assert!(places.contains(&(at(7), None)), "the service needs a name: {error}");
    assert!(places.contains(&(at(4), Some("limits.kv_max_value_size"))), "{error}");
}

#[test]
fn definitions_that_cannot_be_registered_are_told_with_their_place() {
    let cases = [
        (
            "service {\n name = \"web\"\n check {\n tcp = \"nowhere\"\n interval = \"1s\"\n }\n}",
            ":2: service `web`: Invalid check: `nowhere`",
        ),
        ("\n\ncheck {\n name = \"c\"\n}", ":4: check `c`: Invalid check: TTL must be > 0 for TTL checks"),
        (
            "check {\n name = \"c\"\n ttl = \"1s\"\n tcp = \"h:1\"\n interval = \"1s\"\n}",
            ":2: check `c`: Invalid check: Interval and TTL cannot both",
        ),
        ("check {\n name = \"c\"\n args = [\"true\"]\n interval = \"1s\"\n}", ":2: check `c`: Scripts are disabled"),
        (
            "service {\n name = \"web\"\n}\nservice {\n name = \"web\"\n}",
            ":5: the service id `web` is taken: it is defined in -hcl fragment 1:2 already",
        ),
        (
            "service {\n name = \"web\"\n check {\n ttl = \"1s\"\n }\n}\ncheck {\n id = \"service:web\"\n name = \"x\"\n ttl = \"1s\"\n}",
            ":8: the check id `service:web` is taken",
        ),
    ];
    for (text, part) in cases {
        let error = hcl(text).unwrap_err().to_string();
        assert!(error.contains(&format!("-hcl fragment 1{part}")), "{text}: {error}");
    }
}
