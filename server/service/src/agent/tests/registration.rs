//! Registering, replacing, reporting, removing.

use super::*;

#[tokio::test]
async fn a_registration_is_in_the_catalog_when_it_is_answered() {
    let rig = Rig::new().await;
    rig.register(with_checks([http()])).await;
    let view = rig.catalog().expect("the node is registered with its first service");
    let row = &view.services["web1"];
    assert_eq!((&*row.name, &*row.address, row.port), ("web", "10.2.2.2", 80));
    assert_eq!(row.tagged_addresses.keys().map(|tag| &**tag).collect::<Vec<_>>(), ["lan_ipv4", "wan_ipv4"]);
    let check = &view.checks["service:web1"];
    assert_eq!((&*check.name, check.status, &*check.kind), ("Service 'web' check", Status::Critical, "http"));
    assert_eq!((&*check.service_name, check.interval_ms), ("web", Some(10_000)));
    assert_eq!(rig.agent.services(&caller()).len(), 1);
    assert!(rig.check("service:web1").definition.http.is_some(), "the agent itself shows how the check is run");
}

#[tokio::test]
async fn several_checks_are_numbered() {
    let rig = Rig::new().await;
    let named = CheckRegistration { id: "mine".into(), ..ttl("mine") };
    let definition = with_checks([http(), named, ttl("")]);
    assert_eq!(definition.check_ids().iter().map(|id| &**id).collect::<Vec<_>>(), ["service:web1:1", "mine", "service:web1:3"]);
    rig.register(definition).await;
    assert_eq!(rig.agent.checks(&caller()).keys().map(|id| &**id).collect::<Vec<_>>(), ["mine", "service:web1:1", "service:web1:3"]);
}

#[tokio::test]
async fn a_status_goes_to_the_catalog_and_a_changing_text_does_not() {
    let mut rig = Rig::new().await;
    rig.register(with_checks([http()])).await;
    let run = rig.started("service:web1").await;
    rig.report("service:web1", run, Status::Passing, "first").await;
    let in_catalog = || rig.catalog_check("service:web1").filter(|check| check.status == Status::Passing);
    assert_eq!(&*eventually("passing", in_catalog).await.output, "first");
    rig.report("service:web1", run, Status::Passing, "second").await;
    eventually("the agent knows the new text", || (&*rig.check("service:web1").output == "second").then_some(())).await;
    rig.register(ServiceDefinition { service: ServiceInput { name: "other".into(), ..Default::default() }, ..Default::default() }).await;
    assert_eq!(&*rig.catalog_check("service:web1").unwrap().output, "first", "it was not written along with the other service");
    rig.report("service:web1", run, Status::Warning, "third").await;
    let warned = || rig.catalog_check("service:web1").filter(|check| check.status == Status::Warning);
    assert_eq!(&*eventually("warning", warned).await.output, "third");
}

#[tokio::test]
async fn a_text_alone_is_written_when_its_time_has_come() {
    let mut rig = Rig::asleep(None, |options| options.output_interval = Duration::from_millis(20)).await;
    rig.run();
    rig.register(with_checks([http()])).await;
    let run = rig.started("service:web1").await;
    rig.report("service:web1", run, Status::Critical, "still down").await;
    eventually("the text", || rig.catalog_check("service:web1").filter(|check| &*check.output == "still down")).await;
}

#[tokio::test]
async fn registering_again_keeps_what_the_checks_have_reached() {
    let mut rig = Rig::new().await;
    rig.register(with_checks([http()])).await;
    let run = rig.started("service:web1").await;
    rig.report("service:web1", run, Status::Passing, "fine").await;
    eventually("passing", || (rig.check("service:web1").status == Status::Passing).then_some(())).await;

    let mut again = with_checks([http()]);
    again.service.tags = vec!["v2".into()];
    rig.register(again).await;
    let check = rig.catalog_check("service:web1").unwrap();
    assert_eq!((check.status, &*check.output, check.service_tags.len()), (Status::Passing, "fine", 1));
    rig.report("service:web1", run, Status::Warning, "goes on").await;
    eventually("the same run goes on", || (rig.check("service:web1").status == Status::Warning).then_some(())).await;

    let given = CheckRegistration { status: Some(Status::Critical), ..http() };
    rig.register(with_checks([given])).await;
    assert_eq!(rig.catalog_check("service:web1").unwrap().status, Status::Critical, "a status that is given counts");
}

#[tokio::test]
async fn earlier_checks_stay_unless_they_are_to_be_replaced() {
    let rig = Rig::new().await;
    rig.register(with_checks([CheckRegistration { id: "a".into(), ..ttl("a") }])).await;
    let second = || with_checks([CheckRegistration { id: "b".into(), ..ttl("b") }]);
    rig.register(second()).await;
    assert_eq!(rig.agent.checks(&caller()).len(), 2);
    rig.agent.register_service(&caller(), second(), true).await.unwrap();
    assert_eq!(rig.agent.checks(&caller()).keys().map(|id| &**id).collect::<Vec<_>>(), ["b"]);
    assert!(rig.catalog_check("a").is_none());
}

