//! One question, one answer: redirects followed by hand, trouble that passes tried again, bodies read no further
//! than they were asked for.
//!
//! Redirects are followed here and not in the HTTP library because the token must not travel: it goes to the
//! endpoint alone, and once an answer has led elsewhere it is sent no more, not even back to the endpoint.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::error::Cause;
use super::url::Url;
use super::{Access, Clock, Error, Part, Place, Subject};

/// Redirects followed for one answer; the hub itself needs two.
const MAX_REDIRECTS: u32 = 6;
/// How often a question is asked when the trouble may pass.
const MAX_ATTEMPTS: u32 = 5;
/// The pause before the second attempt; each further one is twice as long: 0.5, 1, 2 and 4 s.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a server's `Retry-After` can cause; one that asks for more is told to the user.
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// For a connection with its handshakes.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For the first byte of an answer, and between any two.
const SILENCE_TIME: Duration = Duration::from_secs(30);
/// For all of a body; the largest, a header of 100 MB, needs 0.4 MB/s.
const BODY_TIME: Duration = Duration::from_secs(240);
/// Bytes of a file of root certificates at most.
const MAX_CERTIFICATES_BYTES: u64 = 16 << 20;

/// A question.
pub(super) struct Ask<'a> {
    pub(super) subject: &'a Subject,
    /// Below the endpoint; begins with a slash.
    pub(super) path: &'a str,
    /// Begins with a question mark, or is empty.
    pub(super) query: &'a str,
    pub(super) want: Want,
}

/// How much of the answer.
#[derive(Debug, Clone)]
pub(super) enum Want {
    /// All of at most `most` bytes; `exactly` so many where that is known.
    Whole { most: u64, exactly: Option<u64> },
    /// These bytes.
    Range(Range<u64>),
}

