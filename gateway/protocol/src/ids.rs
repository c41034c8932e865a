//! Identifiers that cross the wire, each with its own type and one way to be written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps an identifier that was just made or just read back.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The 16 bytes of the identifier.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// A registered PC.
    DeviceId
}
uuid_id! {
    /// One stay of a device behind the gateway, 90 minutes at most.
    SessionId
}
uuid_id! {
    /// A PC's request to be registered, from the registration code to staff's decision.
    EnrolmentId
}

/// Which of a device's grants one is: the portal counts them through all sessions of the
/// device. Of two grants for one device the higher holds, in whatever order they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u32);

impl Generation {
    /// After every grant there can be: what is over up to here never comes back.
    pub const LAST: Self = Self(u32::MAX);

    /// Wraps a count that was just made or just read back.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The bare count, for the database.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An establishment's number (事業所番号), 1–9999.
///
/// It is written with four digits in file names (FEATURES S003-45) and with six in the
/// registration form (S003-15); both are read, and full-width digits too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EstablishmentNumber(u16);

/// A text that is no establishment number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an establishment number is 1 to 9999, written with at most 6 digits")]
pub struct NotAnEstablishmentNumber;

impl EstablishmentNumber {
    /// The highest number there can be: file names have four digits for it.
    pub const MAX: u16 = 9999;

    /// Checks the range.
    pub fn new(number: u16) -> Result<Self, NotAnEstablishmentNumber> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NotAnEstablishmentNumber)
        }
    }

    /// The bare number, for the database.
    pub const fn as_u16(&self) -> u16 {
        self.0
    }

    /// Six digits, as the registration form's file name has it (S003-15).
    pub fn six_digits(&self) -> String {
        format!("{:06}", self.0)
    }
}

impl fmt::Display for EstablishmentNumber {
    /// Four digits, as filings' names have it (S003-45).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

impl FromStr for EstablishmentNumber {
    type Err = NotAnEstablishmentNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Option<String> = text
            .trim()
            .chars()
            .map(|c| match c {
                '0'..='9' => Some(c),
                '\u{FF10}'..='\u{FF19}' => char::from_digit(c as u32 - 0xFF10, 10),
                _ => None,
            })
            .collect();
        match digits {
            Some(digits) if (1..=6).contains(&digits.len()) => digits
                .parse()
                .map_err(|_| NotAnEstablishmentNumber)
                .and_then(Self::new),
            _ => Err(NotAnEstablishmentNumber),
        }
    }
}

impl TryFrom<String> for EstablishmentNumber {
    type Error = NotAnEstablishmentNumber;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EstablishmentNumber> for String {
    fn from(number: EstablishmentNumber) -> Self {
        number.to_string()
    }
}

/// A gateway's name: 1–32 of `a-z`, `0-9` and `-`. It stands in its certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayName(String);

/// A text that is no gateway name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a gateway name is 1 to 32 of a-z, 0-9 and -")]
pub struct NotAGatewayName;

impl GatewayName {
    /// The ending of a gateway's DNS name in the fund's own certificates.
    pub const DOMAIN: &'static str = ".gateway.renkei.internal";

    /// The DNS name in the gateway's certificate from the fund's own authority.
    pub fn certificate_name(&self) -> String {
        format!("{}{}", self.0, Self::DOMAIN)
    }

    /// The name inside a certificate's DNS name, if it is a gateway's.
    pub fn from_certificate_name(dns_name: &str) -> Option<Self> {
        dns_name.strip_suffix(Self::DOMAIN)?.parse().ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GatewayName {
    type Err = NotAGatewayName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=32).contains(&text.len()) && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAGatewayName)
        }
    }
}

impl TryFrom<String> for GatewayName {
    type Error = NotAGatewayName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GatewayName> for String {
    fn from(name: GatewayName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_and_six_digits_name_the_same_establishment() {
        let four: EstablishmentNumber = "0123".parse().unwrap();
        let six: EstablishmentNumber = "000123".parse().unwrap();
        let wide: EstablishmentNumber = "\u{FF10}\u{FF11}\u{FF12}\u{FF13}".parse().unwrap();
        assert_eq!((four, four), (six, wide));
        assert_eq!(
            (four.to_string(), four.six_digits()),
            ("0123".into(), "000123".into())
        );
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "0", "0000", "12a", "-1", "10000", "0000123", "1 2"] {
            assert_eq!(
                text.parse::<EstablishmentNumber>(),
                Err(NotAnEstablishmentNumber),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_gateway_name_survives_its_certificate() {
        let name: GatewayName = "tokyo-1".parse().unwrap();
        assert_eq!(
            GatewayName::from_certificate_name(&name.certificate_name()),
            Some(name)
        );
        assert!("Tokyo 1".parse::<GatewayName>().is_err());
    }
}
