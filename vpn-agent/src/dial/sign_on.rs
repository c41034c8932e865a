//! How a proxy learns who asks: the challenges it sends, and which of them can be met.
//!
//! *Negotiate* (Kerberos or NTLM, RFC 4559) and *NTLM* are conversations of several legs that
//! the operating system has for the user who is signed in; no password is known here. *Basic*
//! is the name and password of the settings. The strongest that both sides know is taken, and
//! a weaker one never after a stronger one was refused: a proxy cannot talk a password out of
//! the agent by refusing.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::settings::ProxyUrl;
use crate::os;

/// Most requests that one connection through a proxy may take: NTLM takes three, Kerberos with
/// a detour through NTLM four.
pub(super) const MAX_LEGS: usize = 6;

/// Most challenges of one answer that are looked at.
const MAX_CHALLENGES: usize = 16;

/// The conversations that an operating system may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Kerberos where there is a domain, else NTLM.
    Negotiate,
    /// NTLM alone.
    Ntlm,
}

impl Scheme {
    /// As it stands in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Ntlm => "NTLM",
        }
    }
}

/// One side of a conversation, spoken for the user who is signed in at the PC.
pub trait SignOn: Send {
    /// The next token. `challenge` is the proxy's last one, none at the beginning.
    ///
    /// # Errors
    /// If the system has nothing to say: no ticket, no domain, a challenge that is none.
    fn step(&mut self, challenge: Option<&[u8]>) -> io::Result<Zeroizing<Vec<u8>>>;
}

/// Begins a conversation with the proxy on a host, if the system knows the scheme.
pub type SignOns = fn(Scheme, &str) -> Option<Box<dyn SignOn>>;

/// Those of the operating system.
pub fn of_the_system(scheme: Scheme, proxy_host: &str) -> Option<Box<dyn SignOn>> {
    os::sign_on(scheme, proxy_host)
}

/// One challenge of an answer with status 407.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, in lower case.
    pub scheme: String,
    /// The token of a conversation.
    pub token: Option<String>,
}

/// Reads the values of `Proxy-Authenticate`; each may hold several challenges. What is no
/// challenge is skipped.
pub fn challenges(values: &[String]) -> Vec<Challenge> {
    let items = values.iter().flat_map(|value| unquoted_items(value));
    let read = items.filter_map(|item| {
        let (first, rest) = match item.split_once(char::is_whitespace) {
            Some((first, rest)) => (first, rest.trim()),
            None => (item, ""),
        };
        // `realm="x"` goes on with the challenge before it.
        if first.is_empty() || first.contains('=') {
            return None;
        }
        let token = (!rest.is_empty() && is_token(rest)).then(|| rest.to_owned());
        Some(Challenge {
            scheme: first.to_ascii_lowercase(),
            token,
        })
    });
    read.take(MAX_CHALLENGES).collect()
}

/// The parts between the commas that stand in no quotes.
fn unquoted_items(value: &str) -> Vec<&str> {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    let mut items = Vec::new();
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                items.push(value[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(value[start..].trim());
    items
}

/// Base64, with its padding at the end only: not `realm="x"`.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '.' | '~'))
}

/// What is said to one proxy, leg by leg.
pub(super) struct Dialogue<'a> {
    proxy: &'a ProxyUrl,
    sign_ons: SignOns,
    stage: Stage,
    /// What is said with the next request.
    words: Option<Zeroizing<String>>,
    legs: usize,
}

enum Stage {
    /// Nothing said yet but the name and password of the settings.
    First,
    /// In a conversation.
    Talking {
        scheme: Scheme,
        partner: Box<dyn SignOn>,
    },
    /// There is nothing more to say.
    Last,
}

/// Why a proxy is not told who asks.
#[derive(Debug)]
pub(super) enum Unmet {
    /// It wants a name and password that are not known, or refuses those that are.
    Password,
    /// The system's conversation came to nothing.
    SignOn(Option<io::Error>),
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(proxy: &'a ProxyUrl, sign_ons: SignOns) -> Self {
        Self {
            proxy,
            sign_ons,
            stage: Stage::First,
            // The first request brings the name and password of the settings, if there are any.
            words: proxy.authorization(),
            legs: 0,
        }
    }

    /// Counts one request more. False after [`MAX_LEGS`].
    pub(super) fn begins_leg(&mut self) -> bool {
        self.legs += 1;
        self.legs <= MAX_LEGS
    }

