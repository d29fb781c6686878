//! What every call carries: how to read, where to write, where an answer stands.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ::service::{Consistency, Error, Meta, ReadOptions, Service};
use proto::v1;
use state::{Fence, LogIndex, SessionId, Str};

use crate::status::invalid;

/// How to read; left out, it means this datacenter, linearizable.
pub(crate) fn read_options(options: Option<v1::ReadOptions>) -> Result<ReadOptions, Error> {
    let Some(v1::ReadOptions { datacenter, consistency: wanted, min_revision, max_staleness }) = options else {
        return Ok(ReadOptions::with(Consistency::Linearizable));
    };
    let consistency = consistency(wanted)?;
    let max_staleness = max_staleness.map(|age| duration("max_staleness", age)).transpose()?;
    if max_staleness.is_some() && consistency != Consistency::Stale {
        return Err(invalid("max_staleness", "it goes with CONSISTENCY_STALE only; the other modes are never stale"));
    }
    let datacenter = (!datacenter.is_empty()).then(|| datacenter.into());
    Ok(ReadOptions { datacenter, consistency, min_index: LogIndex(min_revision), max_staleness })
}

/// How current an answer has to be.
pub(crate) fn consistency(wanted: i32) -> Result<Consistency, Error> {
    match v1::Consistency::try_from(wanted) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => Ok(Consistency::Linearizable),
        Ok(v1::Consistency::Leased) => Ok(Consistency::Leased),
        Ok(v1::Consistency::Stale) => Ok(Consistency::Stale),
        Err(_) => Err(invalid("consistency", format_args!("`{wanted}` is not known"))),
    }
}

/// The datacenter to write to.
pub(crate) fn write_to(options: Option<v1::WriteOptions>) -> Option<String> {
    let v1::WriteOptions { datacenter } = options?;
    Some(datacenter).filter(|name| !name.is_empty())
}

/// Refuses a later message of a stream that names another datacenter: a stream is carried to the one that
/// its first message names.
pub(crate) fn same_datacenter(service: &Service, named: Option<&str>) -> Result<(), Error> {
    let own = &service.identity().datacenter;
    match named.filter(|name| !name.eq_ignore_ascii_case(own)) {
        None => Ok(()),
        Some(name) => {
            let problem = format!(
                "this stream is for `{own}`, as its first message says, and `{name}` is another; open a stream for each datacenter"
            );
            Err(invalid("options.datacenter", problem).with("datacenter", name))
        }
    }
}

/// Where an answer stands.
pub(crate) fn meta(meta: Meta) -> v1::ResponseMeta {
    let Meta { index, applied, datacenter, leader_known, last_contact, consistency } = meta;
    let staleness = if consistency == Consistency::Stale { last_contact } else { Duration::ZERO };
    v1::ResponseMeta {
        revision: index.0,
        applied_revision: applied.0.max(index.0),
        datacenter: datacenter.to_string(),
        leader_known,
        staleness: Some(wire_duration(staleness)),
    }
}

/// Where a write stands: it is applied here, and a leader took it.
pub(crate) fn write_meta(service: &Service, index: LogIndex) -> v1::ResponseMeta {
    v1::ResponseMeta {
        revision: index.0.max(1),
        applied_revision: index.0.max(1),
        datacenter: service.identity().datacenter.to_string(),
        leader_known: true,
        staleness: Some(prost_types::Duration::default()),
    }
}

/// Where a change stands that this server has applied.
pub(crate) fn meta_at(service: &Service, index: LogIndex) -> v1::ResponseMeta {
    v1::ResponseMeta { revision: index.0.max(1), ..local_meta(service) }
}

