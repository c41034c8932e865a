//! The part of the loop that holds a session: asking, linking, losing, leaving.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use protocol::agent_api::{AgentGrant, EndCode, SessionRequest, TunnelMessage, session_message};
use protocol::{Bytes32, SessionId};
use tunnel::keys::SecretKey;

use super::pursuit::Pursuit;
use super::{EventLoop, Outcome};
use crate::agent::Route;
use crate::clock::from_unix_ms;
use crate::device_key::DeviceKey;
use crate::gateway_client::{Answered, ApiError, GatewayClient};
use crate::link::paths::{Outlook, Via, Way};
use crate::link::{Link, LinkConfig, LinkEnd, LinkError};
use crate::network::{Change, Needs, Reading, Surroundings};
use crate::session_state::{Doubt, Session};
use crate::store::Store;
use crate::urls::GatewayUrl;

/// Endpoints of a gateway that are tried.
const MAX_ENDPOINTS: usize = 8;

/// A granted session with all its keys. Dropping it forgets them.
pub(super) struct Active {
    config: Arc<LinkConfig>,
    session: SessionId,
    gateway: GatewayUrl,
    link: Option<Link>,
    /// The link that is being made: it has to hear of another network too.
    coming: Option<Link>,
    /// How the link was last seen to stand.
    outlook: Outlook,
    surroundings: Surroundings,
    /// What becomes of the session when the link is lost.
    pursuit: Pursuit,
}

/// What the portal granted, with what the agent made for it.
pub(super) struct Granted {
    pub(super) grant: AgentGrant,
    secret_key: SecretKey,
    pub(super) gateway: GatewayUrl,
}

impl Granted {
    /// An answer, with the key that the last try was made with.
    pub(super) fn of(
        answered: Answered<AgentGrant>,
        last_key: Option<SecretKey>,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            grant: answered.answer,
            secret_key: last_key.ok_or(ApiError::NoGateway)?,
            gateway: answered.gateway,
        })
    }

    /// The session as the state knows it. `None` if its dates are none.
    pub(super) fn session(&self, now: Instant) -> Option<Session> {
        let grant = &self.grant;
        let deadline = from_unix_ms(grant.deadline_ms)?;
        let server_time = from_unix_ms(grant.server_time_ms)?;
        Some(Session {
            id: grant.session,
            ends_at: Session::ends(deadline, server_time, now),
            ends_at_wall: deadline,
            will_end: grant.deadline_reason.into(),
            portal_url: grant.portal_url.clone(),
            code_mailed_to: grant.code_mailed_to.clone(),
        })
    }
}

impl Active {
    /// The tunnel, while it stands.
    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// How the link was last seen to stand.
    pub(super) fn outlook(&self) -> Outlook {
        self.outlook
    }

    /// The gateway that the session goes through.
    pub(super) fn gateway(&self) -> &GatewayUrl {
        &self.gateway
    }

    /// Which session.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// Whether another gateway should be sought now: the link is gone, or no way leads to its
    /// gateway any more, and that is not for want of a network.
    pub(super) fn wants_another(&self, now: Instant) -> bool {
        let outlook = self.link.as_ref().map(Link::outlook);
        self.pursuit.wants_another(outlook, now) && !self.surroundings.is_offline()
    }

    /// What becomes of the session when the link is lost.
    pub(super) fn pursuit(&mut self) -> &mut Pursuit {
        &mut self.pursuit
    }

    /// Goes on counting where the grant before this one stopped.
    pub(super) fn follows(&mut self, before: &Self, now: Instant) {
        self.pursuit = Pursuit::after(&before.pursuit, now);
    }

    /// Takes the link out, to be put away.
    pub(super) fn take_link(&mut self) -> Option<Link> {
        self.link.take()
    }

    /// Writes down what works in this network.
    fn remember_way(&self, link: &Link, store: &Store) {
        let (Outlook::Standing(_), Some(way), Some(network)) =
            (link.outlook(), link.way(), self.surroundings.network())
        else {
            return;
        };
        if let Err(error) = store.remember_way(&network.key(), way) {
            tracing::warn!(%error, "the network's way is not kept");
        }
    }

    /// The way that worked in this network before, if it was not UDP.
    fn remembered(&self, store: &Store) -> Option<Via> {
        store.remembered_way(&self.surroundings.network()?.key())
    }
}

impl EventLoop {
    pub(super) fn connect(&mut self) {
        let (Some(fund), Some(enrolment)) = (&self.fund, &self.enrolment) else {
            return;
        };
        let Some(enrolled) = enrolment.enrolled() else {
            return;
        };
        let key = enrolment.key.clone();
        if !self.state.connect() {
            return;
        }
        self.attempt += 1;
        let (attempt, client, device) = (self.attempt, fund.client.clone(), enrolled.device);
        self.jobs.spawn(async move {
            let result = ask(&client, &key, &device).await;
            Outcome::Granted {
                attempt,
                result: Box::new(result),
            }
        });
    }

