use std::sync::Arc;

use proptest::prelude::*;
use state::{Check, Instance, Node, Service, Status, Str};

use super::{Filter, Selectable, ServiceNode};

fn instance() -> Instance {
    let pair = |key: &str, value: &str| (Str::from(key), Str::from(value));
    let node = Node {
        id: "abc".into(),
        name: "web-1".into(),
        address: "10.0.0.1".into(),
        meta: [pair("rack", "r1"), pair("a.b", "dotted")].into(),
        ..Default::default()
    };
    let service = Service {
        id: "api-1".into(),
        name: "api".into(),
        tags: vec!["v2".into(), "blue".into()],
        port: 8080,
        meta: [pair("env", "prod")].into(),
        enable_tag_override: true,
        ..Default::default()
    };
    let check = |id: &str, status| Arc::new(Check { id: id.into(), status, ..Default::default() });
    Instance::new(Arc::new(node), Arc::new(service), vec![check("a", Status::Passing), check("b", Status::Critical)])
}

fn health(text: &str) -> bool {
    Filter::compile::<Instance>(text).unwrap().matches(&instance())
}

fn refusal<T: Selectable>(text: &str) -> String {
    Filter::compile::<T>(text).unwrap_err().message
}

#[test]
fn every_operator_says_yes_and_no() {
    for text in [
        "Service.Service == api",
        "Service.Service == `api`",
        "Service.ID != other",
        "Service.Port == 8080",
        "Service.Port != 80",
        "Service.EnableTagOverride == true",
        "Service.Weights.Passing == 1",
        "v2 in Service.Tags",
        "Service.Tags contains \"blue\"",
        "green not in Service.Tags",
        "Service.Tags not contains green",
        "Service.Tags is not empty",
        "Service.Kind is empty",
        "env in Service.Meta",
        "Service.Meta.env == prod",
        "Service.Meta[\"env\"] == prod",
        "Node.Meta[\"a.b\"] == dotted",
        "Service.Meta.gone != x",
        "Service.Meta.gone is empty",
        "Node.Node matches \"^web-[0-9]+$\"",
        "Node.Node not matches `^db`",
        "Checks.Status == critical",
        "Checks is not empty",
        "\"10.0\" in Node.Address",
    ] {
        assert!(health(text), "{text}");
        assert!(!health(&format!("not ({text})")), "not ({text})");
    }
}

#[test]
fn not_binds_closer_than_and_closer_than_or() {
    assert!(health("Service.Port == 1 and Service.Port == 2 or Service.Port == 8080"));
    assert!(health("not Service.Port == 1 and Service.Port == 8080"));
    assert!(!health("not (Service.Port == 1 or Service.Port == 8080)"));
    assert!(!health("(Service.Port == 8080 or Service.Port == 1) and Service.Port == 1"));
}

#[test]
fn the_catalog_names_the_same_fields_flat() {
    let row = instance();
    let matches = |text: &str| Filter::compile::<ServiceNode<'_>>(text).unwrap().matches(&ServiceNode(&row));
    assert!(matches("ServiceName == api and v2 in ServiceTags and ServicePort == 8080"));
    assert!(matches("NodeMeta.rack == r1 and ServiceMeta.env == prod and Node == \"web-1\""));
    assert!(!matches("ServiceID == api"));
}

#[test]
fn an_unknown_selector_is_named_before_any_row_is_seen() {
    assert_eq!(refusal::<Instance>("Foo == 1"), "Selector \"Foo\" is not valid");
    assert_eq!(refusal::<Instance>("Checks.Foo == 1"), "Selector \"Checks.Foo\" is not valid");
    assert_eq!(refusal::<Node>("Meta.a.b == 1"), "Selector \"Meta.a.b\" is not valid");
    assert_eq!(refusal::<Check>("status == passing"), "Selector \"status\" is not valid");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    assert!(refusal::<Service>("Port == abc").contains("a number"));
    assert!(refusal::<Service>("Tags == v1").contains("a list of texts"));
    assert!(refusal::<Service>("Port contains 1").contains("a number"));
    assert!(refusal::<Service>("EnableTagOverride == maybe").contains("true or false"));
    assert!(refusal::<Service>("Service matches \"(\"").contains("regular expression"));
}

#[test]
fn malformed_expressions_say_where() {
    for text in ["", "Foo", "Foo ==", "(Foo == a", "Foo == a b", "Foo == \"a", "== a", "Foo is full", "Foo == a and", "1.2.3 in Foo"] {
        assert!(Filter::parse(text).is_err(), "{text}");
    }
    assert_eq!(Filter::parse("Foo == a b").unwrap_err().message, "column 10: found `b` where `and`, `or` or the end is expected");
}

#[test]
fn nesting_length_and_number_of_conditions_are_bounded() {
    assert!(Filter::parse(&format!("{}A == b{}", "(".repeat(10_000), ")".repeat(10_000))).is_err());
    assert!(Filter::parse(&format!("{}A == b{}", "(".repeat(33), ")".repeat(33))).is_err());
    assert!(Filter::parse(&format!("{}A == b{}", "(".repeat(32), ")".repeat(32))).is_ok());
    assert!(Filter::parse(&"not ".repeat(33).to_string()).is_err());
    assert!(Filter::parse(&vec!["A == b"; 129].join(" or ")).is_err());
    assert!(Filter::parse(&vec!["A == b"; 128].join(" or ")).is_ok());
}

fn expressions() -> impl Strategy<Value = String> {
    let selector = "[A-Z][a-z_]{0,5}(\\.[A-Z][a-z]{0,4}|\\[\"[ -!#-\\[\\]-~]{0,6}\"\\]){0,2}";
    let value = "\"[ !#-\\[\\]-~é\n]{0,8}\"|[a-z]{1,6}[0-9]|-?[0-9]{1,4}(\\.[0-9]{1,2})?|`[^`]{0,8}`";
    let operator = prop::sample::select(vec!["==", "!=", "contains", "not contains"]);
    let leaf = prop_oneof![
        (selector, operator, value).prop_map(|(selector, operator, value)| format!("{selector} {operator} {value}")),
        (value, selector).prop_map(|(value, selector)| format!("{value} in {selector}")),
        selector.prop_map(|selector| format!("{selector} is not empty")),
        selector.prop_map(|selector| format!("{selector} matches \"^a+\"")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} and {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or {b}")),
            inner.clone().prop_map(|a| format!("not ({a})")),
            inner.prop_map(|a| format!("not {a}")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_but_never_breaks(text in "\\PC{0,60}") {
        let _ = Filter::compile::<Instance>(&text);
    }

    #[test]
    fn texts_of_the_languages_own_pieces_never_break(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "(", ")", "not", "and", "or", "in", "is", "empty", "==", "!=", "A", "\"x", "\"y\"", "`", "[", "]", ".", "-", "1", "matches", "\\u12",
        ]), 0..20),
    ) {
        let _ = Filter::parse(&pieces.join(" "));
        let _ = Filter::parse(&pieces.concat());
    }

    #[test]
    fn printing_reads_back_as_the_same(text in expressions()) {
        let filter = Filter::parse(&text).unwrap();
        let printed = filter.to_string();
        prop_assert_eq!(Filter::parse(&printed).unwrap(), filter, "{}", printed);
    }
}
