//! Which hub to ask, and as whom: what the environment says, read as `huggingface_hub` reads it.
//!
//! In: the variables of the environment. Out: an [`Access`]. The token is kept where nothing can print it.
//! Source: `huggingface_hub` 0.34, `constants.py` and `utils/_auth.py::get_token`.

use std::fmt;
use std::path::PathBuf;

use super::Error;
use super::url::Url;

/// The hub that is asked where the environment names no other.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Bytes of a token file at most.
const MAX_TOKEN_BYTES: u64 = 4096;

/// A secret that only the request sees.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

impl Token {
    /// Takes a token as it stands in a file or a variable; white space around it is no part of it.
    ///
    /// # Errors
    /// In words that follow the place it came from, when it cannot be sent.
    pub fn new(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err("holds no token: it has characters that no token has".to_owned());
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// Which hub, as whom, and whether at all.
#[derive(Debug, Clone)]
pub struct Access {
    pub(super) endpoint: Url,
    pub(super) token: Option<Token>,
    /// The variable that forbids the network.
    pub(super) offline: Option<&'static str>,
    /// A file of further root certificates, and the variable that names it.
    pub(super) certificates: Option<(&'static str, PathBuf)>,
}

impl Access {
    /// A hub at an endpoint.
    ///
    /// # Errors
    /// When the endpoint is not an `http` or `https` address.
    pub fn new(endpoint: &str, token: Option<Token>) -> Result<Self, Error> {
        Ok(Self {
            endpoint: parse_endpoint(endpoint)?,
            token,
            offline: None,
            certificates: None,
        })
    }

    /// What the environment says; `variable` looks one up.
    ///
    /// # Errors
    /// When a variable holds what cannot be used, or names a file that cannot be read.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let endpoint = given("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
        let certificates = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"];
        Ok(Self {
            token: token(&given)?,
            offline: offline.into_iter().find(|name| is_true(given(name))),
            certificates: certificates
                .into_iter()
                .find_map(|name| Some((name, PathBuf::from(given(name)?)))),
            ..Self::new(&endpoint, None)?
        })
    }
}

fn parse_endpoint(text: &str) -> Result<Url, Error> {
    let endpoint = Url::parse(text.trim()).filter(|url| !url.has_query());
    endpoint.ok_or_else(|| Error::Environment {
        variable: "HF_ENDPOINT",
        why: "is not an address of the form https://host or https://host/path, without user name and query; a token \
              belongs into HF_TOKEN"
            .to_owned(),
    })
}

/// `huggingface_hub`'s `ENV_VARS_TRUE_VALUES`.
fn is_true(value: Option<String>) -> bool {
    let value = value.unwrap_or_default().trim().to_ascii_uppercase();
    matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// The token of the environment, else that of the file in which `hf auth login` leaves it.
fn token(given: &dyn Fn(&str) -> Option<String>) -> Result<Option<Token>, Error> {
    if is_true(given("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
        return Ok(None);
    }
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(text) = given(variable) {
            return Token::new(&text).map_err(|why| Error::Environment { variable, why });
        }
    }
    if let Some(path) = given("HF_TOKEN_PATH") {
        let variable = "HF_TOKEN_PATH";
        let text = read(&PathBuf::from(path)).map_err(|error| Error::Environment {
            variable,
            why: format!("names a file that cannot be read: {}", crate::walk::plain(&error)),
        })?;
        let why = |why: String| Error::Environment {
            variable,
            why: format!("names a file that {why}"),
        };
        return Token::new(&text).map_err(why);
    }
    // The usual file may well be absent, or another user's: then there is no token.
    let text = home(given).and_then(|home| read(&home.join("token")).ok());
    Ok(text.and_then(|text| Token::new(&text).ok().flatten()))
}

fn read(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// `HF_HOME`, else `huggingface` in the user's cache.
fn home(given: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(home) = given("HF_HOME") {
        return Some(PathBuf::from(home));
    }
    let cache = given("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = given("HOME").or_else(|| given("USERPROFILE"))?;
        Some(PathBuf::from(home).join(".cache"))
    })?;
    Some(cache.join("huggingface"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(variables: &[(&str, &str)]) -> Result<Access, Error> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Access::from_environment(&find)
    }

    fn sent(variables: &[(&str, &str)]) -> Option<String> {
        access(variables).unwrap().token.map(|token| token.header())
    }

    #[test]
    fn the_token_comes_from_the_first_place_that_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let other = folder.path().join("other");
        std::fs::write(folder.path().join("token"), "hf_home\n").unwrap();
        std::fs::write(&other, "hf_path").unwrap();
        let other = other.to_str().unwrap();
        assert_eq!(sent(&[("HF_HOME", home)]).as_deref(), Some("Bearer hf_home"));
        let path = [("HF_HOME", home), ("HF_TOKEN_PATH", other)];
        assert_eq!(sent(&path).as_deref(), Some("Bearer hf_path"));
        let all = [path[0], path[1], ("HF_TOKEN", " hf_env\n")];
        assert_eq!(sent(&all).as_deref(), Some("Bearer hf_env"));
        let empty = [("HF_TOKEN", ""), ("HF_HOME", home)];
        assert_eq!(sent(&empty).as_deref(), Some("Bearer hf_home"));
        let disabled = [("HF_TOKEN", "hf_env"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(sent(&disabled), None);
        assert_eq!(sent(&[]), None);
    }

    #[test]
    fn the_users_cache_is_where_the_library_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::create_dir_all(folder.path().join(".cache/huggingface")).unwrap();
        std::fs::write(folder.path().join(".cache/huggingface/token"), "hf_user").unwrap();
        assert_eq!(sent(&[("HOME", home)]).as_deref(), Some("Bearer hf_user"));
        assert_eq!(sent(&[("HOME", home), ("XDG_CACHE_HOME", "/nowhere")]), None);
    }

    #[test]
    fn no_word_about_a_bad_variable_repeats_its_value() {
        for variables in [
            [("HF_TOKEN", "hf_secret\nX-Header: 1")],
            [("HF_ENDPOINT", "https://user:hf_secret@host")],
            [("HF_ENDPOINT", "https://host/?token=hf_secret")],
            [("HF_ENDPOINT", "hf_secret")],
        ] {
            let error = access(&variables).unwrap_err();
            let words = format!("{error} {error:?}");
            assert!(words.contains(variables[0].0), "{words}");
            assert!(!words.contains("secret"), "{words}");
        }
    }

    #[test]
    fn debug_output_shows_no_token() {
        let access = access(&[("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{access:?}").contains("secret"));
    }

    #[test]
    fn offline_is_what_the_library_takes_for_true() {
        for (value, offline) in [
            ("1", true),
            ("true", true),
            ("ON", true),
            ("0", false),
            ("", false),
        ] {
            assert_eq!(
                access(&[("HF_HUB_OFFLINE", value)]).unwrap().offline.is_some(),
                offline,
                "{value}"
            );
        }
    }
}
