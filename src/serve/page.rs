//! The page and, if asked, a bundle, as static files.
//!
//! It serves only files below the named folders, and answers ranges, so that a broken download can continue.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, LOCATION,
    RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio_util::io::ReaderStream;

/// Bytes of a file that are read at once.
const CHUNK: usize = 64 * 1024;

/// What the page may do: run its own scripts and wasm, in workers too, talk to this server, and (its worker only: the page's
/// own policy is narrower) fetch a judge from an address that the visitor gives.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self' https:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The folders that are served, in their canonical form.
#[derive(Clone, Debug)]
pub struct Site {
    page: PathBuf,
    bundle: Option<PathBuf>,
}

/// The answer to a request.
enum Found {
    File(PathBuf),
    Missing,
    /// A folder without the slash that its relative links need.
    Folder,
}

impl Site {
    /// The page in a folder, and a bundle.
    ///
    /// # Errors
    /// No page in the folder; a folder that cannot be opened.
    pub fn open(page: &Path, bundle: Option<&Path>) -> Result<Self, String> {
        if !page.join("index.html").is_file() {
            let advice = "run this in jurist's repository, or give --dir the page's folder";
            return Err(format!("there is no index.html in {}; {advice}", page.display()));
        }
        let canonical =
            |dir: &Path| std::fs::canonicalize(dir).map_err(|e| format!("cannot open the folder {}: {e}", dir.display()));
        Ok(Site { page: canonical(page)?, bundle: bundle.map(canonical).transpose()? })
    }

    /// Whether there is a bundle at `/bundle/`.
    pub fn has_bundle(&self) -> bool {
        self.bundle.is_some()
    }

    /// The file that a URL's path names.
    fn find(&self, path: &str) -> Found {
        let Some(path) = decode(path).filter(|p| p.starts_with('/')) else { return Found::Missing };
        let (root, rest) = match (&self.bundle, path.strip_prefix("/bundle/")) {
            (Some(bundle), Some(rest)) => (bundle, rest),
            _ => (&self.page, &path[1..]),
        };
        let mut file = root.clone();
        for segment in rest.split('/').filter(|s| !s.is_empty()) {
            // No way up, no other drive, and nothing hidden.
            if segment.starts_with('.') || segment.contains(['\\', ':', '\0']) {
                return Found::Missing;
            }
            file.push(segment);
        }
        if file.is_dir() {
            if !path.ends_with('/') {
                return Found::Folder;
            }
            file.push("index.html");
        }
        // A link may not lead out of the folder either.
        match std::fs::canonicalize(&file) {
            Ok(real) if real.starts_with(root) && real.is_file() => Found::File(real),
            _ => Found::Missing,
        }
    }

    /// The answer to a request for a file.
    pub async fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return say(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD", vec![(ALLOW, "GET, HEAD".into())]);
        }
        match self.find(uri.path()) {
            Found::Missing => missing(),
            Found::Folder => {
                // "//host" would be another server.
                let place = format!("/{}/", uri.path().trim_matches('/'));
                say(StatusCode::PERMANENT_REDIRECT, "see there", vec![(LOCATION, place)])
            }
            Found::File(path) => send(headers, &path).await.unwrap_or_else(|_| missing()),
        }
    }
}

/// The answer where there is no file.
pub fn missing() -> Response<Body> {
    say(StatusCode::NOT_FOUND, "no such file", Vec::new())
}

/// A file, or the part of it that is asked for.
async fn send(headers: &HeaderMap, path: &Path) -> std::io::Result<Response<Body>> {
    let mut file = File::open(path).await?;
    let facts = file.metadata().await?;
    let length = facts.len();
    let changed = facts.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |t| t.as_nanos());
    let tag = format!("\"{length:x}-{changed:x}\"");
    // Browsers ask for each file again every time, so that they see a new build. An unchanged file costs an empty answer.
    let mut more = vec![
        (ETAG, tag.clone()),
        (CACHE_CONTROL, "no-cache".into()),
        (ACCEPT_RANGES, "bytes".into()),
        (CONTENT_TYPE, mime(path).into()),
    ];
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if header(IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|t| t.trim() == tag)) {
        return Ok(say(StatusCode::NOT_MODIFIED, "", more));
    }
    let range = header(RANGE).filter(|_| header(IF_RANGE).is_none_or(|t| t == tag));
    let (status, start, end) = match range.map(|range| part(range, length)) {
        None | Some(Part::Whole) => (StatusCode::OK, 0, length),
        Some(Part::Bytes(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(Part::None) => {
            let whole = vec![(CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok(say(StatusCode::RANGE_NOT_SATISFIABLE, "no such range", whole));
        }
    };
    if status == StatusCode::PARTIAL_CONTENT {
        more.push((CONTENT_RANGE, format!("bytes {start}-{}/{length}", end - 1)));
    }
    more.push((CONTENT_LENGTH, (end - start).to_string()));
    file.seek(SeekFrom::Start(start)).await?;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(end - start), CHUNK));
    Ok(response(status, body, more))
}

/// A short text.
pub fn say(status: StatusCode, text: &str, mut more: Vec<(HeaderName, String)>) -> Response<Body> {
    let body = if text.is_empty() { Body::empty() } else { Body::from(format!("{text}\n")) };
    if !more.iter().any(|(name, _)| *name == CONTENT_TYPE) {
        more.push((CONTENT_TYPE, "text/plain; charset=utf-8".into()));
    }
    response(status, body, more)
}

/// An answer with the headers that every file has, and `more`.
fn response(status: StatusCode, body: Body, more: Vec<(HeaderName, String)>) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let always = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    let always = always.into_iter().map(|(name, value)| (HeaderName::from_static(name), value.to_string()));
    for (name, value) in always.chain(more) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Several ranges, or none that is understood: the whole file is a right answer.
    Whole,
    /// From the first byte up to before the second.
    Bytes(u64, u64),
    /// Nothing of the file.
    None,
}

fn part(range: &str, length: u64) -> Part {
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|r| r.split_once('-')) else { return Part::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (start, end) = match (first.trim().is_empty(), number(first), last.trim().is_empty(), number(last)) {
        (true, _, _, Some(n)) => (length.saturating_sub(n), length),
        (_, Some(start), true, _) => (start, length),
        (_, Some(start), _, Some(last)) if last >= start => (start, length.min(last.saturating_add(1))),
        _ => return Part::Whole,
    };
    if start < end { Part::Bytes(start, end) } else { Part::None }
}

/// A path with its `%xx` as bytes; `None` where that is no UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (code, tail) = tail.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// The type of a file by its name. Browsers run no module and no streamed wasm of another type.
fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("jsonl") => "application/x-ndjson; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("txt" | "md" | "ts") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            ("bytes=0-9", Part::Bytes(0, 10)),
            ("bytes=90-", Part::Bytes(90, 100)),
            ("bytes=-7", Part::Bytes(93, 100)),
            ("bytes=-200", Part::Bytes(0, 100)),
            ("bytes=50-500", Part::Bytes(50, 100)),
            ("bytes=100-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=9-3", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("bytes=18446744073709551615-18446744073709551615", Part::None),
        ];
        for (range, expected) in cases {
            assert_eq!(part(range, 100), expected, "{range}");
        }
    }

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decode("/a%20b").as_deref(), Some("/a b"));
        assert_eq!(decode("/%252e").as_deref(), Some("/%2e"));
        assert_eq!([decode("/%"), decode("/%zz"), decode("/%ff"), decode("/%2")], [const { None }; 4]);
    }
}