#[tokio::test]
async fn a_removed_service_is_gone_with_its_checks_when_it_is_answered() {
    let mut rig = Rig::new().await;
    rig.register(with_checks([http()])).await;
    let run = rig.started("service:web1").await;
    rig.agent.deregister_service(&caller(), "web1").await.unwrap();
    let view = rig.catalog().unwrap();
    assert!(view.services.is_empty() && view.checks.is_empty());
    match timeout(DEADLINE, rig.requests.recv()).await {
        Ok(Some(Request::Stop { check_id, run: stopped })) => assert!(&*check_id == "service:web1" && stopped > run),
        other => panic!("{other:?}"),
    }
    let error = refused(rig.agent.deregister_service(&caller(), "web1")).await;
    assert_eq!(error.reason, Reason::UnknownService);
    assert_eq!(error.message, "Unknown service ID \"web1\". Ensure that the service ID is passed, not the service name.");
}

#[tokio::test]
async fn checks_come_and_go_by_themselves() {
    let rig = Rig::new().await;
    let id = rig.agent.register_check(&caller(), ttl("disk")).await.unwrap();
    assert_eq!((&*id, &*rig.catalog_check("disk").unwrap().service_id), ("disk", ""));
    let orphan = CheckRegistration { service_id: "nobody".into(), ..ttl("orphan") };
    let error = refused(rig.agent.register_check(&caller(), orphan)).await;
    assert_eq!((error.reason, &*error.message), (Reason::UnknownService, "ServiceID \"nobody\" does not exist"));
    rig.agent.deregister_check(&caller(), "disk").await.unwrap();
    assert!(rig.catalog_check("disk").is_none());
    assert_eq!(refused(rig.agent.deregister_check(&caller(), "disk")).await.reason, Reason::UnknownCheck);
}

#[tokio::test]
async fn a_ttl_check_says_what_it_is_told_until_its_time_is_over() {
    let mut rig = Rig::new().await;
    rig.register(with_checks([ttl("")])).await;
    let run = rig.started("service:web1").await;
    let good_for = rig.agent.update_ttl(&caller(), "service:web1", Status::Passing, "alive").await.unwrap();
    assert_eq!(good_for, Duration::from_secs(30));
    assert_eq!(rig.catalog_check("service:web1").unwrap().status, Status::Passing, "written when it is answered");

    let renewed = match timeout(DEADLINE, rig.requests.recv()).await {
        Ok(Some(Request::Renew { run, .. })) => run,
        other => panic!("{other:?}"),
    };
    let expiry = |run| Report { check_id: "service:web1".into(), run, status: Status::Critical, output: "".into(), expired: true };
    rig.reports.send(expiry(run)).await.unwrap();
    rig.reports.send(expiry(renewed)).await.unwrap();
    eventually("expired", || (rig.check("service:web1").status == Status::Critical).then_some(())).await;
    let output = rig.check("service:web1").output.clone();
    assert!(output.starts_with("TTL expired") && output.ends_with("alive"), "{output}");
}

#[tokio::test]
async fn a_report_that_was_overtaken_changes_nothing() {
    let mut rig = Rig::new().await;
    rig.register(with_checks([ttl("")])).await;
    let old = rig.started("service:web1").await;
    rig.agent.update_ttl(&caller(), "service:web1", Status::Passing, "").await.unwrap();
    let late = Report { check_id: "service:web1".into(), run: old, status: Status::Critical, output: "".into(), expired: true };
    rig.reports.send(late).await.unwrap();
    rig.agent.register_check(&caller(), CheckRegistration { id: "next".into(), ..http_named("next") }).await.unwrap();
    let run = rig.started("next").await;
    rig.report("next", run, Status::Passing, "").await;
    eventually("what came after it was taken", || (rig.check("next").status == Status::Passing).then_some(())).await;
    assert_eq!(rig.check("service:web1").status, Status::Passing);
}

#[tokio::test]
async fn only_ttl_checks_are_told_their_status() {
    let rig = Rig::new().await;
    rig.register(with_checks([http()])).await;
    let error = refused(rig.agent.update_ttl(&caller(), "service:web1", Status::Passing, "")).await;
    assert_eq!((error.reason, &*error.message), (Reason::CheckNotTtl, "CheckID \"service:web1\" does not have associated TTL"));
    let error = refused(rig.agent.update_ttl(&caller(), "nothing", Status::Passing, "")).await;
    assert_eq!(error.reason, Reason::UnknownCheck);
}

