//! What an HTTP probe will send, worked out once from its definition.

use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method};
use state::CheckDefinition;
use url::Url;

/// How long a target may take when its definition says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP probe, or why there can be none.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What to ask, if the definition makes sense.
    pub(crate) ask: Result<Ask, String>,
    /// How long everything together may take.
    pub(crate) timeout: Duration,
    /// Most bytes of the answer's body to report.
    pub(crate) output_bytes_max: usize,
}

/// A request and how it is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Whom and what to ask.
    pub(crate) url: Url,
    /// The method.
    pub(crate) method: Method,
    /// Every header that is sent, but `host` unless it was given.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
    /// Whether to go where a redirect points.
    pub(crate) follow: bool,
    /// The name to verify the certificate for, when it is not the host's.
    pub(crate) server_name: Option<String>,
    /// Whether any certificate will do.
    pub(crate) any_certificate: bool,
}

impl Plan {
    /// Works out the probe.
    pub(crate) fn new(definition: &CheckDefinition, output_bytes_max: usize) -> Self {
        let timeout = definition.timeout_ms.filter(|ms| *ms > 0).map_or(TIMEOUT, Duration::from_millis);
        Plan { ask: ask(definition), timeout, output_bytes_max }
    }

    /// How the probe is called in its output: a password is not shown.
    pub(crate) fn title(&self) -> String {
        match &self.ask {
            Ok(ask) if ask.url.password().is_some() => {
                let mut url = ask.url.clone();
                // A URL with a password can always have another one.
                let _ = url.set_password(Some("xxxxx"));
                format!("HTTP {} {url}", ask.method)
            }
            Ok(ask) => format!("HTTP {} {}", ask.method, ask.url),
            Err(_) => "HTTP check".to_owned(),
        }
    }
}

fn ask(definition: &CheckDefinition) -> Result<Ask, String> {
    let text = definition.http.as_deref().ok_or("the check has no URL")?;
    let url = Url::parse(text).map_err(|cause| format!("`{text}` is not a URL: {cause}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{text}` is neither an `http` nor an `https` URL"));
    }
    let method = match definition.method.as_deref().unwrap_or_default() {
        "" => Method::GET,
        name => Method::from_bytes(name.to_ascii_uppercase().as_bytes()).map_err(|_| format!("`{name}` is not an HTTP method"))?,
    };
    Ok(Ask {
        headers: headers(definition, &url)?,
        url,
        method,
        body: definition.body.as_deref().map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body.as_bytes())),
        follow: !definition.disable_redirects,
        server_name: definition.tls_server_name.as_deref().filter(|name| !name.is_empty()).map(str::to_owned),
        any_certificate: definition.tls_skip_verify,
    })
}

fn headers(definition: &CheckDefinition, url: &Url) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in &definition.headers {
        let header = HeaderName::try_from(&**name).map_err(|_| format!("`{name}` is not a header name"))?;
        for value in values {
            let value = HeaderValue::try_from(&**value).map_err(|_| format!("header `{name}` has a value that can't be sent"))?;
            headers.append(header.clone(), value);
        }
    }
    let mut default = |name: HeaderName, value: HeaderValue| {
        headers.entry(name).or_insert(value);
    };
    default(USER_AGENT, HeaderValue::from_static("Consul Health Check"));
    default(ACCEPT, HeaderValue::from_static("text/plain, text/*, */*"));
    if let Some(credentials) = credentials(url) {
        default(AUTHORIZATION, credentials);
    }
    // The connection serves one probe, so that each finds out whether a new one can be made.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(headers)
}

/// The user and password of a URL, as a header.
fn credentials(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode(text);
    let pair = [decoded(url.username()), decoded(url.password().unwrap_or_default())].join(&b':');
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    HeaderValue::try_from(text).ok()
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    decoded
}

impl Ask {
    /// The value of the `host` header: the one that was given, else that of the URL.
    pub(crate) fn host(&self) -> HeaderValue {
        let given = self.headers.get(HOST).cloned();
        given.unwrap_or_else(|| {
            let host = self.url.host_str().unwrap_or_default();
            let text = self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
        })
    }

