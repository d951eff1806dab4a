//! `jurist serve`: the page and, if asked, a bundle, as static files on this machine.
//!
//! It serves only files below the named folders, listens on this machine unless `--host` names another address, and answers only
//! to the names of [`hosts`](super::hosts). It answers ranges, so that a broken download can continue.

use std::fs::File;
use std::io::{Cursor, Result, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::hosts::Hosts;
use super::http::{self, Answer, Limits, Request};
use super::{CliError, Context, ServeArgs};
use crate::bundle::MANIFEST;
use crate::judge::JudgeError;
use crate::model_folder::ModelFolder;
use crate::progress::Progress;

/// What the page may do: run its own scripts and wasm, in workers too, talk to this server, and (its worker only: the page's
/// own policy is narrower) fetch a judge from an address that the visitor gives.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self' https:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves until the process is ended.
pub fn run(args: &ServeArgs, context: &Context) -> std::result::Result<(), CliError> {
    let mut progress = context.progress();
    let site = Site::open(&args.dir, args.bundle.as_deref())?;
    if !args.dir.join("engine").join("jurist_bg.wasm").is_file() {
        progress.warn(&format!(
            "{} has no engine/jurist_bg.wasm, so judges cannot run there; `make web` builds it",
            args.dir.display()
        ));
    }
    let address = std::net::SocketAddr::new(args.host, args.port);
    let refused = |e| CliError::Failed(format!("cannot listen on {address}: {e}; choose another --port or --host"));
    let listener = TcpListener::bind(address).map_err(refused)?;
    // With port 0 the system has chosen one.
    let address = listener.local_addr().unwrap_or(address);
    if !args.host.is_loopback() {
        let under = if args.host.is_unspecified() { "any address of this machine".into() } else { format!("{}", args.host) };
        progress.warn(&format!(
            "others can reach these files now, under {under} and each name given by --allow-host; browsers elsewhere offer WebGPU \
             only to https pages, so put a TLS proxy in front and allow its name",
        ));
    }
    super::print(&format!("http://{address}/\n"))?;
    if site.bundle.is_some() {
        super::print(&format!("http://{address}/bundle/{MANIFEST}\n"))?;
    }
    progress.note("Ctrl-C ends it");
    let hosts = Hosts::new(address, &args.allow_host);
    http::serve(&listener, Limits::default(), |request| match hosts.check(request) {
        Ok(()) => site.answer(request),
        Err((status, why)) => Ok(say(status, &why, Vec::new())),
    });
    Ok(())
}

/// The folders that are served, in their canonical form.
struct Site {
    page: PathBuf,
    bundle: Option<PathBuf>,
}

/// The answer to a request.
enum Found {
    File(File, PathBuf),
    Missing,
    /// A folder without the slash that its relative links need.
    Folder,
}

impl Site {
    fn open(page: &Path, bundle: Option<&Path>) -> std::result::Result<Self, CliError> {
        if !page.join("index.html").is_file() {
            let advice = "run this in jurist's repository, or give --dir the page's folder";
            return Err(CliError::Failed(format!("there is no index.html in {}; {advice}", page.display())));
        }
        let canonical = |dir: &Path| {
            std::fs::canonicalize(dir).map_err(|e| CliError::Failed(format!("cannot open the folder {}: {e}", dir.display())))
        };
        if let Some(dir) = bundle {
            let folder = ModelFolder::open(dir).map_err(JudgeError::from)?;
            if folder.manifest().is_none() {
                let advice = "make one with `jurist export`";
                return Err(CliError::Failed(format!("{} is no bundle (it has no {MANIFEST}); {advice}", dir.display())));
            }
        }
        Ok(Site { page: canonical(page)?, bundle: bundle.map(canonical).transpose()? })
    }

    /// The file that a URL names.
    fn find(&self, url: &str) -> Found {
        let path = url.split(['?', '#']).next().unwrap_or_default();
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
            Ok(real) if real.starts_with(root) && real.is_file() => {
                File::open(&real).map_or(Found::Missing, |opened| Found::File(opened, real))
            }
            _ => Found::Missing,
        }
    }

    fn answer(&self, request: &Request) -> Result<Answer> {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Ok(say(405, "only GET and HEAD", vec![("Allow", "GET, HEAD".into())]));
        }
        match self.find(&request.target) {
            Found::Missing => Ok(say(404, "no such file", Vec::new())),
            Found::Folder => {
                let path = request.target.split(['?', '#']).next().unwrap_or_default();
                // "//host" would be another server.
                let place = format!("/{}/", path.trim_matches('/'));
                Ok(say(308, "see there", vec![("Location", place)]))
            }
            Found::File(file, path) => send(request, file, &path),
        }
    }
}

/// A file, or the part of it that is asked for.
fn send(request: &Request, mut file: File, path: &Path) -> Result<Answer> {
    let facts = file.metadata()?;
    let length = facts.len();
    let changed = facts.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |t| t.as_nanos());
    let tag = format!("\"{length:x}-{changed:x}\"");
    // Browsers ask for each file again every time, so that they see a new build. An unchanged file costs an empty answer.
    let mut more = vec![
        ("ETag", tag.clone()),
        ("Cache-Control", "no-cache".into()),
        ("Accept-Ranges", "bytes".into()),
        ("Content-Type", mime(path).into()),
    ];
    if request.header("If-None-Match").is_some_and(|tags| tags.split(',').any(|t| t.trim() == tag)) {
        return Ok(say(304, "", more));
    }
    let range = request.header("Range").filter(|_| request.header("If-Range").is_none_or(|t| t == tag));
    let (status, start, end) = match range.map(|range| part(range, length)) {
        None | Some(Part::Whole) => (200, 0, length),
        Some(Part::Bytes(start, end)) => (206, start, end),
        Some(Part::None) => return Ok(say(416, "no such range", vec![("Content-Range", format!("bytes */{length}"))])),
    };
    file.seek(SeekFrom::Start(start))?;
    if status == 206 {
        more.push(("Content-Range", format!("bytes {start}-{}/{length}", end - 1)));
    }
    Ok(Answer { status, headers: headers(more), length: end - start, body: Box::new(file) })
}

/// A short text.
fn say(status: u16, text: &str, mut more: Vec<(&'static str, String)>) -> Answer {
    let body = if text.is_empty() { Vec::new() } else { format!("{text}\n").into_bytes() };
    if !more.iter().any(|(name, _)| *name == "Content-Type") {
        more.push(("Content-Type", "text/plain; charset=utf-8".into()));
    }
    Answer { status, headers: headers(more), length: body.len() as u64, body: Box::new(Cursor::new(body)) }
}

/// Headers of every answer, and `more`.
fn headers(more: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let always = [
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ];
    always.into_iter().map(|(name, value)| (name, value.to_string())).chain(more).collect()
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