#[tokio::test]
async fn a_long_report_is_cut_and_says_so() {
    let rig = Rig::new().await;
    let mut check = ttl("");
    check.definition.output_max_bytes = Some(10);
    rig.register(with_checks([check])).await;
    rig.agent.update_ttl(&caller(), "service:web1", Status::Passing, "0123456789abc").await.unwrap();
    assert_eq!(&*rig.check("service:web1").output, "0123456789 ... (captured 10 of 13 bytes)");
}

#[tokio::test]
async fn an_instance_that_stays_critical_is_removed() {
    let rig = Rig::new().await;
    let mut check = http();
    check.definition.deregister_critical_after_ms = Some(1000);
    rig.register(with_checks([check])).await;
    eventually("it is gone", || rig.catalog().filter(|view| view.services.is_empty() && view.checks.is_empty())).await;
    assert!(rig.agent.services(&caller()).is_empty());
}

#[tokio::test]
async fn an_instance_that_recovers_is_not_removed() {
    let mut rig = Rig::new().await;
    let mut check = http();
    check.definition.deregister_critical_after_ms = Some(1000);
    rig.register(with_checks([check.clone()])).await;
    let run = rig.started("service:web1").await;
    rig.report("service:web1", run, Status::Passing, "").await;
    let other = ServiceInput { id: "web2".into(), name: "web".into(), ..Default::default() };
    eventually("passing", || (rig.check("service:web1").status == Status::Passing).then_some(())).await;
    rig.register(ServiceDefinition { service: other, checks: vec![check], token: None }).await;
    eventually("a later one is gone", || (!rig.agent.services(&caller()).contains_key("web2")).then_some(())).await;
    assert!(rig.agent.service(&caller(), "web1").is_some());
}

#[tokio::test]
async fn the_content_hash_follows_what_can_be_seen() {
    let rig = Rig::new().await;
    rig.register(web()).await;
    let hash = || rig.agent.service(&caller(), "web1").unwrap().content_hash();
    let first = hash();
    rig.register(web()).await;
    assert_eq!(hash(), first);
    let mut changed = web();
    changed.service.meta.insert("k".into(), "v".into());
    rig.register(changed).await;
    assert_ne!(hash(), first);
}

fn http_named(name: &str) -> CheckRegistration {
    CheckRegistration { name: name.into(), ..http() }
}

#[tokio::test]
async fn outputs_can_be_dropped_and_statuses_count_all_the_same() {
    let mut rig = Rig::asleep(None, |options| options.discard_output = true).await;
    rig.run();
    rig.register(with_checks([http()])).await;
    let run = rig.started("service:web1").await;
    rig.report("service:web1", run, Status::Passing, "a secret").await;
    let passing = eventually("passing", || rig.catalog_check("service:web1").filter(|check| check.status == Status::Passing)).await;
    assert_eq!((&*passing.output, &*rig.check("service:web1").output), ("", ""));
    rig.agent.set_discard_output(false);
    rig.report("service:web1", run, Status::Warning, "shown").await;
    eventually("the text", || (&*rig.check("service:web1").output == "shown").then_some(())).await;
}

#[tokio::test]
async fn who_waits_for_an_instance_is_woken_by_its_change_and_by_nothing_else() {
    let mut rig = Rig::new().await;
    rig.register(with_checks([http()])).await;
    let run = rig.started("service:web1").await;
    let (_, hash) = rig.agent.service_once_changed(&caller(), "web1", None, DEADLINE).await.unwrap();
    let (agent, known) = (rig.agent.clone(), hash.clone());
    let waiting = tokio::spawn(async move { agent.service_once_changed(&caller(), "web1", Some(&known), DEADLINE).await });
    rig.report("service:web1", run, Status::Passing, "fine").await;
    eventually("passing", || (rig.check("service:web1").status == Status::Passing).then_some(())).await;
    rig.register(ServiceDefinition { service: ServiceInput { name: "other".into(), ..Default::default() }, ..Default::default() }).await;
    assert!(!waiting.is_finished(), "neither its health nor another instance counts");
    let mut changed = web();
    changed.service.port = 81;
    rig.register(changed).await;
    let (service, new) = timeout(DEADLINE / 2, waiting).await.expect("it is woken").unwrap().unwrap();
    assert_eq!(service.row.port, 81);
    assert_ne!(new, hash);
    let (agent, known) = (rig.agent.clone(), new.clone());
    let waiting = tokio::spawn(async move { agent.service_once_changed(&caller(), "web1", Some(&known), DEADLINE).await });
    rig.agent.deregister_service(&caller(), "web1").await.unwrap();
    assert!(timeout(DEADLINE / 2, waiting).await.expect("a removal wakes too").unwrap().is_none());
}