    /// Where a redirect with this status leads; `None` if it leads nowhere.
    ///
    /// As browsers and Go's client do: 303 turns into a GET, 301 and 302 do so for a POST. What is
    /// secret, and a host that was given, stay behind when the redirect leaves the host.
    pub(crate) fn redirected(&self, status: u16, location: &str) -> Option<Ask> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let url = self.url.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let mut next = Ask { url, ..self.clone() };
        if next.url.host_str() != self.url.host_str() || next.url.port_or_known_default() != self.url.port_or_known_default() {
            for name in [HOST, AUTHORIZATION, http::header::COOKIE, http::header::PROXY_AUTHORIZATION] {
                next.headers.remove(name);
            }
            next.headers.extend(credentials(&next.url).map(|value| (AUTHORIZATION, value)));
        }
        let becomes_get = status == 303 && self.method != Method::HEAD || matches!(status, 301 | 302) && self.method == Method::POST;
        if becomes_get {
            next.method = Method::GET;
            next.body = Bytes::new();
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(definition: CheckDefinition) -> Ask {
        ask(&definition).unwrap()
    }

    fn get(url: &str) -> CheckDefinition {
        CheckDefinition { http: Some(url.into()), ..Default::default() }
    }

    #[test]
    fn what_is_not_given_is_as_consul_sends_it() {
        let ask = asked(get("http://example.com:8080/health?deep=1"));
        assert_eq!(ask.method, Method::GET);
        assert_eq!(ask.host(), "example.com:8080");
        assert_eq!(ask.headers[USER_AGENT], "Consul Health Check");
        assert_eq!(ask.headers[ACCEPT], "text/plain, text/*, */*");
    }

    #[test]
    fn headers_that_are_given_win() {
        let headers = [("User-Agent", vec!["mine"]), ("Host", vec!["other.example"]), ("X-Two", vec!["a", "b"])];
        let headers = headers.map(|(name, values)| (name.into(), values.into_iter().map(Into::into).collect()));
        let ask = asked(CheckDefinition { headers: headers.into_iter().collect(), ..get("http://example.com/") });
        assert_eq!(ask.host(), "other.example");
        assert_eq!(ask.headers[USER_AGENT], "mine");
        assert_eq!(ask.headers.get_all("x-two").iter().count(), 2);
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let bad_header = [("a b".into(), vec!["x".into()])].into_iter().collect();
        for (definition, named) in [
            (get("nonsense"), "nonsense"),
            (get("ftp://example.com"), "ftp://example.com"),
            (CheckDefinition { method: Some("G T".into()), ..get("http://example.com") }, "G T"),
            (CheckDefinition { headers: bad_header, ..get("http://example.com") }, "a b"),
        ] {
            let error = ask(&definition).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_password_is_sent_but_not_shown() {
        let plan = Plan::new(&get("http://user:p%40ss@example.com/"), 10);
        assert_eq!(plan.title(), "HTTP GET http://user:xxxxx@example.com/");
        // `user:p@ss`
        assert_eq!(plan.ask.unwrap().headers[AUTHORIZATION], "Basic dXNlcjpwQHNz");
    }

    #[test]
    fn redirects_keep_or_change_the_method_and_leave_secrets_behind() {
        let post = CheckDefinition { method: Some("post".into()), body: Some("x".into()), ..get("http://user:pw@a.example/one/two") };
        let ask = asked(post);
        for (status, location, expect) in [
            (302, "three", Some((Method::GET, "http://user:pw@a.example/one/three", true))),
            (307, "/four", Some((Method::POST, "http://user:pw@a.example/four", true))),
            (308, "http://b.example/", Some((Method::POST, "http://b.example/", false))),
            (303, "http://a.example:81/", Some((Method::GET, "http://a.example:81/", false))),
            (304, "/four", None),
            (302, "ftp://a.example/", None),
        ] {
            let next = ask.redirected(status, location);
            let seen = next.as_ref().map(|next| (next.method.clone(), next.url.as_str(), next.headers.contains_key(AUTHORIZATION)));
            assert_eq!(seen, expect, "{status} {location}");
        }
    }
}
