//! The hub's side: what a model's files are called, what each of them is, and their bytes from some place on.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Response, header};
use ureq::{Agent, Body, Error, Timeout};

use super::{HubId, is_word};

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
pub const ENDPOINT: &str = "https://huggingface.co";

/// How long a connection may take, and how long it may be silent.
const CONNECT: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);

/// Most redirects of one request.
const REDIRECTS: usize = 8;

/// Why a request has no answer, or not the one that was asked for.
#[derive(Debug)]
pub enum Fault {
    /// The connection broke, or the hub is busy: worth another try.
    Broken(String),
    /// There is no connection.
    Unreachable(String),
    /// The hub says no; `code` is its word for why, or empty.
    Refused { status: u16, code: String },
    /// An answer that cannot be right.
    Odd(String),
}

/// A revision of a model.
pub struct Listing {
    pub commit: String,
    /// Names of its files.
    pub files: BTreeSet<String>,
}

/// A file, as the hub has it.
#[derive(Debug)]
pub struct Meta {
    /// The hash that the hub knows it by: SHA-256 of large files, Git's of small ones.
    pub etag: String,
    pub bytes: u64,
}

/// A connection to a hub.
pub struct Remote {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Remote {
    /// Connects to nothing yet.
    pub fn new(endpoint: &str, token: Option<&str>) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here: the token must not go to whoever stores the files.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("jurist/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .build()
            .new_agent();
        Remote { agent, endpoint: endpoint.into(), token: token.map(str::to_string) }
    }

    /// The commit of a revision, and its files.
    pub fn listing(&self, id: HubId) -> Result<Listing, Fault> {
        let url = format!("{}/api/models/{id}/revision/{}", self.endpoint, encoded(id.revision));
        let text = self.get(&url, 0)?.body_mut().read_to_string().map_err(fault)?;
        let odd = |what: &str| Fault::Odd(format!("{url} {what}"));
        let listing: Value = serde_json::from_str(&text).map_err(|_| odd("is not JSON"))?;
        let commit = listing["sha"].as_str().filter(|sha| is_word(sha)).ok_or_else(|| odd("names no commit (`sha`)"))?;
        let files = listing["siblings"].as_array().ok_or_else(|| odd("lists no files (`siblings`)"))?;
        let files = files.iter().filter_map(|file| file["rfilename"].as_str()).map(str::to_string).collect();
        Ok(Listing { commit: commit.into(), files })
    }

    /// Where a file's bytes are.
    pub fn url(&self, id: HubId, commit: &str, file: &str) -> String {
        format!("{}/{id}/resolve/{commit}/{}", self.endpoint, encoded(file))
    }

    /// What the file at `url` is.
    pub fn meta(&self, url: &str) -> Result<Meta, Fault> {
        // What is stored elsewhere is described by the hub's redirect; a model that was renamed is redirected within the hub.
        let mut at = url.to_string();
        for _ in 0..REDIRECTS {
            let answer = self.call(true, &at, 0)?;
            let status = answer.status().as_u16();
            let inner = target(&at, &answer).filter(|to| status / 100 == 3 && origin(to) == origin(&at));
            if let Some(to) = inner.filter(|_| text(&answer, "x-linked-etag").is_none()) {
                at = to;
                continue;
            }
            if status / 100 > 3 {
                return Err(refused(&answer));
            }
            let etag = text(&answer, "x-linked-etag").or_else(|| text(&answer, "etag"));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_string());
            let bytes = text(&answer, "x-linked-size").or_else(|| text(&answer, "content-length"));
            let bytes = bytes.and_then(|bytes| bytes.parse().ok());
            return match (etag.filter(|etag| is_word(etag)), bytes) {
                (Some(etag), Some(bytes)) => Ok(Meta { etag, bytes }),
                _ => Err(Fault::Odd(format!("{url} has no etag or no length"))),
            };
        }
        Err(Fault::Odd(format!("{url} is redirected again and again")))
    }

    /// The bytes at `url` from `start` on; the answer says from where on they really are ([`begins`]).
    pub fn get(&self, url: &str, start: u64) -> Result<Response<Body>, Fault> {
        let mut at = url.to_string();
        for _ in 0..REDIRECTS {
            let answer = self.call(false, &at, start)?;
            match (answer.status().as_u16(), target(&at, &answer)) {
                (200 | 206 | 416, _) => return Ok(answer),
                (300..400, Some(to)) => at = to,
                _ => return Err(refused(&answer)),
            }
        }
        Err(Fault::Odd(format!("{url} is redirected again and again")))
    }

    fn call(&self, head: bool, url: &str, start: u64) -> Result<Response<Body>, Fault> {
        let request = if head { self.agent.head(url) } else { self.agent.get(url) };
        let request = request.header(header::ACCEPT_ENCODING, "identity");
        let request = if start > 0 { request.header(header::RANGE, format!("bytes={start}-")) } else { request };
        let token = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint));
        let request = match token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        request.call().map_err(fault)
    }
}

/// The byte that an answer to [`Remote::get`] begins with; `None` where the hub has no such byte.
pub fn begins(answer: &Response<Body>) -> Option<u64> {
    match answer.status().as_u16() {
        206 => text(answer, "content-range")?.strip_prefix("bytes ")?.split('-').next()?.parse().ok(),
        416 => None,
        _ => Some(0),
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    &url[..url[host..].find('/').map_or(url.len(), |at| host + at)]
}

/// Where an answer sends on to.
fn target(from: &str, answer: &Response<Body>) -> Option<String> {
    let to = text(answer, "location")?;
    match to.starts_with('/') && !to.starts_with("//") {
        true => Some(format!("{}{to}", origin(from))),
        false => Some(to).filter(|to| to.starts_with("http://") || to.starts_with("https://")),
    }
}

fn text(answer: &Response<Body>, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_string)
}

/// One part of a URL's path.
fn encoded(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F").replace('+', "%2B")
}

fn refused(answer: &Response<Body>) -> Fault {
    match answer.status().as_u16() {
        status @ (408 | 429 | 500..) => Fault::Broken(format!("the hub answers {status}")),
        status => Fault::Refused { status, code: text(answer, "x-error-code").unwrap_or_default() },
    }
}

/// Names that cannot be resolved, certificates that are not trusted and addresses that are none come back the same another time;
/// a connection that was there and broke need not.
fn fault(error: Error) -> Fault {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, TimedOut, UnexpectedEof, WouldBlock};
    let why = error.to_string();
    match error {
        Error::Io(io) => match io.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | Interrupted | TimedOut | UnexpectedEof | WouldBlock => {
                Fault::Broken(why)
            }
            _ => Fault::Unreachable(why),
        },
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => Fault::Unreachable(why),
        Error::Timeout(_) => Fault::Broken(why),
        Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::BodyExceedsLimit(_) => Fault::Odd(why),
        _ => Fault::Unreachable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_names() {
        assert_eq!(origin("https://a.test/b/c"), "https://a.test");
        assert_eq!(origin("http://127.0.0.1:81"), "http://127.0.0.1:81");
        assert_ne!(origin("http://127.0.0.1:81/a"), origin("http://127.0.0.1:82/a"));
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
    }
}