/// Where an answer stands that tells what this server believes.
pub(crate) fn local_meta(service: &Service) -> v1::ResponseMeta {
    let status = service.consensus_status();
    let leads = status.leader == Some(status.id);
    let staleness = status.last_contact.filter(|_| !leads).unwrap_or_default();
    v1::ResponseMeta {
        revision: service.revision().max(1),
        applied_revision: service.revision().max(1),
        datacenter: service.identity().datacenter.to_string(),
        leader_known: status.leader.is_some(),
        staleness: Some(wire_duration(staleness)),
    }
}

/// A length of time that is not negative.
pub(crate) fn duration(field: &'static str, duration: prost_types::Duration) -> Result<Duration, Error> {
    duration.try_into().map_err(|_| invalid(field, "it is negative, or longer than can be counted"))
}

/// Milliseconds, rounded up so that a length above zero stays so.
pub(crate) fn millis(field: &'static str, wire: Option<prost_types::Duration>) -> Result<Option<u64>, Error> {
    let Some(wire) = wire else { return Ok(None) };
    let length = duration(field, wire)?;
    let millis = length.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).map(Some).map_err(|_| invalid(field, "it is longer than can be counted"))
}

/// A length of time for the wire; what does not fit is the longest that does.
pub(crate) fn wire_duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX), nanos: length.subsec_nanos() as i32 }
}

/// Milliseconds for the wire.
pub(crate) fn wire_millis(millis: u64) -> prost_types::Duration {
    wire_duration(Duration::from_millis(millis))
}

/// A session's id.
pub(crate) fn session(field: &'static str, id: &str) -> Result<SessionId, Error> {
    id.parse().map_err(|problem| invalid(field, format_args!("`{id}` is {problem}")))
}

/// A proof of holding a lock.
pub(crate) fn fence(fence: Option<v1::Fence>) -> Result<Option<Fence>, Error> {
    let Some(v1::Fence { key, token }) = fence else { return Ok(None) };
    if token == 0 {
        return Err(invalid("fence", "no grant has the token 0; give the fence that came with the lock"));
    }
    Ok(Some(Fence { key: (*key).into(), token: LogIndex(token) }))
}

/// A proof of holding a lock, for the wire.
pub(crate) fn wire_fence(fence: &Fence) -> v1::Fence {
    v1::Fence { key: fence.key.to_vec().into(), token: fence.token.0 }
}

/// Free pairs as they are stored.
pub(crate) fn pairs(pairs: HashMap<String, String>) -> BTreeMap<Str, Str> {
    pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// Free pairs for the wire.
pub(crate) fn wire_pairs(pairs: &BTreeMap<Str, Str>) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Texts as they are stored.
pub(crate) fn strs(texts: Vec<String>) -> Vec<Str> {
    texts.into_iter().map(Into::into).collect()
}

/// Texts for the wire.
pub(crate) fn wire_strs(texts: &[Str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_without_options_is_linearizable() {
        assert_eq!(read_options(None).unwrap().consistency, Consistency::Linearizable);
        assert_eq!(read_options(Some(v1::ReadOptions::default())).unwrap().consistency, Consistency::Linearizable);
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        let age = prost_types::Duration { seconds: 1, nanos: 0 };
        let stale = v1::Consistency::Stale.into();
        for (options, field) in [
            (v1::ReadOptions { consistency: 9, ..Default::default() }, "consistency"),
            (v1::ReadOptions { max_staleness: Some(age), ..Default::default() }, "max_staleness"),
            (v1::ReadOptions { max_staleness: Some(negative), consistency: stale, ..Default::default() }, "max_staleness"),
        ] {
            let error = read_options(Some(options)).unwrap_err();
            assert!(error.message.contains(field), "{error}");
        }
    }

    #[test]
    fn a_short_time_does_not_become_none() {
        assert_eq!(millis("ttl", Some(prost_types::Duration { seconds: 0, nanos: 1 })).unwrap(), Some(1));
        assert_eq!(millis("ttl", Some(prost_types::Duration { seconds: 2, nanos: 0 })).unwrap(), Some(2000));
        assert_eq!(millis("ttl", None).unwrap(), None);
    }
}