/// The connection to a hub.
#[derive(Debug)]
pub(super) struct Wire {
    access: Access,
    agent: Agent,
    clock: Box<dyn Clock>,
    /// True once the endpoint stayed out of reach to the last attempt: later questions are asked once.
    down: AtomicBool,
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt would fail too.
    Final(Error),
    /// The connection failed before any answer.
    Unreachable(String, &'static str),
    /// The answer broke off.
    BrokeOff(String, String),
    /// 408, 429 or 5xx, and how long the server wants to be left alone.
    Busy(String, u16, Option<Duration>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Wire {
    pub(super) fn new(access: Access, clock: Box<dyn Clock>) -> Result<Self, Error> {
        if let Some(variable) = access.offline {
            return Err(Error::Offline { variable });
        }
        let mut config = Agent::config_builder()
            .user_agent(concat!("oomlint/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_resolve(Some(CONNECT_TIME))
            .timeout_recv_response(Some(SILENCE_TIME))
            .timeout_per_read(Some(SILENCE_TIME))
            .timeout_recv_body(Some(BODY_TIME));
        if is_loopback(access.endpoint.host()) {
            config = config.proxy(None);
        }
        if let Some((variable, path)) = &access.certificates {
            let roots = certificates(path).map_err(|why| Error::Environment { variable, why })?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self {
            access,
            agent: config.build().new_agent(),
            clock,
            down: AtomicBool::new(false),
        })
    }

    pub(super) fn host(&self) -> String {
        self.access.endpoint.host().to_owned()
    }

    /// Asks until there is an answer, or no hope of one.
    pub(super) fn get(&self, ask: &Ask<'_>) -> Result<Part, Error> {
        if matches!(&ask.want, Want::Range(range) if range.is_empty()) {
            return Ok(Part {
                bytes: Vec::new(),
                file_bytes: None,
            });
        }
        let mut attempts = 1;
        loop {
            let failure = match self.once(ask) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let most = if self.down.load(Ordering::Relaxed) {
                1
            } else {
                MAX_ATTEMPTS
            };
            match pause(&failure, attempts).filter(|_| attempts < most) {
                Some(pause) => self.clock.sleep(pause),
                None => return Err(self.give_up(failure, ask, attempts)),
            }
            attempts += 1;
        }
    }

    fn give_up(&self, failure: Failure, ask: &Ask<'_>, attempts: u32) -> Error {
        let of = |host: &str| ask.subject.at(host);
        match failure {
            Failure::Final(error) => error,
            Failure::Unreachable(host, why) => {
                if host == self.access.endpoint.host() {
                    self.down.store(true, Ordering::Relaxed);
                }
                Error::Unreachable {
                    of: of(&host),
                    why: why.to_owned(),
                    attempts,
                }
            }
            Failure::BrokeOff(host, why) => Error::Unreachable {
                of: of(&host),
                why,
                attempts,
            },
            Failure::Busy(host, status, wait) => Error::Busy {
                of: of(&host),
                status,
                attempts,
                wait: wait.filter(|wait| *wait > MAX_PAUSE),
            },
        }
    }

    /// One attempt: the answer at the end of the redirects.
    fn once(&self, ask: &Ask<'_>) -> Result<Part, Failure> {
        let endpoint = &self.access.endpoint;
        let refused = |url: &Url, why: &str| Error::Answer {
            of: ask.subject.at(url.host()),
            why: why.to_owned(),
        };
        let first = endpoint.below(ask.path, ask.query);
        let mut url = Url::parse(&first).ok_or_else(|| refused(endpoint, "its address cannot be formed"))?;
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&url, at_home, ask)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                let answer = Answer {
                    ask,
                    url: &url,
                    at_home,
                };
                return answer.take(response, self.access.token.is_some());
            }
            let location = response.headers().get(header::LOCATION);
            let next = location.and_then(|value| url.join(value.to_str().ok()?));
            let next = next.ok_or_else(|| refused(&url, "it redirects to no usable address"))?;
            if url.is_secure() && !next.is_secure() {
                return Err(refused(&url, "it redirects from https to http, which is not followed").into());
            }
            at_home = at_home && next.same_origin(endpoint);
            url = next;
        }
        let why = format!("it redirects more than {MAX_REDIRECTS} times");
        Err(refused(&url, &why).into())
    }

    /// Sends one request. The token goes along only at home.
    fn send(&self, url: &Url, at_home: bool, ask: &Ask<'_>) -> Result<Response<Body>, Failure> {
        // Compressed answers have no ranges of the file.
        let mut request = self.agent.get(url.text()).header("Accept-Encoding", "identity");
        if let Want::Range(range) = &ask.want {
            request = request.header(
                "Range",
                format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
            );
        }
        if let Some(token) = self.access.token.as_ref().filter(|_| at_home) {
            request = request.header("Authorization", token.header());
        }
        request
            .call()
            .map_err(|error| no_response(&error, url, ask.subject))
    }
}

/// An answer to a question, from wherever the redirects led.
struct Answer<'a> {
    ask: &'a Ask<'a>,
    url: &'a Url,
    /// False where a redirect led away from the hub.
    at_home: bool,
}

impl Answer<'_> {
    fn host(&self) -> String {
        self.url.host().to_owned()
    }

    fn place(&self) -> Place {
        self.ask.subject.at(self.url.host())
    }

    fn wrong(&self, why: String) -> Failure {
        Failure::Final(Error::Answer {
            of: self.place(),
            why,
        })
    }

    /// Judges the status and reads what was asked for.
    fn take(&self, response: Response<Body>, with_token: bool) -> Result<Part, Failure> {
        let status = response.status().as_u16();
        let cause = Cause::of(response.headers());
        match status {
            200 | 206 => self.read(response),
            408 | 429 | 500..=599 => Err(Failure::Busy(
                self.host(),
                status,
                retry_after(response.headers()),
            )),
            401 | 403 if self.at_home => Err(Failure::Final(Error::Refused {
                of: self.place(),
                status,
                with_token,
                cause,
            })),
            404 if self.at_home => Err(Failure::Final(Error::Absent {
                of: self.place(),
                cause,
            })),
            416 => Err(self.wrong("the file ends before the bytes that its header should take".to_owned())),
            _ => Err(self.wrong(format!("it answered {status}"))),
        }
    }

