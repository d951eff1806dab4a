//! Every shader variant in a real browser: Chromium's compiler (Tint) refuses things that naga accepts, such as a barrier
//! that not all threads of a workgroup may reach.
//!
//! The test serves one page to a headless Chromium with its software adapter; the page has Tint check all variants and posts
//! back what it says. A pipeline is made of the first and the last variant of each entry point only: that step is
//! SwiftShader's code generator, which nobody ships and which takes 3.5 minutes for all of them.
//! `JURIST_SKIP_BROWSER=1` skips the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::skip;
use jurist::gpu::{KernelSpec, assemble_for_browsers};
use jurist::ops::catalogue;

const BROWSERS: [&str; 5] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"];
const PATIENCE: Duration = Duration::from_secs(600);

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Tint</title><script type="module">
const report = (text) => fetch("/result", { method: "POST", body: JSON.stringify(text) });
try {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error("the browser offers no WebGPU adapter");
  const device = await adapter.requestDevice({ requiredFeatures: ["subgroups"] }); // WebGPU's default limits
  const kernels = await (await fetch("/kernels")).json();
  const compile = async ({ name, entry, code, pipeline }) => {
    const module = device.createShaderModule({ code, label: name });
    const messages = (await module.getCompilationInfo()).messages.filter((m) => m.type === "error");
    if (messages.length) {
      const line = (m) => `line ${m.lineNum}: ${m.message}\n    ${code.split("\n")[m.lineNum - 1] ?? ""}`;
      return `${name}: ${messages.map(line).join("\n  ")}`;
    }
    if (!pipeline) return;
    try {
      await device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: entry } });
    } catch (e) {
      return `${name}: ${e.message}`;
    }
  };
  const failures = (await Promise.all(kernels.map(compile))).filter(Boolean);
  await report({ compiled: kernels.length, failures });
} catch (e) {
  await report({ compiled: 0, failures: [String(e)] });
}
</script>"#;

#[derive(serde::Deserialize)]
struct Verdict {
    compiled: usize,
    failures: Vec<String>,
}

#[test]
fn every_variant_compiles_in_chromium() {
    if std::env::var("JURIST_SKIP_BROWSER").is_ok_and(|v| v == "1") {
        skip("JURIST_SKIP_BROWSER=1");
        return;
    }
    let specs: Vec<KernelSpec> = catalogue().into_iter().filter(|spec| !spec.needs_matrix_units()).collect();
    let kernels: Vec<serde_json::Value> = specs
        .iter()
        .enumerate()
        .map(|(at, spec)| {
            let code = assemble_for_browsers(spec).unwrap_or_else(|e| panic!("{e}"));
            let same = |other: &KernelSpec| (other.file, other.entry) == (spec.file, spec.entry);
            let pipeline = !specs[..at].iter().any(same) || !specs[at + 1..].iter().any(same);
            serde_json::json!({ "name": spec.to_string(), "entry": spec.entry, "code": code, "pipeline": pipeline })
        })
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let profile = tempfile::tempdir().expect("a temporary folder");
    let address = listener.local_addr().expect("the port");
    let mut browser = open(&format!("http://{address}/"), profile.path());
    let verdict = serve(&listener, &serde_json::json!(kernels).to_string(), &mut browser.0);
    assert!(verdict.failures.is_empty(), "Chromium refuses:\n{}", verdict.failures.join("\n"));
    assert_eq!(verdict.compiled, kernels.len());
}

/// Killed when the test ends, however it ends.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(url: &str, profile: &std::path::Path) -> Browser {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = BROWSERS.iter().flat_map(|name| std::env::split_paths(&path).map(move |p| p.join(name))).find(|p| p.is_file());
    let program = program.unwrap_or_else(|| {
        panic!(
            "no Chromium was found; it checks the shaders with the compiler of browsers. Install it (Debian, Ubuntu: \
             `sudo apt-get install chromium`), or set JURIST_SKIP_BROWSER=1 to skip this test"
        )
    });
    let child = Command::new(&program)
        .args(["--headless", "--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"])
        .args(["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--disable-sync", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Browser(child.unwrap_or_else(|e| panic!("{} does not start: {e}", program.display())))
}

/// Answers the page's requests until it posts its verdict.
fn serve(listener: &TcpListener, kernels: &str, browser: &mut Child) -> Verdict {
    listener.set_nonblocking(true).expect("a listener that can be polled");
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Ok(Some(body)) = answer(stream, kernels) {
                    return serde_json::from_str(&body).unwrap_or_else(|e| panic!("the page posted {body}: {e}"));
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
        assert!(start.elapsed() < PATIENCE, "Chromium did not finish within {PATIENCE:?}");
        if let Ok(Some(status)) = browser.try_wait() {
            panic!("Chromium ended before it answered: {status}");
        }
    }
}

/// One HTTP request; the body if it is the verdict.
fn answer(mut stream: TcpStream, kernels: &str) -> std::io::Result<Option<String>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (kind, text) = match request.split_whitespace().nth(1) {
        Some("/") => ("text/html", PAGE),
        Some("/kernels") => ("application/json", kernels),
        _ => ("text/plain", ""),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())?;
    Ok(request.starts_with("POST /result").then(|| String::from_utf8_lossy(&body).into_owned()))
}
