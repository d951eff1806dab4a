//! The names under which `jurist serve` answers.
//!
//! A page of another site can make its own name point to this machine (DNS rebinding); a browser then takes our files for that
//! site's. Such a request carries the other site's name in its `Host` header, and gets nothing.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};

/// A host, with a port where one is named. Addresses are in their shortest form, names in lower case without a final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl FromStr for Host {
    type Err = String;

    /// Reads `name`, `name:port`, `1.2.3.4`, `1.2.3.4:port`, `::1`, `[::1]` and `[::1]:port`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("{text:?} is no host name; expected one such as judge.example or judge.example:8443, without http://");
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Host::address(address, None));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().map_err(|_| bad())?),
            Some(_) => return Err(bad()),
        };
        if let Some(inside) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            return inside.parse().map(|address| Host::address(IpAddr::V6(address), port)).map_err(|_| bad());
        }
        if let Ok(address) = name.parse::<IpAddr>().map(|a| a.to_canonical()) {
            return if address.is_ipv4() { Ok(Host::address(address, port)) } else { Err(bad()) };
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
            return Err(bad());
        }
        Ok(Host { name, port })
    }
}

impl Host {
    fn address(address: IpAddr, port: Option<u16>) -> Self {
        Host { name: address.to_canonical().to_string(), port }
    }

    fn is_address(&self) -> bool {
        self.name.parse::<IpAddr>().is_ok()
    }
}

/// The hosts that are answered.
pub struct Hosts {
    allowed: Vec<Host>,
    /// Any address will do, since the server listens on all that this machine has: an address cannot be made to point elsewhere.
    any_address: bool,
    /// The server's own port.
    port: u16,
}

impl Hosts {
    /// This machine's own names, the address that the server listens on, and `more`.
    pub fn new(address: SocketAddr, more: &[Host]) -> Self {
        let localhost = Host { name: "localhost".into(), port: None };
        let own = ["127.0.0.1", "::1"].into_iter().filter_map(|text| text.parse().ok()).chain([address.ip()]);
        let own = own.map(|ip| Host::address(ip, None));
        let allowed = own.chain([localhost]).chain(more.iter().cloned()).collect();
        Hosts { allowed, any_address: address.ip().is_unspecified(), port: address.port() }
    }

    /// Whether a request is for this server; else the status and a sentence for its answer.
    ///
    /// # Errors
    /// No `Host` header, several, or one of another host; a target with a host of its own, as only proxies get.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_string());
        let mut named = headers.get_all(HOST).iter();
        let (Some(value), None) = (named.next(), named.next()) else { return Err(bad("A request needs one Host header.")) };
        let host = value.to_str().ok().and_then(|text| text.parse::<Host>().ok());
        let host = host.ok_or_else(|| bad("The Host header is no host name."))?;
        if !self.allows(&host) {
            let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
            let advice = "If it is yours, start jurist serve with --allow-host and this name.";
            let text = format!("This server does not answer for the host {}{port}. {advice}", host.name);
            return Err((StatusCode::MISDIRECTED_REQUEST, text));
        }
        match uri.authority() {
            None => Ok(()),
            Some(_) => Err((StatusCode::NOT_FOUND, "This server is no proxy.".into())),
        }
    }

    /// Whether a page of this origin may ask the API: one of this server's own, or one that was named. A request without an
    /// `Origin` header comes from no page.
    ///
    /// # Errors
    /// The status and a sentence for the answer.
    pub fn check_origin(&self, headers: &HeaderMap, named: &[String]) -> Result<(), (StatusCode, String)> {
        let Some(value) = headers.get(ORIGIN) else { return Ok(()) };
        let origin = value.to_str().unwrap_or_default();
        let host = origin.split_once("://").and_then(|(_, host)| host.parse::<Host>().ok());
        if named.iter().any(|own| own == origin) || host.is_some_and(|host| self.allows(&host)) {
            return Ok(());
        }
        let advice = "If it is yours, start jurist serve with --allow-origin and this origin.";
        Err((
            StatusCode::FORBIDDEN,
            format!("Pages of {} may not ask this server. {advice}", value.to_str().unwrap_or("this origin")),
        ))
    }

    /// The right name with the right port or none. A name that was allowed with a port has that one.
    fn allows(&self, host: &Host) -> bool {
        let port = |own: Option<u16>| host.port.is_none_or(|port| port == own.unwrap_or(self.port));
        let named = self.allowed.iter().any(|own| own.name == host.name && port(own.port));
        named || (self.any_address && host.is_address() && port(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_answered_by_name() {
        let host = |text: &str| text.parse::<Host>();
        let on = |address: &str, more: &[&str]| {
            Hosts::new(address.parse().unwrap(), &more.iter().map(|text| host(text).unwrap()).collect::<Vec<_>>())
        };
        let allowed = |hosts: &Hosts, text: &str| host(text).is_ok_and(|host| hosts.allows(&host));

        let own = on("127.0.0.1:8080", &[]);
        for text in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(allowed(&own, text), "{text}");
        }
        for text in [
            "",
            ":8080",
            "x",
            "evil.example:8080",
            "localhost:80",
            "localhost:8081",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example#localhost",
            "localhost@evil.example",
            "localhost:8080:8080",
            "localhost:+8080",
            "localhost:99999",
            "[::1",
            "::1]",
            "[localhost]",
            "192.168.0.2:8080",
            "0.0.0.0:8080",
            "127.0.0.2",
            "localhost ",
            "local host",
        ] {
            assert!(!allowed(&own, text), "{text}");
        }

        let more = on("192.168.0.2:80", &["Judge.Example", "proxy.example:8443", "fe80::1"]);
        for text in [
            "judge.example",
            "judge.example:80",
            "proxy.example",
            "proxy.example:8443",
            "192.168.0.2",
            "[fe80::1]:80",
            "localhost",
        ] {
            assert!(allowed(&more, text), "{text}");
        }
        for text in ["judge.example:8443", "proxy.example:80", "sub.judge.example", "192.168.0.3"] {
            assert!(!allowed(&more, text), "{text}");
        }

        // On all addresses of this machine, by any address, still not by any name.
        for all in [on("0.0.0.0:8080", &[]), on("[::]:8080", &[])] {
            for text in ["192.168.0.2:8080", "10.0.0.1", "[2001:db8::1]:8080", "0.0.0.0:8080", "localhost"] {
                assert!(allowed(&all, text), "{text}");
            }
            for text in ["evil.example:8080", "192.168.0.2:8081", "1.2.3.4.evil.example"] {
                assert!(!allowed(&all, text), "{text}");
            }
        }
        for text in ["http://judge.example", "judge.example/", "*", "*.example", "b\u{fc}cher.example", "a b"] {
            assert!(host(text).unwrap_err().contains("expected one such as"), "{text}");
        }
    }
}