    fn read(&self, response: Response<Body>) -> Result<Part, Failure> {
        let headers = response.headers();
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(self.wrong("it compressed its answer although it was asked not to".to_owned()));
        }
        let partial = response.status().as_u16() == 206;
        match &self.ask.want {
            Want::Whole { .. } if partial => {
                Err(self.wrong("it sent a part of the file and was asked for all".to_owned()))
            }
            Want::Whole { most, exactly } => self.whole(response, *most, *exactly),
            Want::Range(range) if partial => {
                let (end, total) = content_range(headers, range).map_err(|why| self.wrong(why))?;
                let bytes = self.exactly(response, 0, end - range.start)?;
                Ok(Part {
                    bytes,
                    file_bytes: total,
                })
            }
            // A server without ranges begins to send the whole file: read up to the end of the range, hang up.
            Want::Range(range) => {
                let total = response.body().content_length();
                let end = total.unwrap_or(u64::MAX).min(range.end);
                if end <= range.start {
                    return Err(self.wrong(format!("the file ends before byte {}", range.start)));
                }
                let bytes = self.exactly(response, range.start, end - range.start)?;
                Ok(Part {
                    bytes,
                    file_bytes: total,
                })
            }
        }
    }

    fn whole(&self, response: Response<Body>, most: u64, exactly: Option<u64>) -> Result<Part, Failure> {
        let declared = response.body().content_length();
        if declared.is_some_and(|bytes| bytes > most) {
            return Err(self.wrong(format!(
                "it is larger than the {most} bytes that are read of such a file"
            )));
        }
        let mut bytes = Vec::new();
        let reader = response.into_body().into_reader();
        let read = reader.take(most.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| self.broke_off(&error))?;
        let length = bytes.len() as u64;
        if length > most {
            return Err(self.wrong(format!(
                "it is larger than the {most} bytes that are read of such a file"
            )));
        }
        match exactly {
            Some(size) if length < size => Err(self.short(length, size)),
            Some(size) if length > size => {
                Err(self.wrong(format!("it sent {length} bytes of a file that has {size}")))
            }
            _ => Ok(Part {
                bytes,
                file_bytes: Some(length),
            }),
        }
    }

    /// `length` bytes of the body after the first `skipped`.
    fn exactly(&self, response: Response<Body>, skipped: u64, length: u64) -> Result<Vec<u8>, Failure> {
        let mut reader = response.into_body().into_reader();
        let passed = std::io::copy(&mut reader.by_ref().take(skipped), &mut std::io::sink());
        passed.map_err(|error| self.broke_off(&error))?;
        let mut bytes = Vec::new();
        let read = reader.take(length).read_to_end(&mut bytes);
        read.map_err(|error| self.broke_off(&error))?;
        match bytes.len() as u64 {
            read if read < length => Err(self.short(read, length)),
            _ => Ok(bytes),
        }
    }

    fn short(&self, read: u64, expected: u64) -> Failure {
        Failure::BrokeOff(self.host(), format!("broke off after {read} of {expected} bytes"))
    }

    fn broke_off(&self, error: &std::io::Error) -> Failure {
        let why = match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "fell silent in the middle of the answer",
            _ => "broke off in the middle of the answer",
        };
        Failure::BrokeOff(self.host(), why.to_owned())
    }
}

/// How long to wait before the next attempt; `None` where one would be in vain.
fn pause(failure: &Failure, attempts: u32) -> Option<Duration> {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    match failure {
        Failure::Final(_) => None,
        Failure::Unreachable(..) | Failure::BrokeOff(..) | Failure::Busy(_, _, None) => Some(doubled),
        Failure::Busy(_, _, Some(wait)) => (*wait <= MAX_PAUSE).then(|| doubled.max(*wait)),
    }
}

