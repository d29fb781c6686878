//! What outlives a restart.

use std::fs;

use super::*;

async fn stored(data_dir: &std::path::Path) -> Rig {
    let mut rig = Rig::asleep(Some(data_dir.to_owned()), |_| {}).await;
    rig.run();
    rig
}

#[tokio::test]
async fn registrations_and_statuses_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = stored(dir.path()).await;
    let mut definition = with_checks([http(), CheckRegistration { id: "beat".into(), ..ttl("beat") }]);
    definition.token = Some("secret".into());
    definition.service.meta.insert("k".into(), "v".into());
    definition.service.weights = state::Weights { passing: 7, warning: 3 };
    rig.register(definition).await;
    rig.agent.register_check(&caller(), ttl("node check")).await.unwrap();
    let run = rig.started("service:web1:1").await;
    rig.report("service:web1:1", run, Status::Passing, "fine").await;
    rig.agent.update_ttl(&caller(), "beat", Status::Warning, "slow").await.unwrap();
    eventually("passing", || (rig.check("service:web1:1").status == Status::Passing).then_some(())).await;
    let (services, checks) = (rig.agent.services(&caller()), rig.agent.checks(&caller()));
    rig.stop().await;

    let mut rig = stored(dir.path()).await;
    assert_eq!(rig.agent.services(&caller()), services);
    assert_eq!(rig.agent.checks(&caller()), checks);
    rig.started("service:web1:1").await;
    let view = eventually("an empty catalog is filled again", || rig.catalog().filter(|view| view.checks.len() == 3)).await;
    assert_eq!((view.checks["service:web1:1"].status, &*view.checks["beat"].output), (Status::Passing, "slow"));
}

