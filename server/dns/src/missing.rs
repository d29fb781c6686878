//! What a server's answer leaves open for the recursors of the agent that was asked: the server may have
//! none, or others.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::answer::Answer;
use crate::options::DnsOptions;
use crate::question::{self, Lookup};

/// What is left open.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Everything: nobody in the cluster has the address that was asked for.
    All,
    /// What stands at the end of an alias that leads out of our zones.
    Alias(Answer, Name),
}

/// What `reply` leaves open, if anything.
pub(crate) fn of(reply: Message, options: &DnsOptions) -> Option<Missing> {
    let query = reply.queries.first()?;
    let (name, query_type) = (query.name().clone(), query.query_type());
    let is_reverse = matches!(question::read(&name, query_type, options.zones()), Lookup::Reverse(_));
    match reply.metadata.response_code {
        ResponseCode::NXDomain if is_reverse => Some(Missing::All),
        ResponseCode::NoError if query_type != RecordType::CNAME => {
            let RData::CNAME(target) = &reply.answers.last()?.data else { return None };
            let target = target.0.clone();
            let leads_out = question::read(&target, query_type, options.zones()) == Lookup::Elsewhere;
            let answer = Answer { authoritative: reply.metadata.authoritative, answers: reply.answers, ..Answer::default() };
            leads_out.then_some(Missing::Alias(answer, target))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::Record;

    use super::*;
    use crate::answer::{address_record, alias_record};

    fn left_open(name: &str, code: ResponseCode, answers: Vec<Record>) -> Option<String> {
        let query_type = if name.ends_with("arpa.") { RecordType::PTR } else { RecordType::A };
        let mut reply = Message::query();
        reply.add_query(Query::query(Name::from_ascii(name).unwrap(), query_type));
        reply.metadata.response_code = code;
        reply.answers = answers;
        of(reply, &DnsOptions::default()).map(|missing| match missing {
            Missing::All => "all".into(),
            Missing::Alias(answer, target) => format!("{target} after {}", answer.answers.len()),
        })
    }

    #[test]
    fn only_what_others_answer_for_is_left_open() {
        let (ours, address) = (Name::from_ascii("web.service.consul.").unwrap(), [10, 0, 0, 1].into());
        let alias = |target: &str| alias_record(ours.clone(), 0, Name::from_ascii(target).unwrap());
        let reverse = "1.0.0.10.in-addr.arpa.";
        assert_eq!(left_open(reverse, ResponseCode::NXDomain, vec![]).as_deref(), Some("all"));
        assert_eq!(left_open(reverse, ResponseCode::ServFail, vec![]), None, "nobody knows whether it is there");
        assert_eq!(left_open("web.service.consul.", ResponseCode::NXDomain, vec![]), None);
        let leads_out = left_open("web.service.consul.", ResponseCode::NoError, vec![alias("example.org.")]);
        assert_eq!(leads_out.as_deref(), Some("example.org. after 1"));
        assert_eq!(left_open("web.service.consul.", ResponseCode::NoError, vec![alias("a.node.consul.")]), None);
        let whole = vec![alias("example.org."), address_record(Name::from_ascii("example.org.").unwrap(), 0, address)];
        assert_eq!(left_open("web.service.consul.", ResponseCode::NoError, whole), None, "the server has completed it");
    }
}