    pub(super) fn handle_granted(&mut self, attempt: u64, result: Result<Granted, ApiError>) {
        let stale = attempt != self.attempt;
        match result {
            Ok(granted) => {
                let now = self.clock.now().mono;
                let (id, gateway) = (granted.grant.session, granted.gateway.clone());
                let taken = !stale && self.take_grant(granted, now);
                if !taken {
                    tracing::info!(session = %id, "granted too late; giving it back");
                    self.tell_end(gateway, id);
                }
            }
            Err(_) if stale => {}
            Err(ApiError::Refused(refusal)) => {
                tracing::info!(code = ?refusal.code, "session refused");
                let next_opening = refusal.next_opening_ms.and_then(from_unix_ms);
                self.state.handle_refused(refusal.sentence, next_opening);
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "no session");
                self.state.handle_connect_failed(error.page_text());
            }
        }
    }

    /// Takes a grant up. False if it cannot be used or nobody wants it.
    fn take_grant(&mut self, granted: Granted, now: Instant) -> bool {
        let Some(session) = granted.session(now) else {
            self.state
                .handle_connect_failed(ApiError::BadAnswer(String::new()).page_text());
            return false;
        };
        if self.fund.is_none() || !self.state.handle_granted(session, now) {
            return false;
        }
        self.learn_gateways(&granted.grant.gateways);
        self.active = self.activate(granted, now);
        self.active.is_some()
    }

    /// What the tunnel of a grant is made from.
    pub(super) fn activate(&self, granted: Granted, now: Instant) -> Option<Active> {
        let fund = self.fund.as_ref()?;
        let Granted {
            grant,
            secret_key,
            gateway,
        } = granted;
        let (session, mut endpoints) = (grant.session, grant.endpoints.clone());
        endpoints.truncate(MAX_ENDPOINTS);
        let mut surroundings = Surroundings::default();
        surroundings.look(self.reading(&endpoints, None));
        Some(Active {
            config: Arc::new(LinkConfig {
                secret_key,
                grant,
                endpoints,
                gateway: gateway.clone(),
                dialer: self.dialer.clone(),
                tls: fund.client.tls(),
                identity: fund.approval.identity.clone(),
                authority: fund.approval.service_authority.clone(),
                clock: self.clock.clone(),
                pulse: self.senses.pulse,
                left: Arc::default(),
            }),
            session,
            gateway,
            link: None,
            coming: None,
            outlook: Outlook::Searching,
            surroundings,
            pursuit: Pursuit::new(now),
        })
    }

    /// Starts to make the tunnel, if it is time and nobody does already.
    pub(super) fn make_link(&mut self) {
        let now = self.clock.now().mono;
        let Some(active) = &mut self.active else {
            return;
        };
        // While a gateway is sought, the grant may be superseded at any moment.
        let busy = self.busy.linking || self.busy.seeking;
        if busy || active.link.is_some() || !active.pursuit.wants_link(now) {
            return;
        }
        self.busy.linking = true;
        let attempt = self.attempt;
        let begun = Link::begin(&active.config, active.remembered(&self.store));
        active.coming = begun.as_ref().ok().cloned();
        self.jobs.spawn(async move {
            let result = match begun {
                Ok(link) => link.come_up().await,
                Err(error) => Err(error),
            };
            Outcome::Linked { attempt, result }
        });
    }

    pub(super) fn handle_linked(&mut self, attempt: u64, result: Result<Link, LinkError>) {
        let now = self.clock.now().mono;
        if attempt == self.attempt {
            self.busy.linking = false;
            if let Some(active) = &mut self.active {
                active.coming = None;
            }
        }
        let current = attempt == self.attempt && self.state.state().session().is_some();
        match (result, &mut self.active) {
            (Ok(link), Some(active)) if current => {
                tracing::info!("connected");
                active.link = Some(link.clone());
                active.pursuit.handle_linked(&mut self.state, now);
                if let Some(fund) = &self.fund {
                    self.route.send_replace(Some(Route {
                        link,
                        portal: fund.approval.portal.clone(),
                        roots: fund.roots.clone(),
                    }));
                }
            }
            (Ok(link), _) => link.close(EndCode::Disconnected),
            (Err(error), Some(active)) if current => {
                tracing::warn!(%error, "no tunnel");
                active.link = None;
                self.route.send_replace(None);
                active.pursuit.handle_no_link(&error, &mut self.state, now);
            }
            (Err(_), _) => {}
        }
    }

    /// The gateway, or the tunnel itself, said that it is over.
    pub(super) fn handle_link_end(&mut self, end: LinkEnd) {
        tracing::info!(?end, "tunnel ended");
        self.route.send_replace(None);
        let now = self.clock.now().mono;
        let Some(active) = &mut self.active else {
            return;
        };
        active.link = None;
        active.pursuit.handle_end(end, &mut self.state, now);
    }

    /// The tunnel found a way, or waits for an answer. That it lost one is told only if it
    /// lasts: see [`Self::watch_link`].
    pub(super) fn handle_outlook(&mut self, outlook: Outlook) {
        let now = self.clock.now().mono;
        if let Some(active) = &mut self.active {
            active.outlook = outlook;
        }
        // Why is told at once: the system may know that there is no network.
        if !matches!(outlook, Outlook::Standing(_)) && self.look_around() {
            return;
        }
        Pursuit::handle_outlook(outlook, &mut self.state, now);
    }

    /// Looks after the tunnel once a tick: has the PC slept, moved, or lost the gateway?
    pub(super) fn watch_link(&mut self, now: Instant) {
        if self.look_around() {
            return;
        }
        let Some(active) = &self.active else {
            return;
        };
        let Some(link) = &active.link else {
            return;
        };
        active.remember_way(link, &self.store);
        if let Some(TunnelMessage::Deadline {
            deadline_ms,
            reason,
        }) = link.message()
            && let Some(deadline) = from_unix_ms(deadline_ms)
        {
            self.state.handle_deadline(deadline, reason.into(), now);
        }
        Pursuit::handle_watched(link.outlook(), &mut self.state, now);
    }

    /// Looks whether the PC slept or moved; then the tunnel looks for its way anew. True if so.
    fn look_around(&mut self) -> bool {
        let Some(active) = &self.active else {
            return false;
        };
        let way = active.link.as_ref().and_then(Link::way);
        let reading = self.reading(&active.config.endpoints, way);
        let Some(active) = &mut self.active else {
            return false;
        };
        let Some(change) = active.surroundings.look(reading) else {
            return false;
        };
        // What the system says is a reason to doubt and to ask; the answer decides.
        tracing::info!(?change, "looking for the way anew");
        self.state.handle_doubt(change.into());
        if let Some(link) = active.link.as_ref().or(active.coming.as_ref()) {
            link.network_changed(active.remembered(&self.store));
        }
        true
    }

    /// What tells of sleep and moves at this moment. `way` is what carries the tunnel.
    fn reading(&self, endpoints: &[SocketAddr], way: Option<Way>) -> Reading {
        let lookout = &self.senses.lookout;
        let sources = endpoints.iter();
        let sources = sources.map(|endpoint| lookout.source_address(*endpoint));
        let seen = lookout.network();
        Reading {
            running: self.clock.now().mono,
            awake: self.clock.awake(),
            sources: sources.collect(),
            network: seen.network,
            is_cut: seen.is_cut,
            needs: match way {
                Some(Way::Udp(_) | Way::Tls(Via::Straight)) => Needs::Route,
                Some(Way::Tls(Via::Proxy)) | None => Needs::AnyNetwork,
            },
        }
    }

    /// Somebody looks at the page: what it shows of the tunnel must be fresh.
    pub(super) fn look_closely(&self) {
        if let Some(link) = self.active.as_ref().and_then(Active::link) {
            link.look_closely();
        }
    }

    /// Forgets the session's keys, closes its tunnel, tells the portal.
    pub(super) fn leave_session(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        self.attempt += 1;
        self.busy.linking = false;
        self.busy.seeking = false;
        self.route.send_replace(None);
        if let Some(link) = &active.link {
            link.close(EndCode::Disconnected);
        }
        if active.pursuit.tells_portal() {
            self.tell_end(active.gateway, active.session);
        }
    }

    pub(super) fn tell_end(&mut self, gateway: GatewayUrl, session: SessionId) {
        let Some(fund) = &self.fund else {
            return;
        };
        let client = fund.client.clone();
        self.jobs.spawn(async move {
            if let Err(error) = client.end_session(&gateway, &session).await {
                tracing::info!(error = %error.chain(), "could not tell the end of the session");
            }
            Outcome::SessionEnded
        });
    }
}