    /// What the next request says, once.
    pub(super) fn next_words(&mut self) -> Option<Zeroizing<String>> {
        self.words.take()
    }

    /// Whether the next leg must come on the same connection as the last.
    pub(super) fn is_talking(&self) -> bool {
        matches!(self.stage, Stage::Talking { .. })
    }

    /// Finds what to say to an answer with status 407.
    pub(super) async fn answer(&mut self, challenges: &[Challenge]) -> Result<(), Unmet> {
        let offers = |scheme: &str| {
            let name = scheme.to_ascii_lowercase();
            challenges.iter().find(|offered| offered.scheme == name)
        };
        match std::mem::replace(&mut self.stage, Stage::Last) {
            Stage::First => {
                for scheme in [Scheme::Negotiate, Scheme::Ntlm] {
                    if offers(scheme.name()).is_none() {
                        continue;
                    }
                    if let Some(partner) = (self.sign_ons)(scheme, self.proxy.host()) {
                        return self.speak(scheme, partner, None).await;
                    }
                }
                // A name and password of the settings were said at once.
                Err(Unmet::Password)
            }
            Stage::Talking { scheme, partner } => {
                let token = offers(scheme.name()).and_then(|challenge| challenge.token.as_ref());
                // Without a token it begins anew: the last word was not believed.
                let token = token.ok_or(Unmet::SignOn(None))?;
                let token = BASE64_STANDARD.decode(token);
                let token = token.map_err(|error| Unmet::SignOn(Some(io::Error::other(error))))?;
                self.speak(scheme, partner, Some(token)).await
            }
            Stage::Last => Err(Unmet::Password),
        }
    }

    /// One step. The system may ask a server of the domain meanwhile, and blocks.
    async fn speak(
        &mut self,
        scheme: Scheme,
        mut partner: Box<dyn SignOn>,
        challenge: Option<Vec<u8>>,
    ) -> Result<(), Unmet> {
        let step = tokio::task::spawn_blocking(move || {
            let token = partner.step(challenge.as_deref());
            (partner, token)
        });
        let (partner, token) = step
            .await
            .map_err(|error| Unmet::SignOn(Some(io::Error::other(error))))?;
        let token = token.map_err(|error| Unmet::SignOn(Some(error)))?;
        self.stage = Stage::Talking { scheme, partner };
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*token));
        self.words = Some(Zeroizing::new(format!("{} {}", scheme.name(), *encoded)));
        Ok(())
    }
}

impl fmt::Debug for Dialogue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialogue({})", self.proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Vec<(String, Option<String>)> {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        let found = challenges(&values).into_iter();
        found.map(|found| (found.scheme, found.token)).collect()
    }

    #[test]
    fn challenges_are_read_however_they_are_packed() {
        let plain = |scheme: &str| (scheme.to_owned(), None);
        let with = |scheme: &str, token: &str| (scheme.to_owned(), Some(token.to_owned()));
        for (values, expected) in [
            (&["Negotiate"][..], vec![plain("negotiate")]),
            (
                &["Negotiate", "NTLM", "Basic realm=\"a, b\""],
                vec![plain("negotiate"), plain("ntlm"), plain("basic")],
            ),
            (
                &["Negotiate, NTLM , Basic realm=\"say \\\"NTLM, x\\\"\", charset=\"UTF-8\""],
                vec![plain("negotiate"), plain("ntlm"), plain("basic")],
            ),
            (
                &["NTLM TlRMTVNTUAAC=="],
                vec![with("ntlm", "TlRMTVNTUAAC==")],
            ),
            (
                &["Digest realm=\"x\", nonce=\"NTLM\", qop=\"auth\""],
                vec![plain("digest")],
            ),
            (
                &["", ",,", "realm=\"x\"", "\"Basic"],
                vec![plain("\"basic")],
            ),
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
        let many = vec!["Basic"; 100].join(",");
        assert_eq!(read(&[&many]).len(), MAX_CHALLENGES);
    }

    #[test]
    fn no_text_breaks_the_reader() {
        use proptest::prelude::*;
        proptest!(|(text in "\\PC{0,60}")| {
            for challenge in challenges(&[text]) {
                prop_assert!(!challenge.scheme.is_empty());
            }
        });
    }
}
