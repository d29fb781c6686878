//! Watches as files define them: `watches = [ … ]`.

use std::collections::BTreeMap;
use std::time::Duration;

use state::{CheckDefinition, Str};

use crate::config::read::Reader;
use crate::watches::handler::{Action, HANDLER_TIMEOUT};
use crate::watches::{Asked, Watch};

/// Takes all watches of a file.
pub(crate) fn read(keys: &mut Reader<'_>, watches: &mut Vec<Watch>) {
    keys.sections("watches", &[], |keys| watches.extend(watch(keys)));
}

/// One watch; `None` when it is unusable, which has been said then.
fn watch(keys: &mut Reader<'_>) -> Option<Watch> {
    let text = |keys: &mut Reader<'_>, key| keys.text(key).unwrap_or_default();
    let asked = Asked {
        kind: text(keys, "type"),
        key: text(keys, "key"),
        prefix: text(keys, "prefix"),
        service: text(keys, "service"),
        tags: keys.texts("tag"),
        passing_only: keys.flag("passingonly").unwrap_or(false),
        state: text(keys, "state"),
        name: text(keys, "name"),
    };
    let (datacenter, token) = (text(keys, "datacenter"), keys.text("token"));
    let timeout = keys.duration("timeout").filter(|length| !length.is_zero()).unwrap_or(HANDLER_TIMEOUT);
    let action = action(keys);
    if let Err(problem) = asked.subject() {
        keys.refuse(&problem);
        return None;
    }
    Some(Watch { asked, datacenter, token, action: action?, timeout })
}

/// What is done about a change.
fn action(keys: &mut Reader<'_>) -> Option<Action> {
    let (kind, args, line) = (keys.text("handler_type"), keys.texts("args"), keys.text("handler"));
    let mut http = None;
    keys.sections("http_handler_config", &[], |keys| http = Some(request(keys)));
    let kind = kind.unwrap_or_else(|| if http.is_some() { "http" } else { "script" }.into());
    let problem = match (kind.as_str(), args.is_empty(), line, http) {
        ("script", false, None, None) => return Some(Action::Script { args, shell: false, quiet: true }),
        ("script", true, Some(line), None) if !line.is_empty() => {
            return Some(Action::Script { args: vec![line], shell: true, quiet: true });
        }
        ("http", true, None, Some(definition)) => match checks::request_fault(&definition) {
            None => return Some(Action::Http(Box::new(definition))),
            Some(fault) => format!("`http_handler_config`: {fault}"),
        },
        ("script", true, _, None) => "a watch needs `args`, the program that handles its changes".into(),
        ("http", true, None, None) => "a watch with `handler_type = \"http\"` needs `http_handler_config`".into(),
        ("script" | "http", ..) => "a watch has one handler: `args`, or `handler`, or `http_handler_config`".into(),
        (other, ..) => format!("unknown handler type `{other}` of a watch; use script or http"),
    };
    keys.refuse(&problem);
    None
}

fn request(keys: &mut Reader<'_>) -> CheckDefinition {
    let headers: BTreeMap<Str, Vec<Str>> =
        keys.lists("header").into_iter().map(|(name, values)| (name.into(), values.into_iter().map(Str::from).collect())).collect();
    CheckDefinition {
        http: keys.text("path").map(Into::into),
        method: Some(keys.text("method").unwrap_or_else(|| "POST".into()).into()),
        headers,
        tls_skip_verify: keys.flag("tls_skip_verify").unwrap_or(false),
        timeout_ms: Some(keys.duration("timeout").unwrap_or(Duration::from_secs(10)).as_millis() as u64),
        ..CheckDefinition::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::Findings;
    use crate::config::text;

    fn watches(file: &str) -> (Vec<Watch>, Vec<String>) {
        let fields = text::parse(file).unwrap();
        let findings = Findings::default();
        let mut watches = Vec::new();
        let mut keys = Reader::new("a.hcl", &fields, &findings);
        read(&mut keys, &mut watches);
        keys.finish(&[]);
        (watches, findings.into_errors())
    }

    #[test]
    fn watches_are_read_with_either_handler() {
        let (found, errors) = watches(
            r#"watches = [
                { type = "key", key = "a", args = ["/bin/x", "-y"], timeout = "1m" },
                { type = "service", service = "web", tag = "a", passingonly = true, handler_type = "http",
                  http_handler_config { path = "http://localhost/x", header { X = ["1"] }, timeout = "3s" } },
                { type = "event", name = "deploy", handler = "echo x | cat" },
            ]"#,
        );
        assert_eq!(errors, [] as [&str; 0]);
        assert_eq!((found[0].asked.key.as_str(), found[0].timeout), ("a", Duration::from_secs(60)));
        let Action::Http(definition) = &found[1].action else { panic!("{found:?}") };
        assert_eq!((definition.method.as_deref(), definition.timeout_ms), (Some("POST"), Some(3000)));
        assert_eq!(found[2].action, Action::Script { args: vec!["echo x | cat".into()], shell: true, quiet: true });
    }

    #[test]
    fn a_wrong_watch_says_what_and_where() {
        let cases = [
            ("watches {\n args = [\"x\"]\n}", "a.hcl:2: a watch needs a `type`"),
            ("watches {\n type = \"key\"\n args = [\"x\"]\n}", "a.hcl:2: a watch of type `key` needs `key`"),
            ("watches {\n type = \"keys\"\n args = [\"x\"]\n}", "a.hcl:2: unknown type `keys`"),
            ("watches { type = \"nodes\" }", "a.hcl:1: a watch needs `args`"),
            ("watches { type = \"nodes\" handler_type = \"http\" }", "a.hcl:1: a watch with `handler_type = \"http\"` needs"),
            ("watches { type = \"nodes\" handler_type = \"tcp\" }", "a.hcl:1: unknown handler type `tcp`"),
            ("watches { type = \"nodes\" args = [\"x\"] handler = \"y\" }", "a.hcl:1: a watch has one handler"),
            ("watches { type = \"nodes\" http_handler_config { path = \"x\" } }", "a.hcl:1: `http_handler_config`: `x` is not a URL"),
            ("watches { type = \"nodes\" agrs = [\"x\"] }", "a.hcl:1: unknown key `watches.agrs`; did you mean `watches.args`?"),
        ];
        for (file, part) in cases {
            let (_, errors) = watches(file);
            assert!(errors.iter().any(|error| error.starts_with(part)), "{file}: {errors:?}");
        }
    }
}
