//! HCL and JSON, read and misread.

use proptest::prelude::*;

use super::*;

/// The tree without its lines, for comparison.
fn plain(fields: &[Field]) -> serde_json::Value {
    fn value(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Integer(n) => (*n).into(),
            Value::Float(n) => (*n).into(),
            Value::Text(s) => s.as_str().into(),
            Value::List(items) => items.iter().map(value).collect(),
            Value::Map(fields) => plain(fields),
        }
    }
    fields.iter().map(|field| (field.key.clone(), value(&field.value))).collect()
}

#[test]
fn hcl_and_json_say_the_same() {
    let hcl = r#"
        # a comment
        server = true        // another
        data_dir = "/var/lib/lictor"  /* and
        one more */
        ports { http = 8500, dns = -1 }
        dns_config { service_ttl { "*" = "10s", "web" = "0s" } }
        recursors = ["10.0.0.1", "10.0.0.2",]
        service "web" { port = 0x50 }
        rate = 1.5
    "#;
    let json = r#"{"server": true, "data_dir": "/var/lib/lictor", "ports": {"http": 8500, "dns": -1},
        "dns_config": {"service_ttl": {"*": "10s", "web": "0s"}}, "recursors": ["10.0.0.1", "10.0.0.2"],
        "service": {"web": {"port": 80}}, "rate": 1.5}"#;
    assert_eq!(plain(&parse(hcl).unwrap()), plain(&parse(json).unwrap()));
}

#[test]
fn every_key_knows_its_line() {
    let fields = parse("a = 1\n\nb {\n  c = \"x\"\n}\n").unwrap();
    assert_eq!((fields[0].line, fields[1].line), (1, 3));
    let Value::Map(inner) = &fields[1].value.value else { panic!("a block") };
    assert_eq!((inner[0].line, inner[0].value.line), (4, 4));
}

#[test]
fn strings_keep_their_characters() {
    let cases = [
        (r#"k = "a\tb\n\"q\" \\ \/""#, "a\tb\n\"q\" \\ /"),
        (r#"k = "é \u00e9 \ud83d\ude00""#, "é é \u{1f600}"),
        ("k = <<EOF\n one\n two\nEOF\n", " one\n two\n"),
        ("k = <<-EOF\n    one\n      two\n    EOF\n", "one\n  two\n"),
        (r#"k = "{{ GetInterfaceIP \"eth0\" }}""#, "{{ GetInterfaceIP \"eth0\" }}"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap()[0].value.value, Value::Text(expected.into()), "{text}");
    }
}

#[test]
fn mistakes_are_told_with_their_line() {
    let cases = [
        ("a = 1\nb = ", 2, "a value is expected"),
        ("a = 1\nb c\n", 2, "is missing after `b`"),
        ("a = yes", 1, "`yes` is not a value"),
        ("\na = \"open\n", 2, "closing quote"),
        ("a {\n b = 1\n", 3, "block that begins in line 1"),
        ("a = [1,\n", 2, "list that begins in line 1"),
        ("/* open\n", 1, "`*/`"),
        ("{\n \"a\": 1,\n}", 3, "not valid JSON"),
        ("a = <<EOF\nopen", 1, "`EOF`"),
        ("a = \"\\q\"", 1, "unknown escape"),
    ];
    for (text, line, part) in cases {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error:?}");
        assert!(error.message.contains(part), "{text}: {error:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(parse(&deep).unwrap_err().message.contains("deep"));
    let labels = format!("a {}", "\"b\" ".repeat(100_000));
    assert!(parse(&labels).is_err());
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text in "[a-c={}\\[\\]\",\\\\<>\n 0-9u/*#-]{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn json_reads_as_serde_reads_it(map in proptest::collection::btree_map(".{0,8}", ".{0,16}", 0..6)) {
        let text = serde_json::to_string(&map).unwrap();
        prop_assert_eq!(plain(&parse(&text).unwrap()), serde_json::to_value(&map).unwrap());
    }
}
