//! Who may open a data directory.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn node(id: &str) -> Identity {
    Identity { node_id: Some(id.to_owned()), ..Identity::default() }
}

fn error(root: &Path, expected: &Identity) -> String {
    DataDir::open(root, expected).expect_err("it must not open").to_string()
}

#[test]
fn a_directory_stays_bound_to_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/on/demand");
    let mut opened = DataDir::open(&root, &node("one")).unwrap();
    opened.bind(&Identity { raft_id: Some(3), cluster_id: Some("blue".into()), ..Identity::default() }).unwrap();
    assert!(opened.log().is_dir() && opened.state().is_dir());
    drop(opened);

    let refused = error(&root, &node("two"));
    assert!(refused.contains("belongs to node id `one`") && refused.contains("expects `two`"), "{refused}");
    let refused = error(&root, &Identity { raft_id: Some(4), ..Identity::default() });
    assert!(refused.contains("belongs to raft id `3`"), "{refused}");
    let opened = DataDir::open(&root, &Identity::default()).unwrap();
    assert_eq!(opened.identity(), &Identity { raft_id: Some(3), cluster_id: Some("blue".into()), ..node("one") });
}

#[test]
fn what_is_bound_cannot_be_bound_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = DataDir::open(dir.path(), &node("one")).unwrap();
    assert!(matches!(opened.bind(&node("two")), Err(Error::Foreign { .. })));
    assert_eq!(opened.identity(), &node("one"));
}

#[test]
fn a_directory_in_use_names_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let opened = DataDir::open(dir.path(), &node("one")).unwrap();
    let refused = error(dir.path(), &node("one"));
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    drop(opened);
    DataDir::open(dir.path(), &node("one")).unwrap();
}

#[test]
fn a_newer_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("lictor.json"), r#"{"format_version": 9, "node_id": ["of another shape"]}"#).unwrap();
    let refused = DataDir::open(dir.path(), &node("one")).unwrap_err();
    assert!(matches!(refused, Error::TooNew { found: 9, supported: 1, .. }), "{refused}");
}

#[test]
fn a_damaged_or_missing_description_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path(), &node("one")).unwrap());
    fs::write(dir.path().join("lictor.json"), b"{\"format_ver").unwrap();
    assert!(error(dir.path(), &node("one")).contains("does not read as JSON"));
    fs::remove_file(dir.path().join("lictor.json")).unwrap();
    fs::write(dir.path().join("log/something"), b"").unwrap();
    assert!(error(dir.path(), &node("one")).contains("although there is data beside it"));
}

#[test]
fn an_unwritable_directory_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let refused = error(&file, &node("one"));
    assert!(refused.contains("is not a directory"), "{refused}");

    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write anywhere; then there is nothing to refuse.
    if File::create(dir.path().join("probe")).is_err() {
        let refused = error(&dir.path().join("data"), &node("one"));
        assert!(refused.contains("give the user that runs lictor the right"), "{refused}");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
}
