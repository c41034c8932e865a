//! In which order the gateways are asked: the one that worked last, then as the portal lists
//! them; one that did not help goes to the end for a while.
//!
//! Pure: no clock, no sockets. Called by [`super::GatewayClient`].

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::urls::GatewayUrl;

/// Most gateways that are known and tried for one request.
pub const GATEWAYS_LIMIT: usize = 16;

/// How long a gateway that did not help stays behind the others.
const SHUNNED_FOR: Duration = Duration::from_secs(60);

/// What is remembered of the gateways from one run to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// As the portal last listed them.
    pub listed: Vec<GatewayUrl>,
    /// The one that worked last.
    pub last_good: Option<GatewayUrl>,
}

/// The gateways with what was lived through with them.
#[derive(Debug)]
pub struct Order {
    /// Those of the enrolment: asked last, but never forgotten.
    first_known: Vec<GatewayUrl>,
    known: Known,
    /// Who did not help, and until when that is held against it.
    shunned: Vec<(GatewayUrl, Instant)>,
}

impl Order {
    /// Starts with the enrolment's gateways alone.
    pub fn new(first_known: Vec<GatewayUrl>) -> Self {
        Self {
            first_known,
            known: Known::default(),
            shunned: Vec::new(),
        }
    }

    /// Takes over what an earlier run knew.
    pub fn recall(&mut self, known: Known) {
        self.known.last_good = known.last_good;
        self.learn(known.listed);
    }

    /// What the next run should know.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The portal says which gateways there are. An empty list says nothing.
    pub fn learn(&mut self, mut listed: Vec<GatewayUrl>) {
        listed.truncate(GATEWAYS_LIMIT);
        if !listed.is_empty() {
            self.known.listed = listed;
        }
    }

    /// This one gave a good answer.
    pub fn worked(&mut self, gateway: &GatewayUrl) {
        self.shunned.retain(|(shunned, _)| shunned != gateway);
        if self.known.last_good.as_ref() != Some(gateway) {
            self.known.last_good = Some(gateway.clone());
        }
    }

    /// This one did not help.
    pub fn failed(&mut self, gateway: &GatewayUrl, now: Instant) {
        self.shunned
            .retain(|(shunned, until)| shunned != gateway && now < *until);
        self.shunned.push((gateway.clone(), now + SHUNNED_FOR));
    }

    /// All gateways in the order in which to ask them.
    pub fn sequence(&self, now: Instant) -> Vec<GatewayUrl> {
        let mut sequence: Vec<GatewayUrl> = Vec::new();
        for gateway in self.known.listed.iter().chain(&self.first_known) {
            if !sequence.contains(gateway) {
                sequence.push(gateway.clone());
            }
        }
        sequence.truncate(GATEWAYS_LIMIT);
        // Stable: within a rank the portal's order holds.
        sequence.sort_by_key(|gateway| {
            let is_shunned = self
                .shunned
                .iter()
                .any(|(shunned, until)| shunned == gateway && now < *until);
            (is_shunned, self.known.last_good.as_ref() != Some(gateway))
        });
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(name: &str) -> GatewayUrl {
        format!("https://{name}.example.jp").parse().unwrap()
    }

    fn urls(names: &[&str]) -> Vec<GatewayUrl> {
        names.iter().map(|name| url(name)).collect()
    }

    fn now() -> Instant {
        crate::clock::Clock::system(None).now().mono
    }

    #[test]
    fn the_one_that_worked_last_is_asked_first_then_the_list_holds() {
        let mut order = Order::new(urls(&["a"]));
        assert_eq!(order.sequence(now()), urls(&["a"]));
        order.learn(urls(&["b", "c", "d"]));
        assert_eq!(order.sequence(now()), urls(&["b", "c", "d", "a"]));
        order.worked(&url("c"));
        assert_eq!(order.sequence(now()), urls(&["c", "b", "d", "a"]));
    }

    #[test]
    fn one_that_did_not_help_goes_to_the_end_for_a_minute() {
        let mut order = Order::new(urls(&["a", "b", "c"]));
        let start = now();
        order.worked(&url("a"));
        order.failed(&url("a"), start);
        assert_eq!(order.sequence(start), urls(&["b", "c", "a"]));
        order.failed(&url("b"), start);
        assert_eq!(order.sequence(start), urls(&["c", "a", "b"]));
        order.worked(&url("b"));
        assert_eq!(order.sequence(start), urls(&["b", "c", "a"]));
        let later = start + SHUNNED_FOR;
        assert_eq!(order.sequence(later), urls(&["b", "a", "c"]));
    }

    #[test]
    fn when_none_helps_all_are_still_tried() {
        let mut order = Order::new(urls(&["a", "b"]));
        let now = now();
        for name in ["a", "b"] {
            order.failed(&url(name), now);
        }
        assert_eq!(order.sequence(now), urls(&["a", "b"]));
    }

    #[test]
    fn a_retired_gateway_is_not_asked_unless_the_pc_was_enrolled_there() {
        let mut order = Order::new(urls(&["a"]));
        order.recall(Known {
            listed: urls(&["a", "b"]),
            last_good: Some(url("b")),
        });
        assert_eq!(order.sequence(now()), urls(&["b", "a"]));
        order.learn(urls(&["c"]));
        assert_eq!(order.sequence(now()), urls(&["c", "a"]));
        order.learn(Vec::new());
        assert_eq!(order.sequence(now()), urls(&["c", "a"]), "nothing was said");
    }

    #[test]
    fn however_many_are_named_a_bounded_number_is_known() {
        let mut order = Order::new(urls(&["home"]));
        let many: Vec<GatewayUrl> = (0..1000).map(|n| url(&format!("g{n}"))).collect();
        order.learn(many.clone());
        assert_eq!(order.known().listed, many[..GATEWAYS_LIMIT]);
        for gateway in &many {
            order.failed(gateway, now());
        }
        assert_eq!(order.sequence(now()).len(), GATEWAYS_LIMIT);
    }
}
