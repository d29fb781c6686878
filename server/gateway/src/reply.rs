//! Answers: a status, headers, and a body that may be shared, streamed or compressed.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use forward::REASON;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use service::{Consistency, Meta};

use crate::cache::{Encoded, gzip as compress};
use crate::percent;
use crate::status::Fault;

/// Smallest body that is worth compressing, in bytes.
const GZIP_BYTES_MIN: usize = 1400;

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
const EFFECTIVE_CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");
const QUERY_BACKEND: HeaderName = HeaderName::from_static("x-consul-query-backend");
const DEFAULT_ACL_POLICY: HeaderName = HeaderName::from_static("x-consul-default-acl-policy");

/// The values involved in a refusal, as `name=value` joined by `&`, escaped as in a URL.
const DETAILS: HeaderName = HeaderName::from_static("x-lictor-details");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const FALSE: HeaderValue = HeaderValue::from_static("false");
const ZERO: HeaderValue = HeaderValue::from_static("0");

/// What is sent.
pub(crate) enum Content {
    Empty,
    Bytes(Bytes),
    /// An encoded list that others are sent as well.
    Shared(Arc<Encoded>),
    Stream(Body),
}

/// An answer before the finishing touches.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// Puts the headers of this agent's own configuration on an answer that came from elsewhere.
pub(crate) fn with_headers(mut answer: Response, extra: &[(HeaderName, HeaderValue)]) -> Response {
    for (name, value) in extra {
        answer.headers_mut().insert(name.clone(), value.clone());
    }
    answer
}

impl Reply {
    /// 200 and nothing else.
    pub(crate) fn empty() -> Self {
        Reply { status: StatusCode::OK, headers: HeaderMap::with_capacity(12), content: Content::Empty }
    }

    /// 200 with JSON.
    pub(crate) fn json(content: Content) -> Self {
        Reply { content, ..Reply::empty() }.with(CONTENT_TYPE, JSON)
    }

    /// Plain text.
    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Reply { status, content: Content::Bytes(text.into()), ..Reply::empty() }.with(CONTENT_TYPE, PLAIN)
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header whose value is data; a value that can't be a header is left out.
    pub(crate) fn with_text(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }

    /// Adds the stable code of a refusal.
    pub(crate) fn because(self, reason: &'static str) -> Self {
        self.with(REASON.clone(), HeaderValue::from_static(reason))
    }

    /// Adds the place in time of the answer.
    pub(crate) fn at(mut self, meta: &Meta) -> Self {
        self.headers.insert(INDEX, meta.index.0.into());
        self.contact(meta.leader_known, meta.last_contact.as_millis())
    }

    /// Adds how the answering server stands to its leader.
    pub(crate) fn contact(mut self, leader_known: bool, last_contact_ms: u128) -> Self {
        self.headers.insert(KNOWN_LEADER, if leader_known { TRUE } else { FALSE });
        let contact = if last_contact_ms == 0 { ZERO } else { u64::try_from(last_contact_ms).unwrap_or(u64::MAX).into() };
        self.headers.insert(LAST_CONTACT, contact);
        self
    }

    /// Adds how fresh the answer is, and by what mechanism.
    pub(crate) fn how(self, meta: &Meta) -> Self {
        let consistency = match meta.consistency {
            Consistency::Linearizable => "consistent",
            Consistency::Leased => "leader",
            Consistency::Stale => "stale",
        };
        self.with(EFFECTIVE_CONSISTENCY, HeaderValue::from_static(consistency))
            .with(QUERY_BACKEND, HeaderValue::from_static("blocking-query"))
    }

    /// A refusal. Endpoints that report an index do so even then, so that clients which look for
    /// it find it.
    pub(crate) fn fault(fault: Fault, indexed: bool) -> Self {
        let mut reply = Reply::text(fault.status, fault.text);
        if let Some(reason) = fault.reason {
            reply = reply.because(reason.as_str());
        }
        if !fault.details.is_empty() {
            reply = reply.with_text(DETAILS, &percent::pairs(&fault.details));
        }
        if let Some(allow) = fault.allow {
            reply = reply.with_text(ALLOW, &allow);
        }
        if indexed {
            reply.headers.insert(INDEX, HeaderValue::from_static("1"));
            reply = reply.contact(false, 0);
        }
        reply
    }

    /// Puts on the headers of every answer, and compresses the body if the client takes that.
    pub(crate) fn finish(self, gzip: bool, extra: &[(HeaderName, HeaderValue)]) -> Response {
        let Reply { status, mut headers, content } = self;
        headers.insert(DEFAULT_ACL_POLICY, HeaderValue::from_static("allow"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        for (name, value) in extra {
            headers.insert(name.clone(), value.clone());
        }
        let body = match content {
            Content::Empty => Body::empty(),
            Content::Stream(body) => body,
            Content::Bytes(bytes) if bytes.len() >= GZIP_BYTES_MIN && gzip => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                Body::from(compress(&bytes))
            }
            Content::Bytes(bytes) => Body::from(bytes),
            Content::Shared(encoded) if encoded.body.len() >= GZIP_BYTES_MIN && gzip => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                Body::from(encoded.gzip())
            }
            Content::Shared(encoded) => Body::from(encoded.body.clone()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Whether a client takes compressed answers.
pub(crate) fn takes_gzip(asked: &HeaderMap) -> bool {
    let Some(accepted) = asked.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()) else { return false };
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}
