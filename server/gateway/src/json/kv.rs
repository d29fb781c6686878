//! Keys.

use state::KvEntry;

use super::Json;

/// One entry. Without `with_value` the value is shown as `null`, as writes in transactions do.
pub(crate) fn entry(json: &mut Json, entry: &KvEntry, with_value: bool) {
    json.object(|json| {
        json.name("LockIndex").number(entry.lock_index());
        json.name("Key").lossy(entry.key());
        json.name("Flags").number(entry.flags());
        json.name("Value").base64(if with_value { entry.value() } else { b"" });
        if let Some(session) = entry.session() {
            json.name("Session").text(&session.to_string());
        }
        json.name("CreateIndex").number(entry.create_index().0);
        json.name("ModifyIndex").number(entry.modify_index().0);
    });
}

/// An estimate of the bytes that an entry needs.
pub(crate) fn size(entry: &KvEntry) -> usize {
    128 + entry.key().len() + entry.value().len().div_ceil(3) * 4
}