/// Why there was no response at all. The library's own words can hold addresses, so they are not repeated.
fn no_response(error: &ureq::Error, url: &Url, subject: &Subject) -> Failure {
    use ureq::Error as E;
    let host = url.host().to_owned();
    let for_good = |why: &str| {
        Failure::Final(Error::Answer {
            of: subject.at(&host),
            why: why.to_owned(),
        })
    };
    let passing = |why| Failure::Unreachable(host.clone(), why);
    match error {
        E::Io(error) if error.kind() == ErrorKind::InvalidData => for_good(UNTRUSTED),
        E::Rustls(_) | E::Tls(_) | E::TlsRequired => for_good(UNTRUSTED),
        E::InvalidProxyUrl => for_good("the proxy that the environment names has no usable address"),
        E::ConnectProxyFailed(_) => for_good("the proxy that the environment names refused to connect"),
        E::BadUri(_) | E::Http(_) => for_good("its address cannot be requested"),
        E::LargeResponseHeader(..) => for_good("its answer has headers of unreasonable length"),
        E::HostNotFound => passing("is a name that leads nowhere"),
        E::Timeout(_) => passing("did not answer in time"),
        E::Protocol(_) => passing("does not speak HTTP as it should"),
        E::Io(error) => passing(match error.kind() {
            ErrorKind::ConnectionRefused => "refused the connection",
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                "dropped the connection"
            }
            ErrorKind::UnexpectedEof => "hung up without an answer",
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "did not answer in time",
            _ => "could not be reached",
        }),
        _ => passing("could not be reached"),
    }
}

const UNTRUSTED: &str = "no secure connection could be made: its certificate is not trusted. Behind a proxy that \
                         issues certificates of its own, name its root certificate in SSL_CERT_FILE";

impl Cause {
    /// What the hub's `X-Error-Code` says (`huggingface_hub` 0.34, `utils/_http.py::hf_raise_for_status`).
    fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-error-code").map(header::HeaderValue::as_bytes) {
            Some(b"GatedRepo") => Self::Gated,
            Some(b"RevisionNotFound") => Self::NoRevision,
            Some(b"RepoNotFound") => Self::NoRepository,
            _ => Self::Untold,
        }
    }
}

/// Where a partial answer ends (exclusive), and the length of the file; `Err` where it is not what was asked for.
fn content_range(headers: &HeaderMap, asked: &Range<u64>) -> Result<(u64, Option<u64>), String> {
    let wanted = format!(
        "asked for the bytes {} to {}",
        asked.start,
        asked.end.saturating_sub(1)
    );
    let value = headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let value = value.ok_or_else(|| format!("{wanted}, it sent a part that it does not name"))?;
    let (first, last, total) = parse_content_range(value)
        .ok_or_else(|| format!("{wanted}, it sent a part without a readable range"))?;
    let end = total.unwrap_or(u64::MAX).min(asked.end);
    if first != asked.start || last.checked_add(1) != Some(end) || end <= first {
        let of = total.map_or(String::new(), |total| format!(" of {total}"));
        return Err(format!("{wanted}, it sent the bytes {first} to {last}{of}"));
    }
    Ok((end, total))
}

/// `bytes 0-65535/16060522496`, or `*` for a total that the server does not know.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, total))
}

/// The seconds of a `Retry-After`; its other form, a date, is not worth a calendar.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name == "[::1]" || name.starts_with("127.")
}

/// The certificates of a PEM file, or what is wrong with it in words that follow the variable.
fn certificates(path: &std::path::Path) -> Result<RootCerts, String> {
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_CERTIFICATES_BYTES).read_to_end(&mut pem))
        .map_err(|error| format!("names a file that cannot be read: {}", crate::walk::plain(&error)))?;
    let found: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err("names a file without certificates".to_owned());
    }
    Ok(RootCerts::new_with_certs(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_must_be_the_one_asked_for() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            content_range(&headers, &(0..100)).ok()
        };
        assert_eq!(check("bytes 0-99/500"), Some((100, Some(500))));
        assert_eq!(check("bytes 0-99/*"), Some((100, None)));
        assert_eq!(check("bytes 0-49/50"), Some((50, Some(50))), "a short file");
        for wrong in [
            "bytes 1-99/500",
            "bytes 0-98/500",
            "bytes 0-100/500",
            "bytes 0-99/99",
            "bytes 0-99/0",
            "bytes */500",
            "bytes 0-18446744073709551615/*",
            "bytes 5-2/500",
            "items 0-99/500",
            "bytes 0-99",
            "",
        ] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
        assert!(content_range(&HeaderMap::new(), &(0..100)).is_err());
    }

    #[test]
    fn only_loopback_hosts_bypass_a_proxy() {
        for host in ["127.0.0.1:8080", "localhost", "localhost:1", "[::1]:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["huggingface.co", "localhost.evil.example", "10.0.0.1:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
