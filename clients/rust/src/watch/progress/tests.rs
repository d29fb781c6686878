use super::*;

fn message(event: Event, cursor: &'static str) -> v1::WatchResponse {
    v1::WatchResponse { watch_id: 1, cursor: cursor.into(), previous_cursor: Bytes::new(), revision: 1, event: Some(event) }
}

fn created(cursor: &'static str) -> v1::WatchResponse {
    message(Event::Created(v1::Created {}), cursor)
}

fn snapshot() -> v1::WatchResponse {
    message(Event::Snapshot(v1::SnapshotChunk { changes: vec![put()] }), "")
}

fn snapshot_end(cursor: &'static str) -> v1::WatchResponse {
    message(Event::SnapshotEnd(v1::SnapshotEnd {}), cursor)
}

fn bookmark(cursor: &'static str) -> v1::WatchResponse {
    v1::WatchResponse { watch_id: 0, ..message(Event::Bookmark(v1::Bookmark { leader_known: true }), cursor) }
}

fn reset() -> v1::WatchResponse {
    let reason = v1::ResetReason::Compacted.into();
    message(Event::Reset(v1::Reset { reason, message: "gone".into() }), "")
}

fn changes(previous: &'static str, cursor: &'static str) -> v1::WatchResponse {
    let changes = v1::Changes { changes: vec![put()], continued: false };
    v1::WatchResponse { previous_cursor: previous.into(), ..message(Event::Changes(changes), cursor) }
}

fn put() -> v1::Change {
    v1::Change { change: Some(v1::change::Change::KvPut(v1::Entry::default())) }
}

fn progress() -> Progress {
    Progress::new(Target::key("a"), &WatchOptions::default())
}

/// Progress after these messages, all of which are as they should be.
fn after(messages: impl IntoIterator<Item = v1::WatchResponse>) -> Progress {
    let mut progress = progress();
    for message in messages {
        let step = progress.take(message);
        assert!(matches!(step, Step::Tell(_) | Step::Nothing), "{step:?}");
    }
    progress
}

/// What the next connection is asked for: where to resume, and whether without a snapshot.
fn asked(progress: &Progress) -> (Bytes, bool) {
    let Some(v1::watch_request::Request::Create(create)) = progress.request().request else { panic!("it creates a watch") };
    (create.resume_from, create.skip_snapshot)
}

#[test]
fn a_watch_resumes_after_the_last_thing_it_told() {
    assert_eq!(asked(&after([created(""), snapshot(), snapshot_end("1")])).0, "1");
    assert_eq!(asked(&after([created(""), snapshot_end("1"), changes("1", "2")])).0, "2");
    assert_eq!(asked(&after([created(""), snapshot_end("1"), bookmark("5")])).0, "5");
    assert_eq!(asked(&after([created(""), snapshot_end("1"), bookmark("5"), changes("1", "6")])).0, "6");
}

#[test]
fn a_snapshot_that_was_cut_begins_anew_and_the_reader_forgets_its_part() {
    let mut cut = after([created(""), snapshot()]);
    assert!(matches!(cut.lost(), Some(WatchEvent::Reset { reason: ResetReason::SnapshotCut, .. })));
    assert_eq!(asked(&cut).0, "");
    assert!(cut.lost().is_none(), "it is told once");
    let mut whole = after([created(""), snapshot(), snapshot_end("1")]);
    assert!(whole.lost().is_none());
}

#[test]
fn a_bookmark_during_a_snapshot_is_nothing_to_resume_from() {
    assert_eq!(asked(&after([created(""), snapshot(), bookmark("9")])).0, "");
}

#[test]
fn changes_that_do_not_follow_are_asked_for_again_from_the_last_good_cursor() {
    let mut progress = after([created(""), snapshot_end("1"), changes("1", "2")]);
    for wrong in [changes("1", "3"), changes("", "3"), changes("3", "4")] {
        assert!(matches!(progress.take(wrong), Step::Leave(Error::Contract(_))));
        assert_eq!(asked(&progress).0, "2");
    }
}

#[test]
fn changes_may_follow_a_bookmark_or_what_was_before_it() {
    after([created(""), snapshot_end("1"), bookmark("5"), changes("5", "6")]);
    after([created(""), snapshot_end("1"), bookmark("5"), changes("1", "6")]);
    let mut stale = after([created(""), snapshot_end("1"), bookmark("5"), changes("1", "6")]);
    assert!(matches!(stale.take(changes("5", "7")), Step::Leave(_)), "the bookmark is older than the last changes");
}

#[test]
fn changes_in_the_middle_of_a_snapshot_are_a_fault() {
    let mut progress = after([created(""), snapshot()]);
    assert!(matches!(progress.take(changes("", "1")), Step::Leave(_)));
}

#[test]
fn a_reset_forgets_the_cursor_and_brings_the_snapshot_even_if_it_was_to_be_skipped() {
    let options = WatchOptions { skip_snapshot: true, ..WatchOptions::default() };
    let mut progress = Progress::new(Target::key("a"), &options);
    assert_eq!(asked(&progress), (Bytes::new(), true));
    assert!(matches!(progress.take(created("3")), Step::Nothing));
    assert_eq!(asked(&progress).0, "3");
    assert!(matches!(progress.take(reset()), Step::Tell(WatchEvent::Reset { reason: ResetReason::Compacted, .. })));
    assert_eq!(asked(&progress), (Bytes::new(), false));
}

#[test]
fn a_connection_that_breaks_right_after_resuming_repeats_nothing() {
    // The server may stand at the start of a revision of which some changes were told already.
    let mut progress = after([created(""), snapshot_end("1"), changes("1", "1+2")]);
    assert!(matches!(progress.take(created("1")), Step::Nothing));
    assert_eq!(asked(&progress).0, "1+2");
    assert!(matches!(progress.take(changes("1", "2")), Step::Tell(_)));
}

#[test]
fn a_passing_refusal_is_tried_again_and_another_ends_the_watch() {
    let refused = |reason: v1::ErrorReason| {
        let refusal = v1::Refusal { reason: reason.into(), message: "no".into(), ..Default::default() };
        progress().take(message(Event::Cancelled(v1::Cancelled { refusal: Some(refusal) }), ""))
    };
    assert!(matches!(refused(v1::ErrorReason::NotReady), Step::Leave(_)));
    assert!(matches!(refused(v1::ErrorReason::PermissionDenied), Step::End(Some(_))));
    assert!(matches!(refused(v1::ErrorReason::TooManyWatches), Step::End(Some(_))));
    assert!(matches!(progress().take(message(Event::Cancelled(v1::Cancelled::default()), "")), Step::End(None)));
}

#[test]
fn a_change_of_an_unknown_kind_is_not_dropped_in_silence() {
    let mut progress = after([created(""), snapshot_end("1")]);
    let unknown = v1::Changes { changes: vec![v1::Change { change: None }], continued: false };
    let unknown = v1::WatchResponse { previous_cursor: "1".into(), ..message(Event::Changes(unknown), "2") };
    assert!(matches!(progress.take(unknown), Step::End(Some(Error::Contract(_)))));
}

#[test]
fn a_message_for_another_watch_is_a_fault() {
    let other = v1::WatchResponse { watch_id: 9, ..created("1") };
    assert!(matches!(progress().take(other), Step::Leave(_)));
}
