//! What a watch prints and hands to programs.

use std::time::Duration;

use clap::Parser;
use lictor_client::v1::HealthStatus;
use lictor_client::v1::checks_target::Selection;
use lictor_client::{Change, Cursor, Gone, ResetReason, Row, v1};
use serde_json::json;

use super::*;
use crate::watches::rows::Rows;
use crate::watches::source::News;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    watch: Watch,
}

fn target(line: &[&str]) -> Result<(Kind, Subject), String> {
    Line::parse_from(["watch"].iter().chain(line)).watch.asked().map_err(|error| error.to_string())?.subject()
}

fn rows(kind: Kind, target: Target) -> (Kind, Subject) {
    (kind, Subject::Rows(target))
}

fn shell(line: &str) -> Handler {
    Handler::new(Network::host(), Action::Script { args: vec![line.into()], shell: true, quiet: false }, HANDLER_TIMEOUT)
}

fn entry(key: &str, value: &str) -> Row {
    Row::Entry(v1::Entry { key: key.to_owned().into(), value: value.to_owned().into(), ..v1::Entry::default() })
}

fn cursor() -> Cursor {
    Cursor::from_bytes("c")
}

fn changes(changes: Vec<Change>, revision: u64, continued: bool) -> WatchEvent {
    WatchEvent::Changes { changes, revision, cursor: cursor(), continued }
}

#[test]
fn types_become_targets() {
    assert_eq!(target(&["--type=key", "--key=a"]).unwrap(), rows(Kind::Key, Target::key("a")));
    assert_eq!(target(&["--type=keyprefix"]).unwrap(), rows(Kind::KeyPrefix, Target::prefix("")));
    let web = Target::service("web").passing_only().tag("a");
    assert_eq!(target(&["--type=service", "--service=web", "--passingonly", "--tag=a"]).unwrap(), rows(Kind::Service, web));
    let critical = Target::checks(Selection::Status(HealthStatus::Critical.into()));
    assert_eq!(target(&["--type=checks", "--state=critical"]).unwrap(), rows(Kind::Checks, critical));
    let cases: &[(&[&str], &str)] = &[
        (&[], "needs a `type`"),
        (&["--type=key"], "needs `key`"),
        (&["--type=keys"], "unknown type `keys`"),
        (&["--type=agent_service"], "not part of this version"),
        (&["--type=checks", "--state=odd"], "unknown state `odd`"),
        (&["--type=checks", "--state=any", "--service=a"], "not both"),
    ];
    for (line, part) in cases {
        let error = target(line).unwrap_err();
        assert!(error.contains(part), "{line:?}: {error}");
    }
}

