//! What the fuzzer does to messages and headers, one function for each target.
//!
//! Only compiled for tests and under the feature `fuzzing`. Each function takes any bytes,
//! must not panic, and states what holds whatever they are.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agent_api::{
    AgentGrant, Enrolled, EnrolmentOpened, EnrolmentRequest, EnrolmentState, Refusal,
    ServiceStatus, SessionRequest, TunnelMessage, matching_code,
};
use crate::control::{FeedLine, GatewayHello, SessionEnded, SessionOpened};
use crate::proxy::{self, Claim};
use crate::{Bytes32, EstablishmentNumber, GatewayName};

/// The PROXY header that opens each connection to the portal: what is read can be made again,
/// and no key but the right one makes it believed.
pub fn proxy_header(data: &[u8]) {
    const KEY: Bytes32 = Bytes32([7; 32]);
    let Ok(claim) = Claim::parse(data) else {
        return;
    };
    assert_eq!(data.len(), proxy::HEADER_BYTES);
    let session = claim.session();
    let Ok(verified) = claim.verify(&KEY) else {
        return;
    };
    assert_eq!(verified.session, session);
    let again = Claim::parse(data).and_then(|claim| claim.verify(&Bytes32([8; 32])));
    assert!(again.is_err(), "any key will do");
}

/// Bodies of the agent API in both directions and messages inside the tunnel: the first byte
/// chooses which.
pub fn agent_messages(data: &[u8]) {
    let Some((which, json)) = data.split_first() else {
        return;
    };
    match which % 10 {
        0 => survives_a_copy::<EnrolmentRequest>(json),
        1 => survives_a_copy::<EnrolmentOpened>(json),
        2 => survives_a_copy::<EnrolmentState>(json),
        3 => survives_a_copy::<Enrolled>(json),
        4 => survives_a_copy::<ServiceStatus>(json),
        5 => survives_a_copy::<SessionRequest>(json),
        6 => survives_a_copy::<AgentGrant>(json),
        7 => survives_a_copy::<Refusal>(json),
        8 => survives_a_copy::<TunnelMessage>(json),
        _ => {
            let code = matching_code(json);
            assert!(code.is_ascii());
        }
    }
}

/// Bodies between gateways and the portal, and the texts inside them.
pub fn control_messages(data: &[u8]) {
    let Some((which, json)) = data.split_first() else {
        return;
    };
    match which % 6 {
        0 => survives_a_copy::<GatewayHello>(json),
        1 => survives_a_copy::<SessionOpened>(json),
        2 => survives_a_copy::<FeedLine>(json),
        3 => survives_a_copy::<SessionEnded>(json),
        4 => {
            let Ok(text) = std::str::from_utf8(json) else {
                return;
            };
            if let Ok(number) = text.parse::<EstablishmentNumber>() {
                assert_eq!(number.to_string().parse(), Ok(number));
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(json) else {
                return;
            };
            if let Ok(name) = text.parse::<GatewayName>() {
                let shown = name.certificate_name();
                assert_eq!(GatewayName::from_certificate_name(&shown), Some(name));
            }
            // A certificate's name comes from the other end.
            let _ = GatewayName::from_certificate_name(text);
        }
    }
}

/// What was understood must be understood the same way by the next reader of what we write.
fn survives_a_copy<T: Serialize + DeserializeOwned>(json: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(json) else {
        return;
    };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    let twice = serde_json::to_vec(&again).expect("what was read can be written");
    assert_eq!(written, twice);
}

#[cfg(test)]
mod tests {
    use replay::replay;

    #[test]
    fn the_corpus_of_proxy_headers_breaks_nothing() {
        replay("proxy_header", super::proxy_header);
    }

    #[test]
    fn the_corpus_of_agent_messages_breaks_nothing() {
        replay("agent_messages", super::agent_messages);
    }

    #[test]
    fn the_corpus_of_control_messages_breaks_nothing() {
        replay("control_messages", super::control_messages);
    }
}