impl From<Change> for Doubt {
    fn from(change: Change) -> Self {
        match change {
            Change::Woke => Self::Woke,
            Change::Moved => Self::Moved,
            Change::Gone => Self::Offline,
            Change::Back => Self::Back,
        }
    }
}

/// Asks for a session, with a key pair made for each gateway that is tried.
async fn ask(
    client: &GatewayClient,
    key: &DeviceKey,
    device: &protocol::DeviceId,
) -> Result<Granted, ApiError> {
    let mut last_key = None;
    let answered = client
        .open_session(|| {
            fresh_request(key, &mut last_key, |public| session_message(device, public))
        })
        .await?;
    Granted::of(answered, last_key)
}

/// Makes a key pair for one try, and the request for it; `message` is what the device signs.
pub(super) fn fresh_request(
    key: &DeviceKey,
    last_key: &mut Option<SecretKey>,
    message: impl FnOnce(&Bytes32) -> Vec<u8>,
) -> Result<SessionRequest, ApiError> {
    let secret_key = SecretKey::generate().map_err(|error| ApiError::Trust(error.to_string()))?;
    let wireguard_public_key = Bytes32(*secret_key.public_key().as_bytes());
    let signature = key.sign(&message(&wireguard_public_key))?;
    *last_key = Some(secret_key);
    Ok(SessionRequest {
        wireguard_public_key,
        signature,
    })
}
