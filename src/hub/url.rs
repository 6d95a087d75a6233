//! Addresses: split into where they lead and what they ask, and joined with a redirect's `Location`.

use std::fmt::Write as _;

use ureq::http::Uri;

/// An `http` or `https` address.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    secure: bool,
    /// Host and port, lower case, never with a user name.
    authority: String,
    /// Path and query; begins with a slash.
    rest: String,
}

/// Only the host: the rest can be a signature.
impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Url({})", self.authority)
    }
}

impl Url {
    /// Reads an absolute address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.split('#').next()?.parse().ok()?;
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
        Some(Self {
            secure,
            authority: authority.as_str().to_ascii_lowercase(),
            rest: if rest.starts_with('/') {
                rest.to_owned()
            } else {
                format!("/{rest}")
            },
        })
    }

    /// Where a `Location` leads from here (RFC 3986, section 5.2).
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let location = location.trim().split('#').next()?;
        let scheme = if self.secure { "https" } else { "http" };
        if has_scheme(location) {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = self.rest.split('?').next().unwrap_or("/");
        let rest = match location.chars().next() {
            None => self.rest.clone(),
            Some('/') => without_dots(location),
            Some('?') => format!("{path}{location}"),
            Some(_) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                without_dots(&format!("{folder}/{location}"))
            }
        };
        Self::parse(&format!("{scheme}://{}{rest}", self.authority))
    }

    /// The address with `path`, which begins with a slash, and `query` put after its own path.
    pub(super) fn below(&self, path: &str, query: &str) -> String {
        format!("{}{path}{query}", self.text().trim_end_matches('/'))
    }

    /// The whole address, for the request alone.
    pub(super) fn text(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.rest)
    }

    /// True for `https`.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// True when the address asks for something by a query.
    pub(super) fn has_query(&self) -> bool {
        self.rest.contains('?')
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        &self.authority
    }

    /// True when both lead to the same server by the same protocol.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        let port = |url: &Self| {
            let default = if url.secure { ":443" } else { ":80" };
            url.authority
                .strip_suffix(default)
                .unwrap_or(&url.authority)
                .to_owned()
        };
        self.secure == other.secure && port(self) == port(other)
    }
}

/// `https:` and its like, before any slash.
fn has_scheme(location: &str) -> bool {
    location
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.contains(['/', '?']))
}

/// A path without its `.` and `..`; what stands after `?` stays as it is.
fn without_dots(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let mut parts: Vec<&str> = Vec::new();
    let mut pieces = path.split('/').skip(1).peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        match piece {
            "." | ".." => {
                if piece == ".." {
                    parts.pop();
                }
                if last {
                    parts.push("");
                }
            }
            other => parts.push(other),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

/// A segment of a path with everything but letters, digits and `-._~` in percent signs.
pub(super) fn encoded(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(from: &str, location: &str) -> String {
        let url = Url::parse(from).unwrap().join(location);
        url.map_or_else(|| "nowhere".to_owned(), |url| url.text())
    }

    #[test]
    fn a_location_is_followed_as_browsers_do() {
        let from = "https://hub.example/a/b/c?x=1";
        for (location, to) in [
            (
                "https://cdn.example/y?sig=a%2Fb",
                "https://cdn.example/y?sig=a%2Fb",
            ),
            ("//cdn.example/y", "https://cdn.example/y"),
            ("/y/z", "https://hub.example/y/z"),
            ("y", "https://hub.example/a/b/y"),
            ("../y?q=../z", "https://hub.example/a/y?q=../z"),
            ("../../../../y", "https://hub.example/y"),
            ("?q=2", "https://hub.example/a/b/c?q=2"),
            ("/y?u=http://z", "https://hub.example/y?u=http://z"),
            ("/y#fragment", "https://hub.example/y"),
            ("ftp://cdn.example/y", "nowhere"),
            ("https://user:pass@cdn.example/y", "nowhere"),
            ("file:///etc/passwd", "nowhere"),
            ("https://", "nowhere"),
        ] {
            assert_eq!(joined(from, location), to, "{location}");
        }
    }

    #[test]
    fn an_origin_is_protocol_host_and_port() {
        let same = |a: &str, b: &str| Url::parse(a).unwrap().same_origin(&Url::parse(b).unwrap());
        assert!(same("https://Hub.example/x", "https://hub.example:443/y"));
        assert!(same("http://h:80", "http://h/"));
        assert!(!same("https://hub.example", "http://hub.example"));
        assert!(!same("https://hub.example", "https://hub.example:8443"));
        assert!(!same("https://hub.example", "https://evil.hub.example"));
    }

    #[test]
    fn debug_output_shows_no_signature() {
        let url = Url::parse("https://cdn.example/x?signature=secret").unwrap();
        assert_eq!(format!("{url:?}"), "Url(cdn.example)");
    }

    #[test]
    fn a_slash_in_a_revision_is_no_separator() {
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(encoded("a b?é"), "a%20b%3F%C3%A9");
    }

    proptest::proptest! {
        #[test]
        fn no_location_makes_an_address_with_a_user_or_another_protocol(
            location in "(https?:|ftp:|)/{0,3}[a-z@:.%?#/\\[\\]0-9]{0,30}|.{0,30}"
        ) {
            let from = Url::parse("https://hub.example/a/b?c").unwrap();
            if let Some(url) = from.join(&location) {
                let text = url.text();
                proptest::prop_assert!(!url.host().contains('@') && !url.host().is_empty(), "{}", text);
                proptest::prop_assert_eq!(Url::parse(&text), Some(url));
            }
        }
    }
}