#[tokio::test]
async fn what_was_removed_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    rig.register(with_checks([CheckRegistration { id: "a".into(), ..ttl("a") }, CheckRegistration { id: "b".into(), ..ttl("b") }])).await;
    rig.agent.deregister_check(&caller(), "a").await.unwrap();
    let other = ServiceInput { name: "other".into(), ..Default::default() };
    rig.register(ServiceDefinition { service: other, checks: vec![ttl("")], token: None }).await;
    rig.agent.deregister_service(&caller(), "other").await.unwrap();
    rig.stop().await;

    let rig = stored(dir.path()).await;
    assert_eq!(rig.agent.services(&caller()).keys().map(|id| &**id).collect::<Vec<_>>(), ["web1"]);
    assert_eq!(rig.agent.checks(&caller()).keys().map(|id| &**id).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn a_broken_file_is_set_aside_and_the_others_load() {
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    rig.register(with_checks([ttl("")])).await;
    rig.stop().await;
    let broken = dir.path().join("services").join("broken.json");
    fs::write(&broken, "{\"id\": \"cut o").unwrap();
    fs::write(dir.path().join("services").join("half.tmp"), "{").unwrap();
    let file_of_a_check = fs::read_dir(dir.path().join("checks")).unwrap().next().unwrap().unwrap().path();
    let misnamed = file_of_a_check.with_file_name("misnamed.json");
    fs::copy(&file_of_a_check, &misnamed).unwrap();

    let rig = stored(dir.path()).await;
    assert_eq!((rig.agent.services(&caller()).len(), rig.agent.checks(&caller()).len()), (1, 1));
    for file in [broken, misnamed] {
        assert!(!file.exists() && file.with_extension("broken").exists(), "{}", file.display());
    }
    assert!(!dir.path().join("services").join("half.tmp").exists());
}

#[tokio::test]
async fn a_check_waits_for_its_service() {
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    rig.register(with_checks([ttl("")])).await;
    rig.agent.update_ttl(&caller(), "service:web1", Status::Passing, "").await.unwrap();
    rig.stop().await;
    fs::remove_dir_all(dir.path().join("services")).unwrap();
    let rig = stored(dir.path()).await;
    assert!(rig.agent.checks(&caller()).is_empty());
    rig.register(web()).await;
    assert_eq!(rig.catalog_check("service:web1").unwrap().status, Status::Passing);
}

#[tokio::test]
async fn what_the_configuration_defines_is_not_stored_and_wins() {
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    rig.register(with_checks([ttl("")])).await;
    rig.stop().await;

    let mut configured = with_checks([http()]);
    configured.service.port = 8080;
    let rig = Rig::asleep(Some(dir.path().to_owned()), |_| {}).await;
    rig.agent.register_configured(configured).await.unwrap();
    let check = CheckRegistration { service_id: "web1".into(), ..ttl("extra") };
    rig.agent.register_configured_check(check).await.unwrap();
    let service = rig.agent.service(&caller(), "web1").unwrap();
    assert_eq!((service.row.port, service.source), (8080, Source::Config));
    assert_eq!(&*rig.check("service:web1").kind, "http");
    rig.stop().await;

    let rig = stored(dir.path()).await;
    assert!(rig.agent.services(&caller()).is_empty() && rig.agent.checks(&caller()).is_empty());
}

#[tokio::test]
async fn a_registration_that_cannot_be_stored_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    fs::remove_dir_all(dir.path().join("services")).unwrap();
    let error = refused(rig.agent.register_service(&caller(), web(), false)).await;
    assert!(error.message.contains("can't write"), "{}", error.message);
    assert!(rig.agent.services(&caller()).is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_private_because_they_hold_tokens() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    rig.register(web()).await;
    let file = fs::read_dir(dir.path().join("services")).unwrap().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// The one stored check, changed.
fn edit_stored_check(data_dir: &std::path::Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let file = fs::read_dir(data_dir.join("checks")).unwrap().next().unwrap().unwrap().path();
    let mut stored = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut stored);
    fs::write(file, stored.to_string()).unwrap();
}

/// A critical check that takes its instance away after an hour.
fn doomed() -> ServiceDefinition {
    let mut check = ttl("");
    check.definition.ttl_ms = Some(20);
    check.definition.deregister_critical_after_ms = Some(3_600_000);
    with_checks([check])
}

#[tokio::test]
async fn a_check_that_stays_critical_takes_its_instance_away_although_the_agent_was_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    rig.register(doomed()).await;
    rig.stop().await;
    edit_stored_check(dir.path(), |check| check["critical_since_ms"] = (check["critical_since_ms"].as_u64().unwrap() - 3_599_000).into());
    let rig = stored(dir.path()).await;
    eventually("the instance is gone", || rig.agent.services(&caller()).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_restart_is_no_new_beginning_for_a_critical_check() {
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    rig.register(doomed()).await;
    rig.stop().await;
    let mut began = 0;
    edit_stored_check(dir.path(), |check| {
        began = check["critical_since_ms"].as_u64().unwrap() - 600_000;
        check["critical_since_ms"] = began.into();
    });
    let rig = stored(dir.path()).await;
    // Another output, so that the file is written again.
    rig.agent.update_ttl(&caller(), "service:web1", Status::Critical, "still").await.unwrap();
    rig.stop().await;
    edit_stored_check(dir.path(), |check| {
        let since = check["critical_since_ms"].as_u64().unwrap();
        assert!(since.abs_diff(began) < 60_000, "{since} is not {began}");
    });
}

#[tokio::test]
async fn a_reload_that_fails_halfway_leaves_what_was() {
    use sha2::{Digest, Sha256};
    let dir = tempfile::tempdir().unwrap();
    let rig = stored(dir.path()).await;
    let named = |name: &str, port| ServiceDefinition {
        service: ServiceInput { name: name.into(), port, ..Default::default() },
        checks: vec![ttl("")],
        token: None,
    };
    let before = vec![named("a", 1), named("gone", 2)];
    rig.agent.reconfigure(before.clone(), vec![]).await.unwrap();
    rig.agent.update_ttl(&caller(), "service:gone", Status::Passing, "").await.unwrap();
    // What was stored under the id of a configured instance is removed, which fails for a directory.
    let place: String = Sha256::digest("z").iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir(dir.path().join("services").join(place).with_extension("json")).unwrap();

    let after = vec![named("a", 9), named("new", 3), named("z", 4)];
    refused(rig.agent.reconfigure(after.clone(), vec![])).await;
    let services = rig.agent.services(&caller());
    assert_eq!(services.iter().map(|(id, service)| (&**id, service.row.port)).collect::<Vec<_>>(), [("a", 1), ("gone", 2)]);
    assert_eq!(rig.agent.checks(&caller()).keys().map(|id| &**id).collect::<Vec<_>>(), ["service:a", "service:gone"]);
    assert_eq!(rig.check("service:gone").status, Status::Passing, "it was never touched");
    assert_eq!(rig.agent.reconfigure(before, vec![]).await.unwrap(), (false, false), "it is known what is in force");
}
