//! How a profile is meant by whoever types: by its own number or by its establishment's.

use std::str::FromStr;

use protocol::EstablishmentNumber;
use serde::{Deserialize, Serialize};

use crate::store::profiles::ProfileId;

/// Which profile is meant, as somebody types it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Choice {
    /// By its number in the list.
    Id(ProfileId),
    /// By the establishment's number, if only one profile is for it.
    Establishment(EstablishmentNumber),
}

/// Neither a profile's number nor an establishment's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a profile's number (1 to 99) nor an establishment's (4 or 6 digits)")]
pub struct NotAChoice;

impl FromStr for Choice {
    type Err = NotAChoice;

    fn from_str(text: &str) -> Result<Self, NotAChoice> {
        let text = text.trim();
        match text.parse() {
            // Establishments have four digits at least.
            Ok(id) if text.len() <= 2 => Ok(Self::Id(id)),
            Ok(_) | Err(_) => text
                .parse()
                .map(Self::Establishment)
                .map_err(|_| NotAChoice),
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Establishment(number) => number.fmt(f),
        }
    }
}

impl TryFrom<String> for Choice {
    type Error = NotAChoice;

    fn try_from(text: String) -> Result<Self, NotAChoice> {
        text.parse()
    }
}

impl From<Choice> for String {
    fn from(choice: Choice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_number_is_a_profiles_and_a_long_one_an_establishments() {
        assert_eq!("2".parse(), Ok(Choice::Id("2".parse().unwrap())));
        let establishment = Choice::Establishment("0123".parse().unwrap());
        assert_eq!("0123".parse(), Ok(establishment));
        assert_eq!(String::from(establishment), "0123");
        for wrong in ["", "0", "x", "12345", "-1", "../1"] {
            assert_eq!(wrong.parse::<Choice>(), Err(NotAChoice), "{wrong}");
        }
    }
}