#[test]
fn each_change_is_one_line() {
    let text = |event: &WatchEvent| lines::of(event).iter().map(ToString::to_string).collect::<Vec<_>>();
    let event = changes(vec![Change::Put(entry("a", "1")), Change::Delete(Gone::Key("b".into()))], 7, false);
    let lines = text(&event);
    assert!(
        lines[0].contains(r#""event":"put""#) && lines[0].contains(r#""revision":7"#) && lines[0].contains(r#""key":"a""#),
        "{lines:?}"
    );
    assert_eq!(lines[1], json!({"event": "delete", "revision": 7, "entry": {"key": "b"}}).to_string());
    let reset = WatchEvent::Reset { reason: ResetReason::SlowConsumer, message: "m".into() };
    assert_eq!(text(&reset), [json!({"event": "reset", "reason": "slow_consumer", "message": "m"}).to_string()]);
    assert!(text(&WatchEvent::Bookmark { revision: 1, cursor: cursor(), leader_known: true }).is_empty());
}

#[test]
fn rows_follow_snapshot_changes_and_reset() {
    let mut rows = Rows::default();
    assert_eq!(rows.take(WatchEvent::Snapshot { rows: vec![entry("a", "1"), entry("b", "1")], revision: 3 }), None);
    assert_eq!(rows.take(WatchEvent::SnapshotEnd { revision: 3, cursor: cursor() }), Some(3));
    assert_eq!(rows.take(changes(vec![Change::Put(entry("a", "2"))], 4, true)), None);
    assert_eq!(rows.take(changes(vec![Change::Delete(Gone::Key("b".into()))], 4, false)), Some(4));
    let state = shape::of(Kind::KeyPrefix, rows.by_name.values());
    assert_eq!(state.as_array().map(Vec::len), Some(1));
    assert_eq!((&state[0]["Key"], &state[0]["Value"]), (&json!("a"), &json!("Mg==")));
    assert_eq!(rows.take(WatchEvent::Reset { reason: ResetReason::Compacted, message: String::new() }), None);
    assert_eq!(rows.take(changes(vec![Change::Put(entry("a", "3"))], 5, false)), None);
}

#[test]
fn handlers_read_the_shapes_that_they_know() {
    let services = [
        Row::Service(v1::ServiceSummary { name: "web".into(), tags: vec!["a".into()], instances: Some(2) }),
        Row::Service(v1::ServiceSummary { name: "db".into(), ..v1::ServiceSummary::default() }),
    ];
    assert_eq!(shape::of(Kind::Services, services.iter()), json!({"web": ["a"], "db": []}));
    assert_eq!(shape::of(Kind::Key, std::iter::empty()), json!(null));
    assert_eq!(shape::of(Kind::Nodes, std::iter::empty()), json!([]));
}

/// Runs until nothing is due any more.
async fn settle(handler: &mut Handler) -> anyhow::Result<()> {
    while handler.is_busy() {
        tokio::time::timeout(Duration::from_secs(30), handler.step()).await??;
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_never_runs_twice_at_once_and_sees_the_newest() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let script = format!("mkdir {0}/busy && cat >> {0}/log && echo $CONSUL_INDEX >> {0}/log && rmdir {0}/busy", home.path().display());
    let mut handler = shell(&script);
    handler.offer(News::state(1, json!("one")));
    handler.step().await.unwrap();
    handler.offer(News::state(2, json!("two")));
    handler.offer(News::state(3, json!("three")));
    settle(&mut handler).await.unwrap();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "\"one\"\n1\n\"three\"\n3\n");
    assert!(handler.has_run());
}

#[tokio::test]
async fn a_handler_that_fails_says_so_and_is_run_again_with_what_is_there_by_then() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    let mut handler = shell(&format!("cat > {0}; [ -e {0}.ok ]", file.display()));
    handler.offer(News::state(1, "x".repeat(1 << 20).into()));
    assert!(settle(&mut handler).await.unwrap_err().to_string().contains("exit status: 1"));
    assert_eq!(handler.again(), Duration::from_secs(1));
    std::fs::write(home.path().join("file.ok"), "").unwrap();
    handler.offer(News::state(2, json!("newer")));
    settle(&mut handler).await.unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "\"newer\"\n");
    let missing = Action::Script { args: vec!["/nonexistent/program".into()], shell: false, quiet: false };
    let mut missing = Handler::new(Network::host(), missing, HANDLER_TIMEOUT);
    missing.offer(News::state(1, json!(null)));
    assert!(settle(&mut missing).await.unwrap_err().to_string().contains("cannot run `/nonexistent/program`"));
}

#[tokio::test]
async fn a_handler_that_hangs_is_killed_with_its_children() {
    let home = tempfile::tempdir().unwrap();
    let pid = home.path().join("pid");
    let action = Action::Script { args: vec![format!("sleep 600 & echo $! > {}; wait", pid.display())], shell: true, quiet: true };
    let mut handler = Handler::new(Network::host(), action, Duration::from_millis(500));
    handler.offer(News::state(1, json!(null)));
    assert!(settle(&mut handler).await.unwrap_err().to_string().contains("was killed"));
    let child = nix::unistd::Pid::from_raw(std::fs::read_to_string(pid).unwrap().trim().parse().unwrap());
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while nix::sys::signal::kill(child, None).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the child of the handler lives");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
