//! Looks up what a question asks for, in one directory.

use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};
use rand::seq::index;
use service::Error;
use service::discovery::{Directory, SERVERS};
use state::{Node, NodeView};

use crate::answer::{self, Answer};
use crate::endpoints::{EndpointCache, Endpoints, Host, Target};
use crate::limits::Room;
use crate::options::{DnsOptions, seconds};
use crate::question::{self, InZone, Lookup, Subject};

/// How many names may lead to one another before an answer ends.
const ALIAS_DEPTH_MAX: usize = 3;

/// Most servers named in an NS answer.
const NAME_SERVERS_MAX: usize = 3;

/// An answer, and perhaps a name outside our zones at which it goes on.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) answer: Answer,
    /// The name whose records would complete the answer.
    pub(crate) elsewhere: Option<Name>,
}

impl From<Answer> for Resolved {
    fn from(answer: Answer) -> Self {
        Resolved { answer, elsewhere: None }
    }
}

/// One question, and all that is needed to look up its answer.
pub(crate) struct Resolver<'a> {
    pub(crate) directory: &'a Directory<'a>,
    pub(crate) endpoints: &'a EndpointCache,
    pub(crate) options: &'a DnsOptions,
    /// The name as it was asked for: answers echo its letters' case.
    pub(crate) name: &'a Name,
    pub(crate) query_type: RecordType,
    pub(crate) room: Room,
    /// How many names have led here.
    pub(crate) depth: usize,
}

impl Resolver<'_> {
    /// Answers for a name in one of our zones.
    pub(crate) fn in_zone(&self, question: &InZone) -> Resolved {
        match self.query_type {
            RecordType::SOA => return self.zone_soa(question).into(),
            RecordType::NS => return self.name_servers(question).unwrap_or_else(|error| self.refused(&error, question)).into(),
            _ => {}
        }
        let resolved = match &question.subject {
            Subject::Node(name) => self.node(name, question),
            Subject::Service { name, tag } => self.service(name, tag.as_deref(), question),
            Subject::Address(address) => Ok(self.address(*address, question).into()),
            Subject::Apex | Subject::Query | Subject::Nothing => Ok(self.no_name(question).into()),
        };
        resolved.unwrap_or_else(|error| self.refused(&error, question).into())
    }

    /// Who has `address`; `None` when nobody here has.
    pub(crate) fn reverse(&self, address: IpAddr) -> Option<Answer> {
        let zone = self.options.domain.name();
        let datacenter = self.directory.datacenter();
        let target = match self.directory.node_at(address) {
            Some(node) => answer::node_name(&node.name, datacenter, zone),
            None => answer::service_name(&self.directory.service_at(address)?, datacenter, zone),
        };
        let mut answer = Answer::from_zone();
        if matches!(self.query_type, RecordType::PTR | RecordType::ANY) {
            let ttl = seconds(self.options.node_ttl);
            answer.answers.extend(target.map(|target| answer::pointer_record(self.name.clone(), ttl, target)));
        }
        if answer.answers.is_empty() {
            answer.authorities.push(answer::soa_record(zone, &self.options.soa));
        }
        Some(answer)
    }

    fn zone_soa(&self, question: &InZone) -> Answer {
        Answer { answers: vec![answer::soa_record(&question.zone, &self.options.soa)], ..Answer::from_zone() }
    }

    fn name_servers(&self, question: &InZone) -> Result<Answer, Error> {
        let mut answer = Answer::from_zone();
        let Some(view) = self.directory.service(SERVERS)? else { return Ok(answer) };
        let servers = self.endpoints.get(view, SERVERS, None, self.options);
        let ttl = seconds(self.options.node_ttl);
        for at in index::sample(&mut rand::rng(), servers.targets.len(), servers.targets.len().min(NAME_SERVERS_MAX)) {
            let node = &servers.targets[at].node;
            let Some(name) = answer::node_name(&node.name, self.directory.datacenter(), &question.zone) else { continue };
            if let Some(Host::Address(address)) = Host::read(&node.address) {
                answer.additionals.push((answer.answers.len(), answer::address_record(name.clone(), ttl, address)));
            }
            answer.answers.push(answer::server_record(question.zone.clone(), ttl, name));
        }
        Ok(answer)
    }

    fn address(&self, address: IpAddr, question: &InZone) -> Answer {
        if !self.wants(address) {
            return self.no_data(question);
        }
        let record = answer::address_record(self.name.clone(), seconds(self.options.node_ttl), address);
        Answer { answers: vec![record], ..Answer::from_zone() }
    }

    fn node(&self, name: &str, question: &InZone) -> Result<Resolved, Error> {
        let Some(view) = self.directory.node(name)? else { return Ok(self.no_name(question).into()) };
        Ok(self.node_answer(view, question))
    }

    fn node_answer(&self, view: &NodeView, question: &InZone) -> Resolved {
        let ttl = seconds(self.options.node_ttl);
        let mut resolved = Resolved::from(Answer::from_zone());
        match Host::read(&view.node.address) {
            Some(Host::Address(address)) if self.wants(address) => {
                resolved.answer.answers.push(answer::address_record(self.name.clone(), ttl, address));
            }
            Some(Host::Name(target)) if self.wants_alias() => self.alias(target, ttl, &mut resolved),
            _ => {}
        }
        let meta = answer::meta_records(self.name, ttl, &view.node);
        if matches!(self.query_type, RecordType::TXT | RecordType::ANY) {
            resolved.answer.answers.extend(meta);
        } else if self.options.enable_additional_node_meta_txt && !resolved.answer.answers.is_empty() {
            resolved.answer.additionals.extend(meta.map(|record| (0, record)));
        }
        self.or_no_data(resolved, question)
    }

    fn service(&self, name: &str, tag: Option<&str>, question: &InZone) -> Result<Resolved, Error> {
        let Some(view) = self.directory.service(name)? else { return Ok(self.no_name(question).into()) };
        let endpoints = self.endpoints.get(view, name, tag, self.options);
        if endpoints.usable == 0 {
            return Ok(self.no_name(question).into());
        }
        let mut resolved = Resolved::from(Answer::from_zone());
        match self.query_type {
            RecordType::SRV => self.targets(&endpoints, question, &mut resolved.answer),
            RecordType::TXT => self.nodes_meta(&endpoints, &mut resolved.answer),
            _ => self.addresses(&endpoints, &mut resolved),
        }
        Ok(self.or_no_data(resolved, question))
    }

    /// Addresses in random order; when there is none, one of the other names.
    fn addresses(&self, endpoints: &Endpoints, resolved: &mut Resolved) {
        let v4 = if self.wants_v4() { endpoints.v4.as_slice() } else { &[] };
        let v6 = if self.wants_v6() { endpoints.v6.as_slice() } else { &[] };
        let address = |at: usize| v4.get(at).map_or_else(|| IpAddr::from(v6[at - v4.len()]), |address| IpAddr::from(*address));
        let picks = self.pick(v4.len() + v6.len(), self.options.a_record_limit, &mut resolved.answer);
        let records = picks.into_iter().map(|at| answer::address_record(self.name.clone(), endpoints.ttl, address(at)));
        resolved.answer.answers.extend(records);
        if resolved.answer.answers.is_empty() && self.wants_alias() && !endpoints.names.is_empty() {
            let at = rand::random_range(..endpoints.names.len());
            self.alias(endpoints.names[at].clone(), endpoints.ttl, resolved);
        }
    }

    fn targets(&self, endpoints: &Endpoints, question: &InZone, answer: &mut Answer) {
        // Meta stands after all addresses: where there is no room for both, a client needs those.
        let mut meta = Vec::new();
        for target in self.pick(endpoints.targets.len(), 0, answer).into_iter().map(|at| &endpoints.targets[at]) {
            let Some(name) = self.target_name(target, question) else { continue };
            let place = answer.answers.len();
            if let Host::Address(address) = target.host {
                answer.additionals.push((place, answer::address_record(name.clone(), endpoints.ttl, address)));
            }
            if target.at_node && self.options.enable_additional_node_meta_txt {
                meta.extend(answer::meta_records(&name, endpoints.ttl, &target.node).map(|record| (place, record)));
            }
            answer.answers.push(answer::srv_record(self.name.clone(), endpoints.ttl, target.weight, target.port, name));
        }
        answer.additionals.extend(meta);
    }

    /// A name that resolves to the very instance.
    fn target_name(&self, target: &Target, question: &InZone) -> Option<Name> {
        let datacenter = self.directory.datacenter();
        match &target.host {
            Host::Name(name) => Some(name.clone()),
            Host::Address(address) => {
                let node = if target.at_node { answer::node_name(&target.node.name, datacenter, &question.zone) } else { None };
                node.or_else(|| answer::address_name(*address, datacenter, &question.zone))
            }
        }
    }

    fn nodes_meta(&self, endpoints: &Endpoints, answer: &mut Answer) {
        let mut nodes: Vec<&Node> = endpoints.targets.iter().map(|target| &*target.node).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        for at in self.pick(nodes.len(), 0, answer) {
            answer.answers.extend(answer::meta_records(self.name, endpoints.ttl, nodes[at]));
        }
    }

    /// An alias and what stands at its target, as far as that is in our zones.
    fn alias(&self, target: Name, ttl: u32, resolved: &mut Resolved) {
        resolved.answer.answers.push(answer::alias_record(self.name.clone(), ttl, target.clone()));
        if self.query_type == RecordType::CNAME {
            return;
        }
        match question::read(&target, self.query_type, self.options.zones()) {
            Lookup::Zone(question) if self.depth < ALIAS_DEPTH_MAX => {
                let next = Resolver { name: &target, depth: self.depth + 1, ..*self };
                let there = next.in_zone(&question);
                resolved.answer.answers.extend(there.answer.answers);
                resolved.answer.cut |= there.answer.cut;
                resolved.elsewhere = there.elsewhere;
            }
            Lookup::Zone(_) | Lookup::Reverse(_) => {}
            Lookup::Elsewhere => resolved.elsewhere = Some(target),
        }
    }

    /// Some of `total` records in random order: no more than `limit`, unless that is 0, and no more
    /// than there is room for.
    fn pick(&self, total: usize, limit: usize, answer: &mut Answer) -> Vec<usize> {
        let wanted = if limit == 0 { total } else { total.min(limit) };
        let kept = wanted.min(self.room.answers);
        answer.cut |= kept < wanted;
        index::sample(&mut rand::rng(), total, kept).into_vec()
    }

    fn wants_v4(&self) -> bool {
        matches!(self.query_type, RecordType::A | RecordType::ANY)
    }

    fn wants_v6(&self) -> bool {
        matches!(self.query_type, RecordType::AAAA | RecordType::ANY)
    }

    fn wants(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.wants_v4() } else { self.wants_v6() }
    }

    fn wants_alias(&self) -> bool {
        self.wants_v4() || self.wants_v6() || self.query_type == RecordType::CNAME
    }

    fn no_name(&self, question: &InZone) -> Answer {
        Answer::no_name(&question.zone, &self.options.soa)
    }

    fn no_data(&self, question: &InZone) -> Answer {
        Answer::no_data(&question.zone, &self.options.soa)
    }

    fn or_no_data(&self, resolved: Resolved, question: &InZone) -> Resolved {
        if resolved.answer.answers.is_empty() { self.no_data(question).into() } else { resolved }
    }

    fn refused(&self, error: &Error, question: &InZone) -> Answer {
        Answer::refused(error, &question.zone, &self.options.soa)
    }
}
